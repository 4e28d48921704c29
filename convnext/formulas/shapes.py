"""Shape classes by formula: contours, glyphs, polygons, fractals and bodies of parts. A class is a set of parameters, a
picture of it varies them, bends and places the result.

Coordinates are x to the right and y down; a shape fills about [-1, 1] x [-1, 1] before it is placed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import cos, pi, sin
from typing import Literal

import numpy as np

CLASS_SEED = 202_601_127  # of the parameters of every class: other numbers would make other classes
CONTOUR_POINTS = 96
ARC_POINTS = 9
FRACTAL_POINTS, FRACTAL_STEPS = 800, 10
FAMILIES = {"contour": 100, "glyph": 120, "polygon": 41, "fractal": 60, "body": 100}
COUNT = sum(FAMILIES.values())

Rng = np.random.Generator


@dataclass(frozen=True)
class Part:
    """One area, line or cloud of a shape. `tone` in [-1, 1] is darker or lighter than the shape's colour."""

    points: np.ndarray  # (P, 2)
    kind: Literal["area", "line", "cloud"] = "area"
    tone: float = 0.0
    width: float = 0.0  # of a line, in the shape's own units


def names() -> tuple[str, ...]:
    """One name for each shape class, "contour 0" to "body 99"."""
    return tuple(f"{family} {i}" for family, count in FAMILIES.items() for i in range(count))


def shape(index: int, rng: Rng) -> list[Part]:
    """A shape of the class `index` in [0, COUNT), varied by `rng`; later parts lie over earlier ones."""
    for family, count in FAMILIES.items():
        if index < count:
            return bent(DRAWN[family](index, rng), rng)
        index -= count
    raise IndexError("there is no such shape class")


def bent(parts: list[Part], rng: Rng) -> list[Part]:
    """The same parts under one slow wave of displacement, as if drawn by hand on something soft."""
    size, waves, phase = rng.uniform(0, 0.09), rng.uniform(-2.5, 2.5, (2, 2)), rng.uniform(0, 2 * pi, 2)
    return [replace(part, points=part.points + size * np.sin(part.points @ waves + phase)) for part in parts]


def _own(family: str, index: int) -> Rng:
    """The generator of a class's parameters."""
    return np.random.default_rng((CLASS_SEED, list(FAMILIES).index(family), index))


def _contour(index: int, rng: Rng) -> list[Part]:
    """A closed curve whose radius is a sum of a few sines around the circle."""
    own = _own("contour", index)
    frequencies = own.choice(np.arange(2, 13), size=own.integers(2, 4), replace=False)
    sizes = own.uniform(0.1, 0.4, len(frequencies)) / np.sqrt(frequencies / 2)
    phases = own.uniform(0, 2 * pi, len(frequencies))
    sizes = sizes * rng.uniform(0.8, 1.25, len(frequencies))
    phases = phases + rng.normal(0, 0.12, len(frequencies))
    angle = np.linspace(0, 2 * pi, CONTOUR_POINTS, endpoint=False)
    radius = 1 + (sizes[:, None] * np.sin(frequencies[:, None] * angle + phases[:, None])).sum(0)
    radius = np.maximum(radius, 0.08) / radius.max()
    return [Part(radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)]))]


def _glyph(index: int, rng: Rng) -> list[Part]:
    """Two to five strokes between the points of a small grid, straight or as arcs: a letter of no alphabet."""
    own = _own("glyph", index)
    grid = np.stack(np.meshgrid(np.linspace(-0.8, 0.8, 3), np.linspace(-0.8, 0.8, 4)), -1).reshape(-1, 2)
    width = rng.uniform(0.1, 0.3)
    jitter = rng.normal(0, 0.06, grid.shape)
    parts = []
    last = int(own.integers(len(grid)))
    for _ in range(own.integers(2, 6)):
        start = last if own.random() < 0.6 else int(own.integers(len(grid)))
        near = np.flatnonzero((np.arange(len(grid)) != start) & (np.abs(grid - grid[start]).sum(1) < 2.2))
        last = int(own.choice(near))
        bow = own.uniform(0.4, 1.1) * own.choice([-1, 1]) if own.random() < 0.4 else 0.0
        parts.append(Part(_arc(grid[start] + jitter[start], grid[last] + jitter[last], bow), "line", 0.0, width))
    return parts


