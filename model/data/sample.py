"""A small procedural data set in COCO-Stuff's form: painted landscapes with their label and instance maps.

It lets `--preset sample` train without a download. Each scene has one camera over a ground plane, one light, and
objects drawn from far to near, so that sizes, shadows, haze and colours agree within a picture and vary between them.
"""

import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from model.data.palettes import class_names
from model.errors import UserError

_ID = {name: i for i, name in enumerate(class_names("coco_stuff", 182))}
_UNLABELLED = 255
_OVERSAMPLING = 3  # objects are drawn this much larger and reduced, for smooth edges
_TILE = 512
_SIZES = ((240, 320), (256, 256), (240, 320), (320, 240))  # [H, W]
_FORMAT = 1  # raise it when the pictures change, so that sets on disk are written anew
_MARKER = "sample.json"
_STALE = 600  # seconds without a write after which an unfinished set is taken for abandoned
_FOLDERS = tuple(f"{split}_{kind}" for split in ("train", "val") for kind in ("img", "label", "inst"))

Colour = tuple[float, float, float]
Points = list[tuple[float, float]]


# ---------------------------------------------------------------------------------------------------- noise and colours


@lru_cache(maxsize=1)
def _tile() -> np.ndarray:
    """Periodic fractal noise, float32 [512, 512], zero mean, unit deviation: the grain of every surface."""
    rng = np.random.default_rng(20190318)
    total = np.zeros((_TILE, _TILE), np.float32)
    for cells in (4, 8, 16, 32, 64, 128, 256):
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        at = np.arange(_TILE) * (cells / _TILE)
        low = at.astype(int)
        t = (at - low).astype(np.float32)
        t = t * t * (3 - 2 * t)
        high = (low + 1) % cells
        rows = grid[low] * (1 - t)[:, None] + grid[high] * t[:, None]
        total += (rows[:, low] * (1 - t) + rows[:, high] * t) * cells**-0.85
    total -= total.mean()
    return total / total.std()


