"""Sky, backdrop and ground."""

import numpy as np

from model.data.sample.canvas import TILE, Canvas, mix, noise_at, noise_tile, rgb


def paint_sky(c: Canvas) -> None:
    rng, light = c.rng, c.light
    t = np.clip(c.high / c.horizon, 0, 1)[..., None] ** 1.4
    sky = mix(light.zenith, light.horizon, t)
    sun_u = c.centre + light.side * rng.uniform(0.25, 0.6) * c.width
    sun_v = c.horizon * (0.85 - 0.25 * min(light.length, 2) ** -1)
    glow = np.exp(-((c.u - sun_u) ** 2 + 1.5 * (c.high - sun_v) ** 2) / (0.35 * c.width) ** 2)[..., None]
    sky = mix(sky, np.minimum(light.horizon * 1.12, 255), 0.6 * glow)
    c.surface(c.air, np.ones((len(c.high), 1)), sky / light.tint, "sky-other", 0.0)
    cover = np.zeros((len(c.high), c.width), np.float32)
    shade = np.zeros_like(cover)
    for _ in range(rng.integers(0, 6)):
        ru = rng.uniform(0.10, 0.32) * c.width
        rv = ru * rng.uniform(0.30, 0.5)
        at_u, at_v = rng.uniform(0, c.width), rng.uniform(0.05, 0.75) * c.horizon
        up = (c.high - at_v) / rv
        body = 1 - ((c.u - at_u) / ru) ** 2 - np.where(up > 0, 3.5, 1) * up**2
        body = body + 0.55 * noise_at(rng, c.high * 3, c.u * 2)
        one = np.clip((body - 0.1) / 0.45, 0, 1)
        shade = np.where(one > cover, np.clip(0.5 + 0.5 * up, 0, 1), shade)
        cover = np.maximum(cover, one)
    cover *= np.clip((c.horizon - c.high) / 6, 0, 1)
    lit = mix(light.cloud, mix(light.horizon, light.zenith, 0.45), 0.55 * shade[..., None])
    c.surface(c.air, 0.95 * cover, lit / light.tint, "clouds", 0.0)


def _profile(c: Canvas, scale: float) -> np.ndarray:
    """Smooth noise along the picture's width, [1, W]; `scale` in tile pixels a picture pixel."""
    row, start = c.rng.integers(0, TILE), c.rng.uniform(0, TILE)
    return np.interp(start + c.u * scale, np.arange(TILE), noise_tile()[row], period=TILE).astype(np.float32)


def _ridge(c: Canvas, height: float, scale: float) -> np.ndarray:
    """A skyline [1, W]: pixels above the horizon, at least a fifth of `height`, with peaks where folded noise meets."""
    peaks = 1 - np.abs(_profile(c, scale))
    return height * np.clip(0.55 + 0.2 * _profile(c, 0.7 * scale) + 0.35 * peaks, 0.2, 1.5)


def _stand(c: Canvas, top: np.ndarray, foot: float, colour: np.ndarray, name: str, distance: float) -> None:
    """Paint what stands at the horizon: from its skyline `top` down to `foot` pixels below the horizon."""
    c.surface(c.air, np.clip(c.high - top + 0.5, 0, 1) * (c.high < c.horizon + foot), colour, name, distance)


def paint_mountains(c: Canvas, height: float) -> None:
    for distance, part in ((2600.0, 1.0), (1600.0, 0.6))[: c.rng.integers(1, 3)]:
        top = c.horizon - _ridge(c, part * height, c.rng.uniform(0.25, 0.5))
        down = c.high - top
        deep = down / height
        at_i, at_j = c.rng.integers(0, TILE, 2).tolist()
        i = (0.7 * down + at_i).astype(np.int64)
        j = (1.1 * c.u + 0.6 * down + at_j).astype(np.int64)  # slanted, as gullies run
        relief, left, right = (noise_tile()[i & (TILE - 1), (j + shift) & (TILE - 1)] for shift in (0, -4, 4))
        light = 0.88 + 0.16 * np.tanh(1.6 * (right - left) * c.light.side)
        rock = mix(rgb(116, 106, 100), rgb(84, 98, 78), np.clip(deep * 1.6 - 0.3, 0, 1)[..., None])
        snow = np.clip((0.26 - deep + 0.10 * relief) * 9, 0, 1) * (part == 1)
        _stand(c, top, 1, mix(rock, rgb(240, 243, 250), snow[..., None]) * light[..., None], "mountain", distance)


def paint_hills(c: Canvas, height: float) -> None:
    top = c.horizon - _ridge(c, height, 0.15)
    light = 0.95 - 0.3 * np.tanh(1.5 * np.gradient(top, axis=1) * c.light.side)
    tufts = 1 + 0.10 * noise_at(c.rng, c.high * 5, c.u * 3)
    green = mix(rgb(112, 140, 74), rgb(80, 116, 62), np.clip((c.high - top) / height, 0, 1)[..., None])
    _stand(c, top, 1, green * (light * tufts)[..., None], "hill", 900.0)