def _arc(start: np.ndarray, end: np.ndarray, bow: float) -> np.ndarray:
    """A curve between two points that leaves the straight line by half of `bow` times its length."""
    along = np.linspace(0, 1, ARC_POINTS if bow else 2)[:, None]
    control = (start + end) / 2 + bow * np.array([-(end - start)[1], (end - start)[0]]) / 2
    return (1 - along) ** 2 * start + 2 * along * (1 - along) * control + along**2 * end


def _star(corners: int, inner: float) -> np.ndarray:
    angle = np.arange(2 * corners) * pi / corners - pi / 2
    radius = np.where(np.arange(2 * corners) % 2, inner, 1.0)
    return radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])


def _ellipse(wide: float, high: float, begin: float = 0.0, end: float = 2 * pi) -> np.ndarray:
    angle = np.linspace(begin, end, 40, endpoint=end - begin < 2 * pi - 1e-6)
    return np.column_stack([wide * np.cos(angle), high * np.sin(angle)])


def _gear(teeth: int) -> np.ndarray:
    angle = np.linspace(0, 2 * pi, 4 * teeth, endpoint=False)
    radius = np.where(np.arange(4 * teeth) % 4 < 2, 1.0, 0.72)
    return radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.column_stack([x / 17, -y / 17])


def _crescent(depth: float) -> np.ndarray:
    outer, inner = _ellipse(1, 1, pi / 2, 3 * pi / 2), _ellipse(1 - depth, 1, pi / 2, 3 * pi / 2)
    return np.concatenate([outer, inner[::-1]])


@lru_cache(1)
def _polygons() -> tuple[tuple[np.ndarray, ...], ...]:
    """The regular shapes, each one or several areas."""
    single: list[np.ndarray] = [_star(n, cos(pi / n)) for n in range(3, 9)]
    single += [_star(n, inner) for n in range(3, 9) for inner in (0.35, 0.6)]
    single += [_gear(teeth) for teeth in (6, 9, 12)]
    single += [_box(-1, -high, 1, high) for high in (0.6, 0.3)] + [_ellipse(1, high) for high in (1.0, 0.6, 0.3)]
    single += [np.concatenate([_ellipse(1, 1, 0, end), [[0, 0]]]) for end in (pi, 3 * pi / 2, pi / 2)]
    single += [_heart(), _crescent(0.4), _crescent(0.8)]
    single += [np.array([(-1, -0.3), (0.2, -0.3), (0.2, -0.8), (1, 0), (0.2, 0.8), (0.2, 0.3), (-1, 0.3)])]
    single += [np.array([(-1, -1), (0, 0.2), (1, -1), (1, 0), (0, 1), (-1, 0)])]
    arm = 0.33
    several = [
        (_box(-1, -arm, 1, arm), _box(-arm, -1, arm, 1)),
        (_box(-1, -1, -arm, 1), _box(-1, arm, 1, 1)),
        (_box(-1, -1, 1, -arm), _box(-arm, -1, arm, 1)),
        (_box(-1, -1, -0.4, 1), _box(0.4, -1, 1, 1), _box(-1, 0.4, 1, 1)),
        (_box(-1, -1, 0.2, -0.4), _box(-0.2, -1, 0.2, 1), _box(-0.2, 0.4, 1, 1)),
        (_box(-1, -1, -0.4, 1), _box(0.4, -1, 1, 1), _box(-1, -0.3, 1, 0.3)),
        (_ellipse(0.45, 0.45) - np.array([0.55, 0]), _ellipse(0.45, 0.45) + np.array([0.55, 0])),
    ]
    return tuple((points,) for points in single) + tuple(several)