def _noise(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Fractal noise at the given places (in tile pixels), moved by a random offset; the two arrays are broadcast."""
    i, j = rng.integers(0, _TILE, 2).tolist()  # Python's integers: they leave float32 arrays float32
    return _tile()[(rows + i).astype(np.int64) & (_TILE - 1), (columns + j).astype(np.int64) & (_TILE - 1)]


def _mix(a, b, t):
    """`a` at t = 0, `b` at t = 1."""
    return a + (b - a) * t


def _rgb(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def _shade(colour: Colour | np.ndarray, factor: float) -> tuple[int, int, int]:
    return tuple(int(min(max(c * factor, 0), 255)) for c in colour)


# ------------------------------------------------------------------------------------------------ light, camera, canvas


@dataclass(frozen=True)
class _Light:
    """The light of one scene: colours as RGB 0..255, factors around 1."""

    tint: np.ndarray  # what a white surface gets, factor per channel
    zenith: np.ndarray
    horizon: np.ndarray
    cloud: np.ndarray
    shadow: float  # how much of the light a cast shadow takes, 0..1
    visibility: float  # metres after which 1/e of an object's own colour is left
    evening: float  # 0 day .. 1 lamps are lit behind the windows
    side: float  # -1: the sun stands left, +1: right
    length: float  # of a shadow, in heights of its object
    inwards: float  # of that, how much goes away from the viewer

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Light":
        #                tint               zenith          horizon          cloud         shadow visib. even. length
        moods = {
            "noon": ((1.02, 1.01, 0.98), (58, 122, 205), (186, 216, 238), (250, 251, 253), 0.50, 4500, 0.0, 0.5),
            "gold": ((1.14, 0.93, 0.68), (104, 140, 190), (252, 208, 146), (255, 228, 190), 0.45, 3000, 0.2, 2.2),
            "dusk": ((0.80, 0.66, 0.76), (52, 58, 112), (240, 146, 118), (206, 140, 150), 0.25, 2200, 1.0, 2.6),
            "grey": ((0.80, 0.83, 0.86), (142, 155, 168), (203, 209, 214), (222, 225, 229), 0.15, 1500, 0.1, 0.4),
        }
        names = list(moods)
        one, two = rng.choice(len(names), 2, replace=False, p=(0.42, 0.26, 0.14, 0.18))
        t = rng.uniform(0, 0.35)
        tint, zenith, horizon, cloud, shadow, visibility, evening, length = (
            _mix(np.asarray(a, np.float32), np.asarray(b, np.float32), t)
            for a, b in zip(moods[names[one]], moods[names[two]], strict=True)
        )
        return cls(
            tint, zenith, horizon, cloud, float(shadow), float(visibility), float(evening),
            side=float(rng.choice((-1, 1))), length=float(length), inwards=float(rng.uniform(-0.1, 0.5)),
        )  # fmt: skip


class _Canvas:
    """The picture in the making: reflectance, distance, label and instance of every pixel, and the camera."""

    def __init__(self, rng: np.random.Generator, height: int, width: int, light: _Light, horizon: float, eye: float):
        self.rng, self.light = rng, light
        self.height, self.width = height, width
        self.photo = np.zeros((height, width, 3), np.float32)
        self.depth = np.zeros((height, width), np.float32)  # metres; 0 for the sky, which has no haze before it
        self.label = np.full((height, width), _UNLABELLED, np.uint8)
        self.thing = np.full((height, width), -1, np.int16)  # number of the thing at a pixel, -1 for none
        self.things = 0
        self.shadow = Image.new("L", (width, height))
        self.eye = eye  # height of the camera over the ground, metres
        self.focal = 0.95 * max(height, width)
        self.horizon, self.centre = horizon * height, width / 2
        self.v = np.arange(height, dtype=np.float32)[:, None] + 0.5
        self.u = np.arange(width, dtype=np.float32)[None] + 0.5
        self.air, self.land = np.s_[: int(self.horizon) + 3], np.s_[int(self.horizon) :]  # rows; they overlap
        self.high, self.low = self.v[self.air], self.v[self.land]
        self.below = self.low > self.horizon
        self.z = self.focal * eye / np.maximum(self.low - self.horizon, 0.25)  # [land, 1] distance of the ground
        self.x = (self.u - self.centre) * self.z / self.focal  # [land, W] metres right of the camera
        self.nearest = float(self.z[-1, 0])

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Pixel (u, v) of a point x right of, y above the ground, z before the camera."""
        return self.centre + self.focal * x / z, self.horizon + self.focal * (self.eye - y) / z

    def surface(self, rows: slice, where: np.ndarray, colour: np.ndarray, name: str, depth: np.ndarray | float) -> None:
        """Paint the backdrop (rows `air`) or the ground (rows `land`); `where` is the coverage 0..1 or a mask."""
        photo, label = self.photo[rows], self.label[rows]
        cover = np.broadcast_to(np.clip(where.astype(np.float32), 0, 1), label.shape)
        photo += (colour - photo) * cover[..., None]
        solid = cover >= 0.5
        label[solid] = _ID[name]
        np.copyto(self.depth[rows], depth, where=solid)

    def cast(self, x: float, z: float, width: float, length: float, height: float) -> None:
        """The shadow on the ground of something that stands around (x, z): a band from its foot, away from the sun."""
        reach = self.light.length * height
        dx, dz = -self.light.side * reach, self.light.inwards * reach
        points = []
        for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False):
            across, along = math.cos(angle), math.sin(angle)
            far = across * dx + along * dz > 0
            px = x + width / 2 * across + (dx if far else 0)
            pz = z + length / 2 * along + (dz if far else 0)
            points.append(self.project(px, 0, max(pz, 0.7 * self.nearest)))
        ImageDraw.Draw(self.shadow).polygon(points, fill=255)

    def finish_ground(self) -> None:
        """Lay the collected shadows on the ground, before anything stands on it."""
        mask = np.asarray(self.shadow.filter(ImageFilter.GaussianBlur(1)), np.float32)[self.land] / 255
        self.photo[self.land] *= 1 - (self.light.shadow * mask)[..., None]

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Light and haze over the whole, slivers without a label, things numbered from 0 in the order of drawing."""
        clear = np.exp(-self.depth / self.light.visibility)[..., None]
        photo = _mix(_mix(self.light.horizon, self.light.zenith, 0.15), self.photo * self.light.tint, clear)
        photo += self.rng.standard_normal(photo.shape[:2], dtype=np.float32)[..., None] * 1.5
        label = self.label.copy()
        label[self._slivers()] = _UNLABELLED
        instance = label.copy()
        seen = np.unique(self.thing[self.thing >= 0])
        shown = self.thing >= 0
        instance[shown] = np.searchsorted(seen, self.thing[shown])
        return np.clip(photo + 0.5, 0, 255).astype(np.uint8), label, instance

    def _slivers(self) -> np.ndarray:
        edge = np.zeros(self.label.shape, bool)
        across, down = self.label[:, 1:] != self.label[:, :-1], self.label[1:] != self.label[:-1]
        edge[:, 1:] |= across
        edge[:, :-1] |= across
        edge[1:] |= down
        edge[:-1] |= down
        edge[1:-1] |= edge[:-2] & (self.thing[1:-1] < 0)
        return edge & (_noise(self.rng, self.v * 3, self.u * 3) > 1.15)


class _Sketch:
    """One object, drawn with polygons into a box of the canvas, in front of all that is there."""

    def __init__(self, canvas: _Canvas, left: float, top: float, right: float, bottom: float):
        self.canvas = canvas
        self.x0, self.y0 = max(int(left) - 1, 0), max(int(top) - 1, 0)
        self.x1, self.y1 = min(int(right) + 2, canvas.width), min(int(bottom) + 2, canvas.height)
        self.empty = self.x1 <= self.x0 or self.y1 <= self.y0
        k = 1 if self.empty else _OVERSAMPLING
        size = (1, 1) if self.empty else ((self.x1 - self.x0) * k, (self.y1 - self.y0) * k)
        self.paint = Image.new("RGB", size)
        self.ids = Image.new("L", size, _UNLABELLED)
        self._paint, self._ids = ImageDraw.Draw(self.paint), ImageDraw.Draw(self.ids)

    def polygon(self, points: Points, colour: tuple[int, int, int], name: str) -> None:
        k = _OVERSAMPLING
        moved = [((u - self.x0) * k, (v - self.y0) * k) for u, v in points]
        self._paint.polygon(moved, fill=colour)
        self._ids.polygon(moved, fill=_ID[name])

    def ellipse(self, u: float, v: float, ru: float, rv: float, colour: tuple[int, int, int], name: str) -> None:
        k = _OVERSAMPLING
        box = [(u - ru - self.x0) * k, (v - rv - self.y0) * k, (u + ru - self.x0) * k, (v + rv - self.y0) * k]
        self._paint.ellipse(box, fill=colour)
        self._ids.ellipse(box, fill=_ID[name])

    def put(self, depth: float, thing: bool = False, grain: float = 0.05) -> None:
        """Set the drawing into the canvas; a thing gets the next instance number."""
        if self.empty:
            return
        canvas, k = self.canvas, _OVERSAMPLING
        inside = self.ids.point([255] * 255 + [0])
        alpha = np.asarray(inside.reduce(k), np.float32)[..., None] / 255
        colour = np.asarray(self.paint.reduce(k), np.float32)  # already weighted: outside the drawing it is black
        box = np.s_[self.y0 : self.y1, self.x0 : self.x1]
        rough = _noise(canvas.rng, canvas.v[self.y0 : self.y1] * 4, canvas.u[:, self.x0 : self.x1] * 4)
        colour = colour * (1 + grain * rough)[..., None]
        canvas.photo[box] = canvas.photo[box] * (1 - alpha) + colour
        ids = np.asarray(self.ids)[k // 2 :: k, k // 2 :: k]
        solid = ids != _UNLABELLED
        canvas.label[box][solid] = ids[solid]
        canvas.depth[box][solid] = depth
        canvas.thing[box][solid] = canvas.things if thing else -1
        canvas.things += thing


# ----------------------------------------------------------------------------------------------------- sky and backdrop


def _paint_sky(c: _Canvas) -> None:
    rng, light = c.rng, c.light
    t = np.clip(c.high / c.horizon, 0, 1)[..., None] ** 1.4
    sky = _mix(light.zenith, light.horizon, t)
    sun_u = c.centre + light.side * rng.uniform(0.25, 0.6) * c.width
    sun_v = c.horizon * (0.85 - 0.25 * min(light.length, 2) ** -1)
    glow = np.exp(-((c.u - sun_u) ** 2 + 1.5 * (c.high - sun_v) ** 2) / (0.35 * c.width) ** 2)[..., None]
    sky = _mix(sky, np.minimum(light.horizon * 1.12, 255), 0.6 * glow)
    c.surface(c.air, np.ones((len(c.high), 1)), sky / light.tint, "sky-other", 0.0)
    cover = np.zeros((len(c.high), c.width), np.float32)
    shade = np.zeros_like(cover)
    for _ in range(rng.integers(0, 6)):
        ru = rng.uniform(0.10, 0.32) * c.width
        rv = ru * rng.uniform(0.30, 0.5)
        at_u, at_v = rng.uniform(0, c.width), rng.uniform(0.05, 0.75) * c.horizon
        up = (c.high - at_v) / rv
        body = 1 - ((c.u - at_u) / ru) ** 2 - np.where(up > 0, 3.5, 1) * up**2
        body = body + 0.55 * _noise(rng, c.high * 3, c.u * 2)
        one = np.clip((body - 0.1) / 0.45, 0, 1)
        shade = np.where(one > cover, np.clip(0.5 + 0.5 * up, 0, 1), shade)
        cover = np.maximum(cover, one)
    cover *= np.clip((c.horizon - c.high) / 6, 0, 1)
    lit = _mix(light.cloud, _mix(light.horizon, light.zenith, 0.45), 0.55 * shade[..., None])
    c.surface(c.air, 0.95 * cover, lit / light.tint, "clouds", 0.0)


def _profile(c: _Canvas, scale: float) -> np.ndarray:
    """Smooth noise along the picture's width, [1, W]; `scale` in tile pixels a picture pixel."""
    row, start = c.rng.integers(0, _TILE), c.rng.uniform(0, _TILE)
    return np.interp(start + c.u * scale, np.arange(_TILE), _tile()[row], period=_TILE).astype(np.float32)


