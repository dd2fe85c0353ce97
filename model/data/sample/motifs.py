"""What a scene is painted of: sky, backdrop and ground (`paint_`), and the things that stand on it (`draw_`)."""

import math

import numpy as np

from model.data.sample.canvas import TILE, Canvas, Colour, Figure, Points, Sketch, mix, noise_at, noise_tile, rgb, shade


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
    shading = np.zeros_like(cover)
    for _ in range(rng.integers(0, 6)):
        ru = rng.uniform(0.10, 0.32) * c.width
        rv = ru * rng.uniform(0.30, 0.5)
        at_u, at_v = rng.uniform(0, c.width), rng.uniform(0.05, 0.75) * c.horizon
        up = (c.high - at_v) / rv
        body = 1 - ((c.u - at_u) / ru) ** 2 - np.where(up > 0, 3.5, 1) * up**2
        body = body + 0.55 * noise_at(rng, c.high * 3, c.u * 2)
        one = np.clip((body - 0.1) / 0.45, 0, 1)
        shading = np.where(one > cover, np.clip(0.5 + 0.5 * up, 0, 1), shading)
        cover = np.maximum(cover, one)
    cover *= np.clip((c.horizon - c.high) / 6, 0, 1)
    lit = mix(light.cloud, mix(light.horizon, light.zenith, 0.45), 0.55 * shading[..., None])
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


def _box(x0: float, y0: float, x1: float, y1: float) -> Points:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _clumps(s: Figure, v: float, ru: float, rv: float, colour: Colour, n: int, size: float) -> None:
    """Foliage or wool: discs in an ellipse, the dark ones behind, lit from the sun's side and from above."""
    rng, side = s.canvas.rng, s.canvas.light.side
    angle, radius = rng.uniform(0, 2 * np.pi, n), np.sqrt(rng.uniform(0, 1, n)) * (1 - 0.6 * size)
    px, py = np.cos(angle) * radius, np.sin(angle) * radius
    lit = 0.80 + 0.20 * (0.6 * side * px - 0.8 * py) + rng.uniform(-0.09, 0.09, n)
    s.ellipse(s.u, v, 0.8 * ru, 0.8 * rv, shade(colour, 0.66), s.name)
    for i in np.argsort(lit):
        r = size * rng.uniform(0.7, 1.2)
        s.ellipse(s.u + px[i] * ru, v + py[i] * rv, r * ru, r * rv, shade(colour, lit[i] ** 1.6 * 1.25), s.name)


def draw_tree(c: Canvas, x: float, z: float, height: float, conifer: bool) -> None:
    s = Figure(c, "tree", x, z, height, reach=(0.42, 1.05))
    u, v, h, bark = s.u, s.v, s.size, (98, 76, 58)
    if conifer:
        s.part(_box(-0.035, 0, 0.035, 0.3), bark)
        for i in range(6):
            low, tip, wide = v - h * (0.10 + 0.13 * i), v - h * (0.42 + 0.117 * i), h * (0.25 - 0.033 * i)
            sunny = 1.15 if c.light.side > 0 else 0.75
            for side, lit in ((-wide, 1.9 - sunny), (wide, sunny)):
                green = shade((54, 88, 58), lit * (0.8 + 0.05 * i))
                s.polygon([(u + side, low), (u, tip), (u, low + 0.02 * h)], green, "tree")
    else:
        w = 0.035 * h
        s.polygon([(u - w, v), (u + w, v), (u + 0.6 * w, v - 0.5 * h), (u - 0.6 * w, v - 0.5 * h)], bark, "tree")
        ru, crown = h * c.rng.uniform(0.28, 0.38), h * c.rng.uniform(0.31, 0.36)
        n = int(np.clip(h, 14, 90))
        _clumps(s, v - h + crown, ru, crown, (104, 142, 62), n, 0.30 if n < 40 else 0.22)
    s.put(z, grain=0.10)


def draw_bush(c: Canvas, x: float, z: float, height: float) -> None:
    s = Figure(c, "bush", x, z, height, reach=(1, 1.2, 0.1))
    h = s.size
    _clumps(s, s.v - 0.5 * h, 0.85 * h, 0.55 * h, (92, 128, 66), int(np.clip(h, 10, 50)), 0.28)
    s.put(z, grain=0.10)