def _polygon(index: int, rng: Rng) -> list[Part]:
    return [Part(points) for points in _polygons()[index]]


@lru_cache(FAMILIES["fractal"])
def _functions(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Affine maps of an iterated function system, (M, 2, 2) and (M, 2), and how often each is chosen: the first system
    of this class's own numbers whose points are spread over the plane.
    """
    own = _own("fractal", index)
    while True:
        count = int(own.integers(2, 5))
        turn = own.uniform(-pi, pi, (count, 2))
        scale = own.uniform(0.25, 0.85, (count, 2)) * own.choice([-1, 1], (count, 2))
        first = np.stack([_turn(angle) for angle in turn[:, 0]])
        second = np.stack([_turn(angle) for angle in turn[:, 1]])
        maps, shift = first @ (scale[:, :, None] * second), own.uniform(-1, 1, (count, 2))
        area = np.abs(np.linalg.det(maps)) + 0.02
        points = _iterated(maps, shift, area / area.sum(), np.random.default_rng(0))
        filled = np.histogram2d(points[:, 0], points[:, 1], bins=24, range=[[-1, 1]] * 2)[0] > 0
        if 0.12 < filled.mean() < 0.6:
            return maps, shift, area / area.sum()


def _turn(angle: float) -> np.ndarray:
    return np.array([(cos(angle), -sin(angle)), (sin(angle), cos(angle))])


def _iterated(maps: np.ndarray, shift: np.ndarray, share: np.ndarray, rng: Rng) -> np.ndarray:
    """Points of the attractor, moved and scaled to fill [-1, 1]."""
    points = rng.uniform(-1, 1, (FRACTAL_POINTS, 2))
    for _ in range(FRACTAL_STEPS):
        chosen = np.searchsorted(np.cumsum(share)[:-1], rng.random(FRACTAL_POINTS))
        points = (maps[chosen] @ points[:, :, None])[:, :, 0] + shift[chosen]
    low, high = np.quantile(points, 0.01, axis=0), np.quantile(points, 0.99, axis=0)
    return (points - (low + high) / 2) / max(float((high - low).max()) / 2, 1e-6)


def _fractal(index: int, rng: Rng) -> list[Part]:
    maps, shift, share = _functions(index)
    maps = maps * rng.uniform(0.92, 1.06, (len(maps), 1, 1))
    return [Part(_iterated(maps, shift, share, rng), "cloud")]


def _body(index: int, rng: Rng) -> list[Part]:
    """A body with head, limbs and marks: parts of fixed places, sizes and tones, that move at their joints."""
    own = _own("body", index)
    parts = [Part(_ellipse(own.uniform(0.35, 0.7), own.uniform(0.25, 0.6)))]
    for _ in range(own.integers(3, 8)):
        angle, reach = own.uniform(0, 2 * pi), own.uniform(0.2, 0.75)
        long, wide, lean = own.uniform(0.12, 0.42), own.uniform(0.06, 0.22), own.uniform(-0.6, 0.6)
        kind, tone, paired = own.integers(3), own.uniform(-0.8, 0.8), own.random() < 0.4
        stretch, swing = rng.uniform(0.85, 1.2), rng.normal(0, 0.16)
        outline = (_ellipse(long, wide), _box(-long, -wide, long, wide), _star(3, 0.5) * [long, wide])[kind]
        for side in (1, -1) if paired else (1,):
            place = reach * np.array([cos(angle) * side, sin(angle)])
            way = angle + lean + swing if side == 1 else pi - angle - lean - swing
            parts.append(Part(outline * stretch @ _turn(way).T + place, tone=tone))
    if rng.random() < 0.5:
        parts = [replace(part, points=part.points * [-1, 1]) for part in parts]
    return parts


DRAWN: dict[str, Callable[[int, Rng], list[Part]]] = {
    "contour": _contour, "glyph": _glyph, "polygon": _polygon, "fractal": _fractal, "body": _body,
}  # fmt: skip