def _ridge(c: _Canvas, height: float, scale: float) -> np.ndarray:
    """A skyline [1, W]: pixels above the horizon, at least a fifth of `height`, with peaks where folded noise meets."""
    peaks = 1 - np.abs(_profile(c, scale))
    return height * np.clip(0.55 + 0.2 * _profile(c, 0.7 * scale) + 0.35 * peaks, 0.2, 1.5)


def _paint_mountains(c: _Canvas, height: float) -> None:
    for distance, part in ((2600.0, 1.0), (1600.0, 0.6))[: c.rng.integers(1, 3)]:
        top = c.horizon - _ridge(c, part * height, c.rng.uniform(0.25, 0.5))
        down = c.high - top
        deep = down / height
        at_i, at_j = c.rng.integers(0, _TILE, 2).tolist()
        i = (0.7 * down + at_i).astype(np.int64)
        j = (1.1 * c.u + 0.6 * down + at_j).astype(np.int64)  # slanted, as gullies run
        relief, left, right = (_tile()[i & (_TILE - 1), (j + shift) & (_TILE - 1)] for shift in (0, -4, 4))
        light = 0.88 + 0.16 * np.tanh(1.6 * (right - left) * c.light.side)
        rock = _mix(_rgb(116, 106, 100), _rgb(84, 98, 78), np.clip(deep * 1.6 - 0.3, 0, 1)[..., None])
        snow = np.clip((0.26 - deep + 0.10 * relief) * 9, 0, 1) * (part == 1)
        colour = _mix(rock, _rgb(240, 243, 250), snow[..., None]) * light[..., None]
        c.surface(c.air, np.clip(down + 0.5, 0, 1) * (c.high < c.horizon + 1), colour, "mountain", distance)


def _paint_hills(c: _Canvas, height: float) -> None:
    top = c.horizon - _ridge(c, height, 0.15)
    light = 0.95 - 0.3 * np.tanh(1.5 * np.gradient(top, axis=1) * c.light.side)
    tufts = 1 + 0.10 * _noise(c.rng, c.high * 5, c.u * 3)
    green = _mix(_rgb(112, 140, 74), _rgb(80, 116, 62), np.clip((c.high - top) / height, 0, 1)[..., None])
    c.surface(
        c.air,
        np.clip(c.high - top + 0.5, 0, 1) * (c.high < c.horizon + 1),
        green * (light * tufts)[..., None],
        "hill",
        900.0,
    )


def _paint_woods(c: _Canvas, height: float) -> None:
    top = c.horizon - height * np.clip(0.8 + 0.3 * _profile(c, 5.0), 0.1, 2)
    leaves = 1 + 0.22 * _noise(c.rng, c.high * 9, c.u * 9) - 0.25 * np.clip((c.high - top) / height, 0, 1)
    c.surface(
        c.air,
        np.clip(c.high - top + 0.5, 0, 1) * (c.high < c.horizon + 2),
        _rgb(70, 102, 50) * leaves[..., None],
        "tree",
        260.0,
    )


# --------------------------------------------------------------------------------------------------------------- ground


def _paint_grass(c: _Canvas) -> None:
    fields = _noise(c.rng, np.log(c.z) * 60, c.x * 60 / c.z**0.7)
    blades = _noise(c.rng, c.low * 3, c.u * 9)
    near = np.clip((c.low - c.horizon) / (c.height - c.horizon), 0, 1)
    light = 1 + 0.07 * fields + 0.05 * blades + 0.10 * blades * near
    green = _mix(_rgb(132, 164, 74), _rgb(92, 142, 52), near[..., None])
    c.surface(c.land, c.below, green * light[..., None], "grass", c.z)


def _paint_sea(c: _Canvas) -> None:
    far = np.clip(1 - (c.low - c.horizon) / (0.55 * (c.height - c.horizon)), 0, 1)[..., None]
    water = _mix(_rgb(44, 118, 142), _rgb(36, 84, 128), far)
    water = _mix(water, c.light.horizon / c.light.tint, 0.18 + 0.22 * far**3)
    waves = _noise(c.rng, np.log(c.z) * 150, c.u * 0.8)
    crest = np.clip(_noise(c.rng, np.log(c.z) * 220, c.u * 0.9) - 1.7, 0, 1) * np.clip(12 / np.sqrt(c.z), 0, 1)
    c.surface(c.land, c.below, water * (1 + 0.09 * waves)[..., None] + 120 * crest[..., None], "sea", c.z)


def _paint_sand(c: _Canvas, shore: float, slant: float) -> None:
    """A beach before the sea: from `shore` metres on at the middle, nearer or farther by `slant` a metre sideways."""
    line = shore + slant * c.x + 0.06 * shore * _noise(c.rng, np.zeros((1, 1)), c.x * 40 / shore)
    line_v = c.horizon + c.focal * c.eye / np.maximum(line, 1.0)
    inland = c.low - line_v  # pixels from the water's edge
    scale = max(2.0, 0.018 * c.height)
    ripples = 1 + 0.05 * _noise(c.rng, np.log(c.z) * 90, c.u * 2) + 0.03 * _noise(c.rng, c.low * 8, c.u * 8)
    wet = np.clip(1 - inland / (3.5 * scale), 0, 1)[..., None]
    sand = _mix(_rgb(222, 198, 150), _rgb(160, 138, 104), wet) * ripples[..., None]
    foam = np.exp(-((inland / scale + 0.8) ** 2))
    photo = c.photo[c.land]
    photo += (245 - photo) * (0.85 * foam * c.below)[..., None]
    c.surface(c.land, np.clip(inland + 0.5, 0, 1) * c.below, sand, "sand", c.z)


