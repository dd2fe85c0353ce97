"""Scenes: what stands where."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from model.data.sample import motifs
from model.data.sample.canvas import ID, Canvas, Light
from model.errors import UserError


class _Stage:
    """Places objects on the ground, each on its kind of ground and off the others, and draws them from far to near."""

    def __init__(self, canvas: Canvas):
        self.canvas, self.rng = canvas, canvas.rng
        self.ground = canvas.label.copy()
        self.draws: list[tuple[float, Callable[[], None]]] = []
        self.taken: list[tuple[float, float, float]] = []

    def add(self, draw: Callable[..., None], x: float, z: float, *args, size: tuple[float, float, float]) -> None:
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
            if v >= c.height or self.ground[int(v), min(max(int(u), 0), c.width - 1)] not in [ID[name] for name in on]:
                return False
        return all(math.hypot(x - px, z - pz) > r + room / 2 for px, pz, r in self.taken)

    def spots(self, n: int, on: tuple[str, ...], near: float, far: float, room: float) -> Iterator[tuple[float, float]]:
        """Places (x, z) that fit, up to `n` of them: each is given up after twenty tries."""
        c, near = self.canvas, max(near, self.canvas.nearest * 1.04)
        for _ in range(n):
            for _ in range(20):
                z = math.exp(self.rng.uniform(math.log(near), math.log(max(far, near + 1))))
                x = (self.rng.uniform(0, c.width) - c.centre) * z / c.focal
                if self.fits(x, z, on, room):
                    yield x, z
                    break

    def trees(self, n: int, on: tuple[str, ...], near: float, far: float, conifers: float) -> None:
        for place in self.spots(n, on, near, far, 3.0):
            height = self.rng.uniform(5, 10)
            size = (0.5 * height, 0.15 * height, 0.6 * height)
            self.add(motifs.draw_tree, *place, height, self.rng.uniform() < conifers, size=size)

    def small(self, draw: Callable[..., None], n: int, on: tuple[str, ...], far: float, high: float) -> None:
        """Bushes or rocks of `high` metres at most."""
        for place in self.spots(n, on, 4, far, 2 * high):
            height = high * self.rng.uniform(0.4, 1)
            self.add(draw, *place, height, size=(1.7 * height, 0.6 * height, 0.6 * height))

    def people(self, groups: int, on: tuple[str, ...], near: float, far: float) -> None:
        """Groups of one to four, shoulder to shoulder, so that some overlap."""
        rng = self.rng
        for x, z in self.spots(groups, on, near, far, 1.2):
            for _ in range(rng.integers(1, 5)):
                height = rng.uniform(1.55, 1.9) if rng.uniform() < 0.8 else rng.uniform(1.0, 1.4)
                self.add(motifs.draw_person, x, z, height, size=(0.5, 0.3, height))
                x, z = x + rng.uniform(0.35, 0.8), max(z + rng.uniform(-0.5, 0.5), 1.02 * self.canvas.nearest)

    def herd(self, n: int, near: float, far: float) -> None:
        rng = self.rng
        for middle, front in self.spots(1, ("grass",), near, far, 2.0):
            for _ in range(n):
                x, z = middle + rng.uniform(-3, 3), max(front + rng.uniform(-2, 4), 1.1 * self.canvas.nearest)
                if self.fits(x, z, ("grass",), 0.4):
                    self.add(motifs.draw_sheep, x, z, size=(1.3, 0.5, 0.9))

    def houses(self, n: int, near: float, far: float, room: float) -> None:
        for place in self.spots(n, ("grass",), near, far, room):
            self.house(*place, int(self.rng.integers(1, 3)))

    def house(self, x: float, z: float, storeys: int) -> None:
        width, length = self.rng.uniform(6, 9), self.rng.uniform(6, 10)
        self.add(motifs.draw_house, x, z, width, length, storeys, size=(1.2 * width, length, 2.8 * storeys))

    def play(self) -> None:
        self.canvas.finish_ground()
        for _, draw in sorted(self.draws, key=lambda item: -item[0]):
            draw()


def _backdrop(c: Canvas, mountains: float, hills: float, woods: float) -> None:
    """Sky, then what stands at the horizon; the numbers are probabilities."""
    motifs.paint_sky(c)
    if c.rng.uniform() < mountains:
        motifs.paint_mountains(c, c.horizon * c.rng.uniform(0.28, 0.6))
    if c.rng.uniform() < hills:
        motifs.paint_hills(c, c.horizon * c.rng.uniform(0.08, 0.22))
    if c.rng.uniform() < woods:
        motifs.paint_woods(c, c.height * c.rng.uniform(0.015, 0.05))


def _meadow(c: Canvas) -> None:
    rng = c.rng
    _backdrop(c, 0.6, 0.6, 0.7)
    motifs.paint_grass(c)
    stage, conifers = _Stage(c), rng.choice((0.0, 0.2, 1.0))
    stage.houses(rng.integers(0, 3), 18, 60, 11)
    stage.trees(int(rng.integers(2, 9)), ("grass",), 9, 90, conifers)
    stage.small(motifs.draw_bush, int(rng.integers(0, 5)), ("grass",), 30, 1.3)
    stage.small(motifs.draw_rock, int(rng.integers(0, 3)), ("grass",), 25, 0.9)
    if rng.uniform() < 0.6:
        stage.herd(int(rng.integers(2, 7)), 6, 16)
    stage.people(int(rng.integers(0, 3)), ("grass",), 4, 16)
    if rng.uniform() < 0.3:
        z = rng.uniform(1.3, 3) * c.nearest
        stage.draws.append((z, lambda: motifs.draw_fence(c, -c.width * z / c.focal, c.width * z / c.focal, z)))
    stage.play()


def _coast(c: Canvas) -> None:
    rng = c.rng
    _backdrop(c, 0.5, 0.25, 0.0)
    motifs.paint_sea(c)
    shore = c.nearest * rng.uniform(1.3, 2.6)
    motifs.paint_sand(c, shore, rng.uniform(-0.5, 0.5))
    stage = _Stage(c)
    for place in stage.spots(rng.integers(0, 4), ("sea",), 2.0 * shore, 140, 8):
        stage.add(motifs.draw_boat, *place, size=(5, 1.2, 0.5))
    stage.people(int(rng.integers(1, 4)), ("sand",), 3, 14)
    stage.small(motifs.draw_rock, int(rng.integers(0, 4)), ("sand", "sea"), 30, 1.1)
    stage.trees(int(rng.uniform() < 0.25), ("sand",), 6, 14, 0.0)
    stage.play()


def _country_road(c: Canvas) -> None:
    rng = c.rng
    _backdrop(c, 0.7, 0.5, 0.7)
    motifs.paint_grass(c)
    half, bend = rng.uniform(2.8, 3.6), rng.uniform(-0.004, 0.004)
    motifs.paint_road(c, half, bend, 0.0)
    stage = _Stage(c)
    _traffic(stage, half, bend, int(rng.integers(1, 4)))
    stage.houses(rng.integers(0, 3), 14, 50, 12)
    stage.trees(int(rng.integers(3, 10)), ("grass",), 7, 80, rng.choice((0.0, 0.2, 1.0)))
    stage.small(motifs.draw_bush, int(rng.integers(0, 5)), ("grass",), 30, 1.3)
    if rng.uniform() < 0.35:
        stage.herd(int(rng.integers(2, 5)), 7, 16)
    stage.people(int(rng.integers(0, 2)), ("grass",), 4, 14)
    stage.play()


def _street(c: Canvas) -> None:
    rng = c.rng
    _backdrop(c, 0.25, 0.2, 0.8)
    motifs.paint_grass(c)
    half, pavement = rng.uniform(3.0, 3.8), rng.uniform(1.8, 2.6)
    motifs.paint_road(c, half, 0.0, pavement)
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
            stage.add(motifs.draw_car_side, x, z, size=(4.2, 1.6, 0.9))
        else:
            stage.add(motifs.draw_car_ahead, x, z, lane < 0, size=(1.9, 3.6, 0.9))


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
    light = Light.draw(rng)
    scene = _SCENES[rng.integers(len(_SCENES))]
    horizon = rng.uniform(0.34, 0.56)
    canvas = Canvas(rng, height, width, light, horizon, eye=rng.uniform(1.7, 3.2))
    scene(canvas)
    return canvas.finish()
