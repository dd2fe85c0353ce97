"""What scenes are painted on: colours, noise, light, camera, canvas."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from model.data.palettes import class_names
from model.neighbourhoods import instance_edges

ID = {name: i for i, name in enumerate(class_names("coco_stuff", 182))}

_UNLABELLED = 255
_OVERSAMPLING = 3  # objects are drawn this much larger and reduced, for smooth edges
TILE = 512

Colour = tuple[float, float, float]
Points = list[tuple[float, float]]


@lru_cache(maxsize=1)
def noise_tile() -> np.ndarray:
    """Periodic fractal noise, float32 [512, 512], zero mean, unit deviation: the grain of every surface."""
    rng = np.random.default_rng(20190318)
    total = np.zeros((TILE, TILE), np.float32)
    for cells in (4, 8, 16, 32, 64, 128, 256):
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        at = np.arange(TILE) * (cells / TILE)
        low = at.astype(int)
        t = (at - low).astype(np.float32)
        t = t * t * (3 - 2 * t)
        high = (low + 1) % cells
        rows = grid[low] * (1 - t)[:, None] + grid[high] * t[:, None]
        total += (rows[:, low] * (1 - t) + rows[:, high] * t) * cells**-0.85
    total -= total.mean()
    return total / total.std()


def noise_at(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Fractal noise at the given places (in tile pixels), moved by a random offset; the two arrays are broadcast."""
    i, j = rng.integers(0, TILE, 2).tolist()  # Python's integers: they leave float32 arrays float32
    return noise_tile()[(rows + i).astype(np.int64) & (TILE - 1), (columns + j).astype(np.int64) & (TILE - 1)]


def mix(a, b, t):
    """`a` at t = 0, `b` at t = 1."""
    return a + (b - a) * t