def _paint_road(c: _Canvas, half: float, bend: float, pavement: float) -> None:
    """A road towards the vanishing point, `half` metres wide on each side, `pavement` metres of kerb beside it."""
    off = c.x - bend * c.z**2
    pixel = c.z / c.focal  # metres a pixel covers sideways

    def stripe(middle: float, width: float) -> np.ndarray:
        return np.clip((width / 2 - np.abs(off - middle)) / pixel + 0.5, 0, 1) * c.below

    if pavement:
        joints = np.where(((np.abs(off) % 0.9 < 0.07) | (c.z % 1.2 < 0.08)) & (c.z < 14), _rgb(0.88), _rgb(1))
        stone = _rgb(176, 170, 164) * (joints * (1 + 0.04 * _noise(c.rng, c.low * 5, c.u * 5)))[..., None]
        c.surface(c.land, stripe(0, 2 * (half + pavement)), stone, "pavement", c.z)
    tar = 1 + 0.05 * _noise(c.rng, np.log(c.z) * 90, off * 20 / c.z**0.5) + 0.03 * _noise(c.rng, c.low * 7, c.u * 7)
    c.surface(c.land, stripe(0, 2 * half), _rgb(98, 98, 104) * tar[..., None], "road", c.z)
    white = stripe(0, 0.16) * (c.z % 7 < 3.5) + stripe(0.92 * half, 0.12) + stripe(-0.92 * half, 0.12)
    photo = c.photo[c.land]
    photo += (225 - photo) * np.clip(white, 0, 1)[..., None] * 0.85


# -------------------------------------------------------------------------------------------------------------- objects


def _clumps(
    s: _Sketch, u: float, v: float, ru: float, rv: float, colour: Colour, name: str, n: int, size: float
) -> None:
    """Foliage or wool: discs in an ellipse, the dark ones behind, lit from the sun's side and from above."""
    rng, side = s.canvas.rng, s.canvas.light.side
    angle, radius = rng.uniform(0, 2 * np.pi, n), np.sqrt(rng.uniform(0, 1, n)) * (1 - 0.6 * size)
    px, py = np.cos(angle) * radius, np.sin(angle) * radius
    lit = 0.80 + 0.20 * (0.6 * side * px - 0.8 * py) + rng.uniform(-0.09, 0.09, n)
    s.ellipse(u, v, 0.8 * ru, 0.8 * rv, _shade(colour, 0.66), name)
    for i in np.argsort(lit):
        r = size * rng.uniform(0.7, 1.2)
        s.ellipse(u + px[i] * ru, v + py[i] * rv, r * ru, r * rv, _shade(colour, lit[i] ** 1.6 * 1.25), name)


def _tree(c: _Canvas, x: float, z: float, height: float, conifer: bool) -> None:
    u, v = c.project(x, 0, z)
    h = c.focal * height / z
    s = _Sketch(c, u - 0.42 * h, v - 1.05 * h, u + 0.42 * h, v)
    bark, w = (98, 76, 58), 0.035 * h
    if conifer:
        s.polygon([(u - w, v), (u + w, v), (u + w, v - 0.3 * h), (u - w, v - 0.3 * h)], bark, "tree")
        for i in range(6):
            low, tip, wide = v - h * (0.10 + 0.13 * i), v - h * (0.42 + 0.117 * i), h * (0.25 - 0.033 * i)
            sunny = 1.15 if c.light.side > 0 else 0.75
            left, right = (
                [(u - wide, low), (u, tip), (u, low + 0.02 * h)],
                [(u + wide, low), (u, tip), (u, low + 0.02 * h)],
            )
            s.polygon(left, _shade((54, 88, 58), (1.9 - sunny) * (0.8 + 0.05 * i)), "tree")
            s.polygon(right, _shade((54, 88, 58), sunny * (0.8 + 0.05 * i)), "tree")
        return s.put(z, grain=0.10)
    s.polygon([(u - w, v), (u + w, v), (u + 0.6 * w, v - 0.5 * h), (u - 0.6 * w, v - 0.5 * h)], bark, "tree")
    ru, crown = h * c.rng.uniform(0.28, 0.38), h * c.rng.uniform(0.31, 0.36)
    n = int(np.clip(h, 14, 90))
    _clumps(s, u, v - h + crown, ru, crown, (104, 142, 62), "tree", n, 0.30 if n < 40 else 0.22)
    return s.put(z, grain=0.10)


def _bush(c: _Canvas, x: float, z: float, height: float) -> None:
    u, v = c.project(x, 0, z)
    h = c.focal * height / z
    s = _Sketch(c, u - h, v - 1.2 * h, u + h, v + 0.1 * h)
    _clumps(s, u, v - 0.5 * h, 0.85 * h, 0.55 * h, (92, 128, 66), "bush", int(np.clip(h, 10, 50)), 0.28)
    s.put(z, grain=0.10)


def _rock(c: _Canvas, x: float, z: float, height: float) -> None:
    u, v = c.project(x, 0, z)
    h = c.focal * height / z
    angles = np.sort(c.rng.uniform(0, np.pi, 7))
    outline = [(u + 1.1 * h, v)] + [
        (u + 1.1 * h * math.cos(a), v - h * math.sin(a) * c.rng.uniform(0.8, 1)) for a in angles
    ]
    outline.append((u - 1.1 * h, v))
    s = _Sketch(c, u - 1.2 * h, v - h, u + 1.2 * h, v)
    s.polygon(outline, (112, 106, 100), "rock")
    peak = (u + 0.15 * h * c.light.side, v - 0.45 * h)
    middle = len(outline) // 2
    s.polygon([*(outline[: middle + 1] if c.light.side > 0 else outline[middle:]), peak], (158, 150, 140), "rock")
    s.put(z, grain=0.10)


def _person(c: _Canvas, x: float, z: float, height: float) -> None:
    rng = c.rng
    u, v = c.project(x, 0, z)
    h = c.focal * height / z
    s = _Sketch(c, u - 0.3 * h, v - 1.02 * h, u + 0.3 * h, v)
    shirt = ((200, 62, 54), (62, 104, 178), (232, 226, 214), (232, 182, 70), (86, 140, 96), (70, 66, 80))[
        rng.integers(6)
    ]
    trousers = ((52, 58, 86), (66, 62, 60), (128, 112, 88))[rng.integers(3)]
    skin, hair = ((232, 186, 154), (186, 134, 98), (124, 84, 60))[rng.integers(3)], (60, 44, 34)
    step, swing, dark = rng.uniform(0.03, 0.12), rng.uniform(-0.08, 0.08), 0.74

    def part(points: Points, colour: Colour, factor: float = 1.0) -> None:
        s.polygon([(u + px * h, v - py * h) for px, py in points], _shade(colour, factor), "person")

    def limb(x0: float, y0: float, x1: float, y1: float, w: float, colour: Colour, factor: float = 1.0) -> None:
        part([(x0 - w, y0), (x0 + w, y0), (x1 + 0.7 * w, y1), (x1 - 0.7 * w, y1)], colour, factor)

    for foot, factor in ((-step, dark), (step, 1.0)):
        limb(0.6 * foot, 0.52, foot, 0.03, 0.05, trousers, factor)
        limb(foot + 0.01, 0.035, foot + 0.02, 0.0, 0.055, (44, 38, 36))
    limb(-0.13, 0.79, -0.17 + swing, 0.47, 0.032, shirt, dark)
    limb(-0.165 + swing, 0.51, -0.17 + swing, 0.45, 0.028, skin, dark)
    part([(-0.14, 0.80), (-0.05, 0.83), (0.05, 0.83), (0.14, 0.80), (0.10, 0.46), (-0.10, 0.46)], shirt)
    away = -c.light.side
    part([(away * 0.14, 0.80), (away * 0.04, 0.82), (away * 0.03, 0.46), (away * 0.10, 0.46)], shirt, 0.82)
    limb(0.13, 0.79, 0.17 - swing, 0.47, 0.032, shirt, 0.92)
    limb(0.165 - swing, 0.51, 0.17 - swing, 0.45, 0.028, skin)
    limb(0, 0.86, 0, 0.80, 0.035, skin, 0.85)
    s.ellipse(u, v - 0.92 * h, 0.068 * h, 0.08 * h, _shade(hair, 1), "person")
    s.ellipse(u + 0.006 * h, v - 0.905 * h, 0.055 * h, 0.063 * h, _shade(skin, 1), "person")
    s.put(z, thing=True, grain=0.02)