def draw_rock(c: Canvas, x: float, z: float, height: float) -> None:
    s = Figure(c, "rock", x, z, height, reach=(1.2, 1))
    u, v, h = s.u, s.v, s.size
    angles = np.sort(c.rng.uniform(0, np.pi, 7))
    arc = [(u + 1.1 * h * math.cos(a), v - h * math.sin(a) * c.rng.uniform(0.8, 1)) for a in angles]
    outline = [(u + 1.1 * h, v), *arc, (u - 1.1 * h, v)]
    s.polygon(outline, (112, 106, 100), "rock")
    peak = (u + 0.15 * h * c.light.side, v - 0.45 * h)
    middle = len(outline) // 2
    s.polygon([*(outline[: middle + 1] if c.light.side > 0 else outline[middle:]), peak], (158, 150, 140), "rock")
    s.put(z, grain=0.10)


def draw_person(c: Canvas, x: float, z: float, height: float) -> None:
    rng = c.rng
    s = Figure(c, "person", x, z, height, reach=(0.3, 1.02))
    shirts = ((200, 62, 54), (62, 104, 178), (232, 226, 214), (232, 182, 70), (86, 140, 96), (70, 66, 80))
    shirt = shirts[rng.integers(6)]
    trousers = ((52, 58, 86), (66, 62, 60), (128, 112, 88))[rng.integers(3)]
    skin, hair = ((232, 186, 154), (186, 134, 98), (124, 84, 60))[rng.integers(3)], (60, 44, 34)
    step, swing, dark = rng.uniform(0.03, 0.12), rng.uniform(-0.08, 0.08), 0.74

    def limb(x0: float, y0: float, x1: float, y1: float, w: float, colour: Colour, factor: float = 1.0) -> None:
        s.part([(x0 - w, y0), (x0 + w, y0), (x1 + 0.7 * w, y1), (x1 - 0.7 * w, y1)], colour, factor)

    for foot, factor in ((-step, dark), (step, 1.0)):
        limb(0.6 * foot, 0.52, foot, 0.03, 0.05, trousers, factor)
        limb(foot + 0.01, 0.035, foot + 0.02, 0.0, 0.055, (44, 38, 36))
    limb(-0.13, 0.79, -0.17 + swing, 0.47, 0.032, shirt, dark)
    limb(-0.165 + swing, 0.51, -0.17 + swing, 0.45, 0.028, skin, dark)
    s.part([(-0.14, 0.80), (-0.05, 0.83), (0.05, 0.83), (0.14, 0.80), (0.10, 0.46), (-0.10, 0.46)], shirt)
    away = -c.light.side
    s.part([(away * 0.14, 0.80), (away * 0.04, 0.82), (away * 0.03, 0.46), (away * 0.10, 0.46)], shirt, 0.82)
    limb(0.13, 0.79, 0.17 - swing, 0.47, 0.032, shirt, 0.92)
    limb(0.165 - swing, 0.51, 0.17 - swing, 0.45, 0.028, skin)
    limb(0, 0.86, 0, 0.80, 0.035, skin, 0.85)
    s.disc(0, 0.92, 0.068, 0.08, hair)
    s.disc(0.006, 0.905, 0.055, 0.063, skin)
    s.put(z, thing=True, grain=0.02)


_CAR_COLOURS = ((196, 44, 40), (46, 88, 158), (226, 226, 226), (60, 62, 70), (214, 170, 60), (150, 156, 162))


def draw_car_ahead(c: Canvas, x: float, z: float, coming: bool) -> None:
    """A car on its lane, from before or behind."""
    colour = _CAR_COLOURS[c.rng.integers(len(_CAR_COLOURS))]
    s = Figure(c, "car", x, z, 1.8, reach=(0.55, 0.85))

    def both(x0: float, y0: float, x1: float, y1: float, rgb: Colour) -> None:
        for m in (-1, 1):
            s.part(_box(m * x0, y0, m * x1, y1), rgb)

    both(0.30, 0.0, 0.47, 0.2, (30, 30, 32))
    s.part([(-0.44, 0.5), (-0.34, 0.8), (-0.28, 0.83), (0.28, 0.83), (0.34, 0.8), (0.44, 0.5)], colour, 0.85)
    s.part([(-0.38, 0.51), (-0.30, 0.76), (0.30, 0.76), (0.38, 0.51)], (58, 76, 92))
    s.part([(-0.38, 0.51), (-0.34, 0.64), (0.10, 0.76), (0.26, 0.76)], (112, 136, 154))
    s.part([(-0.49, 0.12), (-0.5, 0.42), (-0.44, 0.52), (0.44, 0.52), (0.5, 0.42), (0.49, 0.12)], colour)
    s.part([(-0.49, 0.12), (-0.495, 0.22), (0.495, 0.22), (0.49, 0.12)], colour, 0.6)
    s.part([(-0.44, 0.52), (-0.47, 0.46), (0.47, 0.46), (0.44, 0.52)], colour, 1.2)
    both(0.30, 0.30, 0.47, 0.41, (250, 244, 206) if coming else (170, 20, 22))
    s.part([(-0.14, 0.24), (-0.14, 0.31), (0.14, 0.31), (0.14, 0.24)], (236, 236, 230))
    s.put(z, thing=True, grain=0.02)