def paint_woods(c: Canvas, height: float) -> None:
    top = c.horizon - height * np.clip(0.8 + 0.3 * _profile(c, 5.0), 0.1, 2)
    leaves = 1 + 0.22 * noise_at(c.rng, c.high * 9, c.u * 9) - 0.25 * np.clip((c.high - top) / height, 0, 1)
    _stand(c, top, 2, rgb(70, 102, 50) * leaves[..., None], "tree", 260.0)


def paint_grass(c: Canvas) -> None:
    fields = noise_at(c.rng, np.log(c.z) * 60, c.x * 60 / c.z**0.7)
    blades = noise_at(c.rng, c.low * 3, c.u * 9)
    near = np.clip((c.low - c.horizon) / (c.height - c.horizon), 0, 1)
    light = 1 + 0.07 * fields + 0.05 * blades + 0.10 * blades * near
    green = mix(rgb(132, 164, 74), rgb(92, 142, 52), near[..., None])
    c.surface(c.land, c.below, green * light[..., None], "grass", c.z)


def paint_sea(c: Canvas) -> None:
    far = np.clip(1 - (c.low - c.horizon) / (0.55 * (c.height - c.horizon)), 0, 1)[..., None]
    water = mix(rgb(44, 118, 142), rgb(36, 84, 128), far)
    water = mix(water, c.light.horizon / c.light.tint, 0.18 + 0.22 * far**3)
    waves = noise_at(c.rng, np.log(c.z) * 150, c.u * 0.8)
    crest = np.clip(noise_at(c.rng, np.log(c.z) * 220, c.u * 0.9) - 1.7, 0, 1) * np.clip(12 / np.sqrt(c.z), 0, 1)
    c.surface(c.land, c.below, water * (1 + 0.09 * waves)[..., None] + 120 * crest[..., None], "sea", c.z)


def paint_sand(c: Canvas, shore: float, slant: float) -> None:
    """A beach before the sea: from `shore` metres on at the middle, nearer or farther by `slant` a metre sideways."""
    line = shore + slant * c.x + 0.06 * shore * noise_at(c.rng, np.zeros((1, 1)), c.x * 40 / shore)
    line_v = c.horizon + c.focal * c.eye / np.maximum(line, 1.0)
    inland = c.low - line_v  # pixels from the water's edge
    scale = max(2.0, 0.018 * c.height)
    ripples = 1 + 0.05 * noise_at(c.rng, np.log(c.z) * 90, c.u * 2) + 0.03 * noise_at(c.rng, c.low * 8, c.u * 8)
    wet = np.clip(1 - inland / (3.5 * scale), 0, 1)[..., None]
    sand = mix(rgb(222, 198, 150), rgb(160, 138, 104), wet) * ripples[..., None]
    foam = np.exp(-((inland / scale + 0.8) ** 2))
    photo = c.photo[c.land]
    photo += (245 - photo) * (0.85 * foam * c.below)[..., None]
    c.surface(c.land, np.clip(inland + 0.5, 0, 1) * c.below, sand, "sand", c.z)


def paint_road(c: Canvas, half: float, bend: float, pavement: float) -> None:
    """A road towards the vanishing point, `half` metres wide on each side, `pavement` metres of kerb beside it."""
    off = c.x - bend * c.z**2
    pixel = c.z / c.focal  # metres a pixel covers sideways

    def stripe(middle: float, width: float) -> np.ndarray:
        return np.clip((width / 2 - np.abs(off - middle)) / pixel + 0.5, 0, 1) * c.below

    if pavement:
        joints = np.where(((np.abs(off) % 0.9 < 0.07) | (c.z % 1.2 < 0.08)) & (c.z < 14), rgb(0.88), rgb(1))
        stone = rgb(176, 170, 164) * (joints * (1 + 0.04 * noise_at(c.rng, c.low * 5, c.u * 5)))[..., None]
        c.surface(c.land, stripe(0, 2 * (half + pavement)), stone, "pavement", c.z)
    tar = 1 + 0.05 * noise_at(c.rng, np.log(c.z) * 90, off * 20 / c.z**0.5) + 0.03 * noise_at(c.rng, c.low * 7, c.u * 7)
    c.surface(c.land, stripe(0, 2 * half), rgb(98, 98, 104) * tar[..., None], "road", c.z)
    white = stripe(0, 0.16) * (c.z % 7 < 3.5) + stripe(0.92 * half, 0.12) + stripe(-0.92 * half, 0.12)
    photo = c.photo[c.land]
    photo += (225 - photo) * np.clip(white, 0, 1)[..., None] * 0.85