_CAR_COLOURS = ((196, 44, 40), (46, 88, 158), (226, 226, 226), (60, 62, 70), (214, 170, 60), (150, 156, 162))


def _car_ahead(c: _Canvas, x: float, z: float, coming: bool) -> None:
    """A car on its lane, from before or behind."""
    u, v = c.project(x, 0, z)
    w = c.focal * 1.8 / z
    colour = _CAR_COLOURS[c.rng.integers(len(_CAR_COLOURS))]
    s = _Sketch(c, u - 0.55 * w, v - 0.85 * w, u + 0.55 * w, v)

    def part(points: Points, rgb: Colour, factor: float = 1.0) -> None:
        s.polygon([(u + px * w, v - py * w) for px, py in points], _shade(rgb, factor), "car")

    def both(x0: float, y0: float, x1: float, y1: float, rgb: Colour) -> None:
        for m in (-1, 1):
            part([(m * x0, y0), (m * x1, y0), (m * x1, y1), (m * x0, y1)], rgb)

    both(0.30, 0.0, 0.47, 0.2, (30, 30, 32))
    part([(-0.44, 0.5), (-0.34, 0.8), (-0.28, 0.83), (0.28, 0.83), (0.34, 0.8), (0.44, 0.5)], colour, 0.85)
    part([(-0.38, 0.51), (-0.30, 0.76), (0.30, 0.76), (0.38, 0.51)], (58, 76, 92))
    part([(-0.38, 0.51), (-0.34, 0.64), (0.10, 0.76), (0.26, 0.76)], (112, 136, 154))
    part([(-0.49, 0.12), (-0.5, 0.42), (-0.44, 0.52), (0.44, 0.52), (0.5, 0.42), (0.49, 0.12)], colour)
    part([(-0.49, 0.12), (-0.495, 0.22), (0.495, 0.22), (0.49, 0.12)], colour, 0.6)
    part([(-0.44, 0.52), (-0.47, 0.46), (0.47, 0.46), (0.44, 0.52)], colour, 1.2)
    both(0.30, 0.30, 0.47, 0.41, (250, 244, 206) if coming else (170, 20, 22))
    part([(-0.14, 0.24), (-0.14, 0.31), (0.14, 0.31), (0.14, 0.24)], (236, 236, 230))
    s.put(z, thing=True, grain=0.02)


def _car_side(c: _Canvas, x: float, z: float) -> None:
    u, v = c.project(x, 0, z)
    w, m = c.focal * 4.2 / z, float(c.rng.choice((-1, 1)))
    colour = _CAR_COLOURS[c.rng.integers(len(_CAR_COLOURS))]
    s = _Sketch(c, u - 0.52 * w, v - 0.37 * w, u + 0.52 * w, v)

    def part(points: Points, rgb: Colour, factor: float = 1.0) -> None:
        s.polygon([(u + m * px * w, v - py * w) for px, py in points], _shade(rgb, factor), "car")

    part([(-0.33, 0.2), (-0.24, 0.34), (0.08, 0.345), (0.24, 0.2)], colour, 0.9)
    part([(-0.28, 0.21), (-0.22, 0.315), (-0.08, 0.32), (-0.08, 0.21)], (84, 106, 124))
    part([(-0.05, 0.21), (-0.05, 0.32), (0.06, 0.32), (0.18, 0.21)], (84, 106, 124))
    part([(-0.5, 0.07), (-0.5, 0.19), (-0.34, 0.225), (0.24, 0.225), (0.46, 0.18), (0.5, 0.07)], colour)
    part([(-0.5, 0.07), (-0.5, 0.105), (0.5, 0.105), (0.5, 0.07)], colour, 0.65)
    part([(0.44, 0.14), (0.45, 0.175), (0.485, 0.15), (0.49, 0.13)], (250, 244, 206))
    part([(-0.5, 0.14), (-0.5, 0.18), (-0.46, 0.18), (-0.46, 0.14)], (170, 20, 22))
    for wheel in (-0.31, 0.31):
        s.ellipse(u + m * wheel * w, v - 0.075 * w, 0.078 * w, 0.078 * w, (30, 30, 32), "car")
        s.ellipse(u + m * wheel * w, v - 0.075 * w, 0.040 * w, 0.040 * w, (156, 158, 162), "car")
    s.put(z, thing=True, grain=0.02)


def _sheep(c: _Canvas, x: float, z: float) -> None:
    u, v = c.project(x, 0, z)
    h, m = c.focal * 0.95 / z, float(c.rng.choice((-1, 1)))
    s = _Sketch(c, u - h, v - 1.1 * h, u + h, v)
    for leg in (-0.38, -0.22, 0.2, 0.36):
        s.polygon(
            [(u + (leg + d) * h, v - y * h) for d, y in ((-0.05, 0), (0.05, 0), (0.05, 0.4), (-0.05, 0.4))],
            (58, 50, 46),
            "sheep",
        )
    _clumps(s, u, v - 0.62 * h, 0.62 * h, 0.36 * h, (238, 232, 218), "sheep", int(np.clip(h, 8, 30)), 0.32)
    s.ellipse(u + m * 0.66 * h, v - 0.72 * h, 0.17 * h, 0.20 * h, (64, 56, 52), "sheep")
    s.ellipse(u + m * 0.58 * h, v - 0.88 * h, 0.12 * h, 0.09 * h, (238, 232, 218), "sheep")
    s.put(z, thing=True, grain=0.04)