def rgb(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def shade(colour: Colour | np.ndarray, factor: float) -> tuple[int, int, int]:
    return tuple(int(min(max(c * factor, 0), 255)) for c in colour)


@dataclass(frozen=True)
class Light:
    """The light of one scene: colours as RGB 0..255, factors around 1."""

    tint: np.ndarray  # what a white surface gets, factor per channel
    zenith: np.ndarray
    horizon: np.ndarray
    cloud: np.ndarray
    shadow: float  # how much of the light a cast shadow takes, 0..1
    visibility: float  # metres after which 1/e of an object's own colour is left
    evening: float  # 0 day .. 1 lamps are lit behind the windows
    length: float  # of a shadow, in heights of its object
    side: float  # -1: the sun stands left, +1: right
    inwards: float  # of a shadow's length, how much goes away from the viewer

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Light":
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
        pairs = zip(moods[names[one]], moods[names[two]], strict=True)
        mixed = [mix(np.asarray(a, np.float32), np.asarray(b, np.float32), t) for a, b in pairs]
        side, inwards = rng.choice((-1, 1)), rng.uniform(-0.1, 0.5)
        return cls(*mixed[:4], *map(float, (*mixed[4:], side, inwards)))


class Canvas:
    """The picture in the making: reflectance, distance, label and instance of every pixel, and the camera."""

    def __init__(self, rng: np.random.Generator, height: int, width: int, light: Light, horizon: float, eye: float):
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
        label[solid] = ID[name]
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
        photo = mix(mix(self.light.horizon, self.light.zenith, 0.15), self.photo * self.light.tint, clear)
        photo += self.rng.standard_normal(photo.shape[:2], dtype=np.float32)[..., None] * 1.5
        label = self.label.copy()
        slivers = instance_edges(self.label[None])[0]
        slivers[1:-1] |= slivers[:-2] & (self.thing[1:-1] < 0)
        label[slivers & (noise_at(self.rng, self.v * 3, self.u * 3) > 1.15)] = _UNLABELLED
        instance = label.copy()
        shown = self.thing >= 0
        instance[shown] = np.unique(self.thing[shown], return_inverse=True)[1]
        return np.clip(photo + 0.5, 0, 255).astype(np.uint8), label, instance


class Sketch:
    """One object, drawn with polygons into a box of the canvas, in front of all that is there."""

    def __init__(self, canvas: Canvas, left: float, top: float, right: float, bottom: float):
        self.canvas = canvas
        self.x0, self.y0 = max(int(left) - 1, 0), max(int(top) - 1, 0)
        self.x1, self.y1 = min(int(right) + 2, canvas.width), min(int(bottom) + 2, canvas.height)
        size = tuple(max(side, 0) * _OVERSAMPLING for side in (self.x1 - self.x0, self.y1 - self.y0))
        self.paint = Image.new("RGB", size)
        self.ids = Image.new("L", size, _UNLABELLED)
        self._paint, self._ids = ImageDraw.Draw(self.paint), ImageDraw.Draw(self.ids)

    def _moved(self, points: Points) -> Points:
        return [((u - self.x0) * _OVERSAMPLING, (v - self.y0) * _OVERSAMPLING) for u, v in points]

    def polygon(self, points: Points, colour: tuple[int, int, int], name: str) -> None:
        moved = self._moved(points)
        self._paint.polygon(moved, fill=colour)
        self._ids.polygon(moved, fill=ID[name])

    def ellipse(self, u: float, v: float, ru: float, rv: float, colour: tuple[int, int, int], name: str) -> None:
        box = self._moved([(u - ru, v - rv), (u + ru, v + rv)])
        self._paint.ellipse(box, fill=colour)
        self._ids.ellipse(box, fill=ID[name])

    def put(self, depth: float, thing: bool = False, grain: float = 0.05) -> None:
        """Set the drawing into the canvas; a thing gets the next instance number."""
        if 0 in self.paint.size:
            return
        canvas, k = self.canvas, _OVERSAMPLING
        inside = self.ids.point([255] * 255 + [0])
        alpha = np.asarray(inside.reduce(k), np.float32)[..., None] / 255
        colour = np.asarray(self.paint.reduce(k), np.float32)  # already weighted: outside the drawing it is black
        box = np.s_[self.y0 : self.y1, self.x0 : self.x1]
        rough = noise_at(canvas.rng, canvas.v[self.y0 : self.y1] * 4, canvas.u[:, self.x0 : self.x1] * 4)
        colour = colour * (1 + grain * rough)[..., None]
        canvas.photo[box] = canvas.photo[box] * (1 - alpha) + colour
        ids = np.asarray(self.ids)[k // 2 :: k, k // 2 :: k]
        solid = ids != _UNLABELLED
        canvas.label[box][solid] = ids[solid]
        canvas.depth[box][solid] = depth
        canvas.thing[box][solid] = canvas.things if thing else -1
        canvas.things += thing


class Figure(Sketch):
    """A thing that stands at (x, z), drawn in parts that are measured in its own size from its foot, x sideways, y up.

    Args:
        name: its class.
        size: of it, metres.
        reach: how far it goes sideways, up and below its foot, at the most.
        mirror: 1 where x goes right, -1 where it goes left.
    """

    def __init__(self, canvas: Canvas, name: str, x: float, z: float, size: float, reach: tuple, mirror: float = 1):
        side, up, *down = reach
        self.name, self.mirror = name, mirror
        self.u, self.v = u, v = canvas.project(x, 0, z)
        self.size = size = canvas.focal * size / z
        super().__init__(canvas, u - side * size, v - up * size, u + side * size, v + sum(down) * size)

    def part(self, points: Points, colour: Colour, factor: float = 1.0) -> None:
        moved = [(self.u + self.mirror * x * self.size, self.v - y * self.size) for x, y in points]
        self.polygon(moved, shade(colour, factor), self.name)

    def disc(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        u, v = self.u + self.mirror * x * self.size, self.v - y * self.size
        self.ellipse(u, v, rx * self.size, ry * self.size, shade(colour, 1), self.name)