def draw_car_side(c: Canvas, x: float, z: float) -> None:
    mirror = float(c.rng.choice((-1, 1)))
    colour = _CAR_COLOURS[c.rng.integers(len(_CAR_COLOURS))]
    s = Figure(c, "car", x, z, 4.2, reach=(0.52, 0.37), mirror=mirror)
    s.part([(-0.33, 0.2), (-0.24, 0.34), (0.08, 0.345), (0.24, 0.2)], colour, 0.9)
    s.part([(-0.28, 0.21), (-0.22, 0.315), (-0.08, 0.32), (-0.08, 0.21)], (84, 106, 124))
    s.part([(-0.05, 0.21), (-0.05, 0.32), (0.06, 0.32), (0.18, 0.21)], (84, 106, 124))
    s.part([(-0.5, 0.07), (-0.5, 0.19), (-0.34, 0.225), (0.24, 0.225), (0.46, 0.18), (0.5, 0.07)], colour)
    s.part([(-0.5, 0.07), (-0.5, 0.105), (0.5, 0.105), (0.5, 0.07)], colour, 0.65)
    s.part([(0.44, 0.14), (0.45, 0.175), (0.485, 0.15), (0.49, 0.13)], (250, 244, 206))
    s.part([(-0.5, 0.14), (-0.5, 0.18), (-0.46, 0.18), (-0.46, 0.14)], (170, 20, 22))
    for wheel in (-0.31, 0.31):
        s.disc(wheel, 0.075, 0.078, 0.078, (30, 30, 32))
        s.disc(wheel, 0.075, 0.040, 0.040, (156, 158, 162))
    s.put(z, thing=True, grain=0.02)


def draw_sheep(c: Canvas, x: float, z: float) -> None:
    facing = float(c.rng.choice((-1, 1)))
    s = Figure(c, "sheep", x, z, 0.95, reach=(1, 1.1))
    for leg in (-0.38, -0.22, 0.2, 0.36):
        s.part(_box(leg - 0.05, 0, leg + 0.05, 0.4), (58, 50, 46))
    h = s.size
    _clumps(s, s.v - 0.62 * h, 0.62 * h, 0.36 * h, (238, 232, 218), int(np.clip(h, 8, 30)), 0.32)
    s.disc(facing * 0.66, 0.72, 0.17, 0.20, (64, 56, 52))
    s.disc(facing * 0.58, 0.88, 0.12, 0.09, (238, 232, 218))
    s.put(z, thing=True, grain=0.04)


def draw_boat(c: Canvas, x: float, z: float) -> None:
    length, mirror = c.rng.uniform(5, 7), float(c.rng.choice((-1, 1)))
    hull = ((224, 220, 210), (166, 52, 46), (44, 78, 120))[c.rng.integers(3)]
    s = Figure(c, "boat", x, z, length, reach=(0.55, 1.35), mirror=mirror)
    s.part([(-0.012, 0.1), (-0.012, 1.3), (0.012, 1.3), (0.012, 0.1)], (96, 74, 56))
    s.part([(-0.03, 0.22), (-0.03, 1.26), (-0.46, 0.24)], (244, 240, 230))
    s.part([(-0.03, 0.22), (-0.03, 0.7), (-0.25, 0.23)], (244, 240, 230), 0.86)
    s.part([(0.03, 0.26), (0.03, 1.12), (0.42, 0.26)], (240, 232, 216), 0.92)
    s.part([(-0.48, 0.2), (0.52, 0.2), (0.38, 0.0), (-0.4, 0.0)], hull)
    s.part([(-0.43, 0.07), (0.43, 0.07), (0.38, 0.0), (-0.4, 0.0)], hull, 0.6)
    s.put(z, thing=True, grain=0.02)