def _boat(c: _Canvas, x: float, z: float) -> None:
    u, v = c.project(x, 0, z)
    w, m = c.focal * c.rng.uniform(5, 7) / z, float(c.rng.choice((-1, 1)))
    hull = ((224, 220, 210), (166, 52, 46), (44, 78, 120))[c.rng.integers(3)]
    s = _Sketch(c, u - 0.55 * w, v - 1.35 * w, u + 0.55 * w, v)

    def part(points: Points, rgb: Colour, factor: float = 1.0) -> None:
        s.polygon([(u + m * px * w, v - py * w) for px, py in points], _shade(rgb, factor), "boat")

    part([(-0.012, 0.1), (-0.012, 1.3), (0.012, 1.3), (0.012, 0.1)], (96, 74, 56))
    part([(-0.03, 0.22), (-0.03, 1.26), (-0.46, 0.24)], (244, 240, 230))
    part([(-0.03, 0.22), (-0.03, 0.7), (-0.25, 0.23)], (244, 240, 230), 0.86)
    part([(0.03, 0.26), (0.03, 1.12), (0.42, 0.26)], (240, 232, 216), 0.92)
    part([(-0.48, 0.2), (0.52, 0.2), (0.38, 0.0), (-0.4, 0.0)], hull)
    part([(-0.43, 0.07), (0.43, 0.07), (0.38, 0.0), (-0.4, 0.0)], hull, 0.6)
    s.put(z, thing=True, grain=0.02)


def _fence(c: _Canvas, x0: float, x1: float, z: float) -> None:
    (left, low), (right, _), up = c.project(x0, 0, z), c.project(x1, 0, z), c.focal / z
    s = _Sketch(c, left, low - 1.2 * up, right, low)
    for y in (0.45, 0.85):
        s.polygon(
            [
                (left, low - y * up),
                (right, low - y * up),
                (right, low - (y + 0.13) * up),
                (left, low - (y + 0.13) * up),
            ],
            (150, 122, 92),
            "fence",
        )
    for u in np.arange(left, right, 1.6 * up):
        s.polygon(
            [(u, low), (u, low - 1.15 * up), (u + 0.16 * up, low - 1.15 * up), (u + 0.16 * up, low)],
            (124, 98, 74),
            "fence",
        )
    s.put(z, grain=0.08)


def _house(c: _Canvas, x: float, z: float, width: float, length: float, storeys: int) -> None:
    """A gabled house whose front stands at distance `z`; of its sides, the one towards the camera's axis shows."""
    rng, light = c.rng, c.light
    tall, rise = 2.8 * storeys + 0.3, width * rng.uniform(0.32, 0.5)
    x0, x1, back = x - width / 2, x + width / 2, z + length
    side_x = x0 if x > 0 else x1
    wall = ((232, 220, 196), (226, 204, 170), (214, 186, 164), (236, 234, 228))[rng.integers(4)]
    tiles = ((172, 84, 62), (150, 76, 62), (118, 84, 74))[rng.integers(3)]
    front_lit, side_lit = 0.92, (1.04 if (side_x > x) == (light.side > 0) else 0.66)
    glass = _mix(_rgb(74, 96, 118), _rgb(255, 206, 110) / light.tint, light.evening)
    corners = [c.project(px, py, pz) for px in (x0, x1) for pz in (z, back) for py in (-0.2, tall + rise)]
    us, vs = [p[0] for p in corners], [p[1] for p in corners]
    s = _Sketch(c, min(us) - 0.1 * (max(us) - min(us)), min(vs), max(us) + 0.1 * (max(us) - min(us)), max(vs))

    def face(points: list[tuple[float, float, float]], rgb: Colour | np.ndarray, factor: float, name: str) -> None:
        s.polygon([c.project(*p) for p in points], _shade(rgb, factor), name)

    def on_front(a: float, b: float, y0: float, y1: float, rgb: Colour | np.ndarray, factor: float, name: str) -> None:
        face([(a, y0, z), (b, y0, z), (b, y1, z), (a, y1, z)], rgb, factor, name)

    def on_side(a: float, b: float, y0: float, y1: float, rgb: Colour | np.ndarray, factor: float, name: str) -> None:
        face([(side_x, y0, a), (side_x, y0, b), (side_x, y1, b), (side_x, y1, a)], rgb, factor, name)

    on_side(z, back, 0, tall, wall, side_lit, "house")
    on_front(x0, x1, 0, tall, wall, front_lit, "house")
    ridge, over = tall + rise, 0.35
    if rng.uniform() < 0.5:  # gable towards the camera
        face([(x0, tall, z), (x1, tall, z), (x, ridge, z)], wall, front_lit, "house")
        eave = side_x + math.copysign(over, side_x - x)
        face(
            [(eave, tall - 0.2, z - over), (eave, tall - 0.2, back), (x, ridge, back), (x, ridge, z - over)],
            tiles,
            side_lit,
            "roof",
        )
        for edge in (x0 - over, x1 + over):
            lower = [
                (edge, tall - 0.2, z - over),
                (x, ridge, z - over),
                (x, ridge - 0.4, z - over),
                (edge, tall - 0.6, z - over),
            ]
            face(lower, tiles, 0.7, "roof")
    else:
        middle = (z + back) / 2
        face([(side_x, tall, z), (side_x, tall, back), (side_x, ridge, middle)], wall, side_lit, "house")
        slope = [
            (x0 - over, tall - 0.2, z - over),
            (x1 + over, tall - 0.2, z - over),
            (x1 + over, ridge, middle),
            (x0 - over, ridge, middle),
        ]
        face(slope, tiles, 1.0, "roof")
        on_front(x0 - over, x1 + over, tall - 0.45, tall - 0.2, tiles, 0.6, "roof")
    columns = max(2, int(width / 2.6))
    door = int(rng.integers(columns))
    for i in range(columns):
        middle = x0 + width * (i + 0.5) / columns
        for storey in range(storeys):
            base = 2.8 * storey
            if storey == 0 and i == door:
                on_front(middle - 0.55, middle + 0.55, 0, 2.1, (104, 72, 52), 1.0, "door-stuff")
                continue
            on_front(middle - 0.68, middle + 0.68, base + 0.75, base + 2.25, (244, 242, 236), 0.95, "window-other")
            for a, b in ((middle - 0.56, middle - 0.05), (middle + 0.05, middle + 0.56)):
                on_front(a, b, base + 0.87, base + 2.13, glass, 1.0, "window-other")
    for i in range(max(1, int(length / 3.2))):
        middle = z + length * (i + 0.5) / max(1, int(length / 3.2))
        for storey in range(storeys):
            on_side(middle - 0.6, middle + 0.6, 2.8 * storey + 0.75, 2.8 * storey + 2.25, glass, 0.85, "window-other")
    s.put(z, grain=0.035)


# --------------------------------------------------------------------------------------------------------------- scenes


class _Stage:
    """Places objects on the ground, each on its kind of ground and off the others, and draws them from far to near."""

    def __init__(self, canvas: _Canvas):
        self.canvas = canvas
        self.ground = canvas.label.copy()
        self.draws: list[tuple[float, Callable[[], None]]] = []
        self.taken: list[tuple[float, float, float]] = []

    def add(
        self, draw: Callable[..., None], x: float, z: float, *args: object, size: tuple[float, float, float]
    ) -> None:
        """Something whose nearest part stands at z; `size` is its width, length away from the viewer, and height."""
        width, length, height = size
        self.taken.append((x, z, width / 2))
        self.canvas.cast(x, z + (length / 2 if length > 1.5 else 0), width, length, height)
        self.draws.append((z, lambda: draw(self.canvas, x, z, *args)))

    def fits(self, x: float, z: float, on: tuple[str, ...], room: float) -> bool:
        """Whether `room` metres around (x, z) show in the picture, are one of the named grounds, and are free."""
        c = self.canvas
        for place in (x - room / 2, x, x + room / 2):
            u, v = c.project(place, 0, z)
            if v >= c.height or self.ground[int(v), min(max(int(u), 0), c.width - 1)] not in [_ID[name] for name in on]:
                return False
        return all(math.hypot(x - px, z - pz) > r + room / 2 for px, pz, r in self.taken)

    def spot(self, on: tuple[str, ...], near: float, far: float, room: float) -> tuple[float, float] | None:
        """A place (x, z) that fits, or None after twenty tries."""
        c, near = self.canvas, max(near, self.canvas.nearest * 1.04)
        for _ in range(20):
            z = math.exp(c.rng.uniform(math.log(near), math.log(max(far, near + 1))))
            x = (c.rng.uniform(0, c.width) - c.centre) * z / c.focal
            if self.fits(x, z, on, room):
                return x, z
        return None

    def trees(self, n: int, on: tuple[str, ...], near: float, far: float, conifers: float) -> None:
        rng = self.canvas.rng
        for _ in range(n):
            if place := self.spot(on, near, far, 3.0):
                height = rng.uniform(5, 10)
                size = (0.5 * height, 0.15 * height, 0.6 * height)
                self.add(_tree, *place, height, rng.uniform() < conifers, size=size)

    def small(self, draw: Callable[..., None], n: int, on: tuple[str, ...], far: float, high: float) -> None:
        """Bushes or rocks of `high` metres at most."""
        for _ in range(n):
            if place := self.spot(on, 4, far, 2 * high):
                height = high * self.canvas.rng.uniform(0.4, 1)
                self.add(draw, *place, height, size=(1.7 * height, 0.6 * height, 0.6 * height))

    def people(self, groups: int, on: tuple[str, ...], near: float, far: float) -> None:
        """Groups of one to four, shoulder to shoulder, so that some overlap."""
        rng = self.canvas.rng
        for _ in range(groups):
            if place := self.spot(on, near, far, 1.2):
                x, z = place
                for _ in range(rng.integers(1, 5)):
                    height = rng.uniform(1.55, 1.9) if rng.uniform() < 0.8 else rng.uniform(1.0, 1.4)
                    self.add(_person, x, z, height, size=(0.5, 0.3, height))
                    x, z = x + rng.uniform(0.35, 0.8), max(z + rng.uniform(-0.5, 0.5), 1.02 * self.canvas.nearest)

    def herd(self, n: int, near: float, far: float) -> None:
        rng = self.canvas.rng
        if place := self.spot(("grass",), near, far, 2.0):
            for _ in range(n):
                x, z = place[0] + rng.uniform(-3, 3), max(place[1] + rng.uniform(-2, 4), 1.1 * self.canvas.nearest)
                if self.fits(x, z, ("grass",), 0.4):
                    self.add(_sheep, x, z, size=(1.3, 0.5, 0.9))

    def house(self, x: float, z: float, storeys: int) -> None:
        rng = self.canvas.rng
        width, length = rng.uniform(6, 9), rng.uniform(6, 10)
        self.add(_house, x, z, width, length, storeys, size=(1.2 * width, length, 2.8 * storeys))

    def play(self) -> None:
        self.canvas.finish_ground()
        for _, draw in sorted(self.draws, key=lambda item: -item[0]):
            draw()


def _backdrop(c: _Canvas, mountains: float, hills: float, woods: float) -> None:
    """Sky, then what stands at the horizon; the numbers are probabilities."""
    _paint_sky(c)
    if c.rng.uniform() < mountains:
        _paint_mountains(c, c.horizon * c.rng.uniform(0.28, 0.6))
    if c.rng.uniform() < hills:
        _paint_hills(c, c.horizon * c.rng.uniform(0.08, 0.22))
    if c.rng.uniform() < woods:
        _paint_woods(c, c.height * c.rng.uniform(0.015, 0.05))


def _meadow(c: _Canvas) -> None:
    rng = c.rng
    _backdrop(c, 0.6, 0.6, 0.7)
    _paint_grass(c)
    stage, conifers = _Stage(c), rng.choice((0.0, 0.2, 1.0))
    for _ in range(rng.integers(0, 3)):
        if place := stage.spot(("grass",), 18, 60, 11):
            stage.house(*place, int(rng.integers(1, 3)))
    stage.trees(int(rng.integers(2, 9)), ("grass",), 9, 90, conifers)
    stage.small(_bush, int(rng.integers(0, 5)), ("grass",), 30, 1.3)
    stage.small(_rock, int(rng.integers(0, 3)), ("grass",), 25, 0.9)
    if rng.uniform() < 0.6:
        stage.herd(int(rng.integers(2, 7)), 6, 16)
    stage.people(int(rng.integers(0, 3)), ("grass",), 4, 16)
    if rng.uniform() < 0.3:
        z = rng.uniform(1.3, 3) * c.nearest
        stage.draws.append((z, lambda: _fence(c, -c.width * z / c.focal, c.width * z / c.focal, z)))
    stage.play()


def _coast(c: _Canvas) -> None:
    rng = c.rng
    _backdrop(c, 0.5, 0.25, 0.0)
    _paint_sea(c)
    shore = c.nearest * rng.uniform(1.3, 2.6)
    _paint_sand(c, shore, rng.uniform(-0.5, 0.5))
    stage = _Stage(c)
    for _ in range(rng.integers(0, 4)):
        if place := stage.spot(("sea",), 2.0 * shore, 140, 8):
            stage.add(_boat, *place, size=(5, 1.2, 0.5))
    stage.people(int(rng.integers(1, 4)), ("sand",), 3, 14)
    stage.small(_rock, int(rng.integers(0, 4)), ("sand", "sea"), 30, 1.1)
    stage.trees(int(rng.uniform() < 0.25), ("sand",), 6, 14, 0.0)
    stage.play()


def _country_road(c: _Canvas) -> None:
    rng = c.rng
    _backdrop(c, 0.7, 0.5, 0.7)
    _paint_grass(c)
    half = rng.uniform(2.8, 3.6)
    bend = rng.uniform(-0.004, 0.004)
    _paint_road(c, half, bend, 0.0)
    stage = _Stage(c)
    _traffic(stage, half, bend, int(rng.integers(1, 4)))
    for _ in range(rng.integers(0, 3)):
        if place := stage.spot(("grass",), 14, 50, 12):
            stage.house(*place, int(rng.integers(1, 3)))
    stage.trees(int(rng.integers(3, 10)), ("grass",), 7, 80, rng.choice((0.0, 0.2, 1.0)))
    stage.small(_bush, int(rng.integers(0, 5)), ("grass",), 30, 1.3)
    if rng.uniform() < 0.35:
        stage.herd(int(rng.integers(2, 5)), 7, 16)
    stage.people(int(rng.integers(0, 2)), ("grass",), 4, 14)
    stage.play()