def draw_fence(c: Canvas, x0: float, x1: float, z: float) -> None:
    (left, low), (right, _), up = c.project(x0, 0, z), c.project(x1, 0, z), c.focal / z
    s = Sketch(c, left, low - 1.2 * up, right, low)
    for y in (0.45, 0.85):
        s.polygon(_box(left, low - y * up, right, low - (y + 0.13) * up), (150, 122, 92), "fence")
    for u in np.arange(left, right, 1.6 * up):
        s.polygon(_box(u, low, u + 0.16 * up, low - 1.15 * up), (124, 98, 74), "fence")
    s.put(z, grain=0.08)


def draw_house(c: Canvas, x: float, z: float, width: float, length: float, storeys: int) -> None:
    """A gabled house whose front stands at distance `z`; of its sides, the one towards the camera's axis shows."""
    rng, light = c.rng, c.light
    tall, rise = 2.8 * storeys + 0.3, width * rng.uniform(0.32, 0.5)
    x0, x1, back = x - width / 2, x + width / 2, z + length
    side_x = x0 if x > 0 else x1
    wall = ((232, 220, 196), (226, 204, 170), (214, 186, 164), (236, 234, 228))[rng.integers(4)]
    tiles = ((172, 84, 62), (150, 76, 62), (118, 84, 74))[rng.integers(3)]
    front_lit, side_lit = 0.92, (1.04 if (side_x > x) == (light.side > 0) else 0.66)
    glass = mix(rgb(74, 96, 118), rgb(255, 206, 110) / light.tint, light.evening)
    corners = [c.project(px, py, pz) for px in (x0, x1) for pz in (z, back) for py in (-0.2, tall + rise)]
    us, vs = [p[0] for p in corners], [p[1] for p in corners]
    s = Sketch(c, min(us) - 0.1 * (max(us) - min(us)), min(vs), max(us) + 0.1 * (max(us) - min(us)), max(vs))

    def face(points: list[tuple[float, float, float]], rgb: Colour | np.ndarray, factor: float, name: str) -> None:
        s.polygon([c.project(*p) for p in points], shade(rgb, factor), name)

    def on_front(a: float, b: float, y0: float, y1: float, rgb: Colour | np.ndarray, factor: float, name: str) -> None:
        face([(x, y, z) for x, y in _box(a, y0, b, y1)], rgb, factor, name)

    def on_side(a: float, b: float, y0: float, y1: float, rgb: Colour | np.ndarray, factor: float, name: str) -> None:
        face([(side_x, y, z) for z, y in _box(a, y0, b, y1)], rgb, factor, name)

    on_side(z, back, 0, tall, wall, side_lit, "house")
    on_front(x0, x1, 0, tall, wall, front_lit, "house")
    ridge, over = tall + rise, 0.35
    eaves, front = tall - 0.2, z - over
    if rng.uniform() < 0.5:  # gable towards the camera
        face([(x0, tall, z), (x1, tall, z), (x, ridge, z)], wall, front_lit, "house")
        eave = side_x + math.copysign(over, side_x - x)
        slope = [(eave, eaves, front), (eave, eaves, back), (x, ridge, back), (x, ridge, front)]
        face(slope, tiles, side_lit, "roof")
        for edge in (x0 - over, x1 + over):
            board = [(edge, eaves, front), (x, ridge, front), (x, ridge - 0.4, front), (edge, tall - 0.6, front)]
            face(board, tiles, 0.7, "roof")
    else:
        middle = (z + back) / 2
        face([(side_x, tall, z), (side_x, tall, back), (side_x, ridge, middle)], wall, side_lit, "house")
        left, right = x0 - over, x1 + over
        slope = [(left, eaves, front), (right, eaves, front), (right, ridge, middle), (left, ridge, middle)]
        face(slope, tiles, 1.0, "roof")
        on_front(left, right, tall - 0.45, eaves, tiles, 0.6, "roof")
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
    rows = max(1, int(length / 3.2))
    for i in range(rows):
        middle = z + length * (i + 0.5) / rows
        for storey in range(storeys):
            on_side(middle - 0.6, middle + 0.6, 2.8 * storey + 0.75, 2.8 * storey + 2.25, glass, 0.85, "window-other")
    s.put(z, grain=0.035)