def _street(c: _Canvas) -> None:
    rng = c.rng
    _backdrop(c, 0.25, 0.2, 0.8)
    _paint_grass(c)
    half, pavement = rng.uniform(3.0, 3.8), rng.uniform(1.8, 2.6)
    _paint_road(c, half, 0.0, pavement)
    stage = _Stage(c)
    for side in (-1, 1):
        z = rng.uniform(7, 14)
        while z < 75:
            if rng.uniform() < 0.85:
                stage.house(side * (half + pavement + rng.uniform(5.2, 7)), z, int(rng.integers(1, 4)))
            z += rng.uniform(11.5, 16)
    _traffic(stage, half, 0.0, int(rng.integers(1, 5)))
    stage.trees(int(rng.integers(1, 6)), ("pavement", "grass"), 7, 40, 0.0)
    stage.people(int(rng.integers(1, 4)), ("pavement",), 4, 18)
    stage.play()


def _traffic(stage: _Stage, half: float, bend: float, n: int) -> None:
    """Cars on both lanes, on the right-hand one with their backs to us; now and then one crosses."""
    c, rng = stage.canvas, stage.canvas.rng
    for _ in range(n):
        lane = float(rng.choice((-1, 1)))
        z = math.exp(rng.uniform(math.log(max(5, 1.1 * c.nearest)), math.log(34)))
        x = bend * z**2 + lane * 0.5 * half
        if any(math.hypot((x - px) / 2, (z - pz) / 3) < 1.3 for px, pz, _ in stage.taken):
            continue
        if rng.uniform() < 0.15:
            stage.add(_car_side, x, z, size=(4.2, 1.6, 0.9))
        else:
            stage.add(_car_ahead, x, z, lane < 0, size=(1.9, 3.6, 0.9))


_SCENES = (_meadow, _coast, _country_road, _street)


def make_scene(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One scene: a picture with its label and instance map, in COCO-Stuff's conventions.

    Args:
        rng: the only source of randomness; the same state gives the same arrays.
        size: (height, width) in pixels, each at least 64.

    Returns:
        photo uint8 [H, W, 3] RGB; label uint8 [H, W], official COCO-Stuff id - 1, 255 where unlabelled; instance
        uint8 [H, W], the label map with each person, car, boat and sheep replaced by its number, from 0.

    Raises:
        UserError: for a smaller size.
    """
    height, width = size
    if min(height, width) < 64:
        raise UserError(f"a sample scene of {height}x{width} pixels was asked for; expected at least 64x64")
    light = _Light.draw(rng)
    scene = _SCENES[rng.integers(len(_SCENES))]
    horizon = rng.uniform(0.34, 0.56)
    canvas = _Canvas(rng, height, width, light, horizon, eye=rng.uniform(1.7, 3.2))
    scene(canvas)
    return canvas.finish()


# ------------------------------------------------------------------------------------------------------------ the files


def ensure_sample(root: str | Path = "dataset/sample", seed: int = 0, train: int = 240, val: int = 24) -> Path:
    """The sample data set's folder, written first unless it is there already.

    The set is built in a folder beside `root` and moved into place when it is whole, so `root` never holds a part of
    one. Sets of another seed, size or version of this module, and ones that lost files, are replaced.

    Args:
        root: the folder; gets `{train,val}_{img,label,inst}`, 8-bit JPEG and PNG of 76,800 pixels or less.
        seed: the same seed gives the same files.
        train, val: numbers of pictures. Train and val scenes are drawn independently.

    Raises:
        UserError: for counts below 1, a negative seed, a `root` that holds something else or cannot be written.
    """
    root = Path(root)
    if train < 1 or val < 1:
        raise UserError(
            f"{root}: {train} train and {val} val sample pictures were asked for; expected 1 or more of each"
        )
    if seed < 0:
        raise UserError(f"{root}: seed {seed} of the sample set is negative; expected 0 or more")
    wanted = {"format": _FORMAT, "seed": seed, "train": train, "val": val}
    if _is_whole(root, wanted):
        return root
    if root.exists() and not (root.is_dir() and ((root / _MARKER).is_file() or not any(root.iterdir()))):
        raise UserError(f"{root} holds files that are not the sample data set; move them away or choose another")
    try:
        _write_set(root, wanted)
    except OSError as error:
        raise UserError(f"{root}: the sample data set cannot be written ({error.strerror or error})") from error
    return root


def _is_whole(root: Path, wanted: dict[str, int]) -> bool:
    try:
        found = json.loads((root / _MARKER).read_text(encoding="utf-8"))
        counts = [len(os.listdir(root / folder)) for folder in _FOLDERS]
    except (OSError, ValueError):
        return False
    return found == wanted and counts == [wanted[folder.split("_")[0]] for folder in _FOLDERS]


def _write_set(root: Path, wanted: dict[str, int]) -> None:
    root.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{root.name}-unfinished-"
    for leftover in root.parent.glob(prefix + "*"):
        try:
            written = max(path.stat().st_mtime for path in (leftover, *leftover.glob("*"), *leftover.glob("*/*")))
        except FileNotFoundError:  # its own process has just removed it
            continue
        if time.time() - written > _STALE:
            shutil.rmtree(leftover, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=root.parent))
    try:
        new, old = work / "new", work / "old"
        for folder in _FOLDERS:
            (new / folder).mkdir(parents=True)
        _write_pictures(root, new, wanted)
        (new / _MARKER).write_text(json.dumps(wanted), encoding="utf-8")
        if not _is_whole(root, wanted):  # else another process wrote the same set meanwhile
            if root.exists():
                os.rename(root, old)
            os.rename(new, root)
    except OSError:
        if not _is_whole(root, wanted):
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_pictures(root: Path, folder: Path, wanted: dict[str, int]) -> None:
    total, shown = wanted["train"] + wanted["val"], sys.stderr.isatty()
    print(f"writing the sample data set ({total} pictures) to {root}", file=sys.stderr, flush=True)

    def write(split: str, i: int) -> None:
        rng = np.random.default_rng((wanted["seed"], ("train", "val").index(split), i))
        photo, label, instance = make_scene(rng, _SIZES[i % len(_SIZES)])
        name = f"{split}_{i:05d}"
        Image.fromarray(photo).save(folder / f"{split}_img" / f"{name}.jpg", quality=92)
        Image.fromarray(label).save(folder / f"{split}_label" / f"{name}.png")
        Image.fromarray(instance).save(folder / f"{split}_inst" / f"{name}.png")

    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    try:
        jobs = [pool.submit(write, split, i) for split in ("train", "val") for i in range(wanted[split])]
        for done, job in enumerate(jobs, 1):
            job.result()
            if shown:
                print(f"\r{done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
