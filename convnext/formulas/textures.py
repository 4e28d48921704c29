"""Texture classes by formula: noise of a given spectrum, stripes, cells, patterns; grey values from 0 to 1.

A bank holds a few large fields of each class, made once for a process; a picture shows a cut of one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import pi

import numpy as np

SIDE = 128  # pixels of a field
FIELDS = 10  # of each class
FIELD_SEED = 202_601_128

Rng = np.random.Generator
Formula = Callable[[Rng], np.ndarray]


def _frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Cycles a field of every term of a transform, and their direction in [0, pi)."""
    y, x = np.meshgrid(np.fft.fftfreq(SIDE, 1 / SIDE), np.fft.rfftfreq(SIDE, 1 / SIDE), indexing="ij")
    return np.hypot(x, y), np.arctan2(y, x) % pi


def _filtered(rng: Rng, spectrum: np.ndarray) -> np.ndarray:
    """White noise of a spectrum, mean 0 and deviation 1."""
    field: np.ndarray = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * spectrum)
    return (field - field.mean()) / field.std()


def _band(centre: float, width: float = 0.35, towards: float | None = None) -> np.ndarray:
    """A ring of the spectrum around `centre` cycles a field, or the part of it in one direction."""
    size, direction = _frequencies()
    ring: np.ndarray = np.exp(-0.5 * (np.log(np.maximum(size, 0.5) / centre) / width) ** 2)
    if towards is not None:
        apart = np.abs((direction - towards + pi / 2) % pi - pi / 2)
        ring = ring * np.exp(-0.5 * (apart / 0.2) ** 2)
    return ring


def _plain(field: np.ndarray) -> np.ndarray:
    return 0.5 + field / 5


def _ridged(field: np.ndarray) -> np.ndarray:
    return 1 - np.abs(field) / 1.5


def _in_two(field: np.ndarray) -> np.ndarray:
    return 0.5 + np.clip(4 * field, -0.5, 0.5)


def _in_steps(field: np.ndarray) -> np.ndarray:
    return np.round((0.5 + field / 5) * 5) / 5


def _noise(spectrum: np.ndarray, form: Callable[[np.ndarray], np.ndarray]) -> Formula:
    return lambda rng: form(_filtered(rng, spectrum))


def _pattern(values: Callable[[np.ndarray, np.ndarray, Rng], np.ndarray], period: float) -> Formula:
    """A regular pattern of `period` pixels, a little turned, scaled, moved and bent."""

    def field(rng: Rng) -> np.ndarray:
        y, x = np.mgrid[:SIDE, :SIDE].astype(np.float64) / (period * rng.uniform(0.85, 1.2))
        turn = rng.normal(0, 0.12)
        bend = rng.uniform(0, 0.25) * _filtered(rng, _band(2.5))
        u, v = x * np.cos(turn) - y * np.sin(turn) + rng.random() + bend, x * np.sin(turn) + y * np.cos(turn) + bend
        return values(u, v + rng.random(), rng)

    return field


def _stripes(u: np.ndarray, v: np.ndarray, rng: Rng) -> np.ndarray:
    return (v % 1 < rng.uniform(0.3, 0.6)).astype(np.float64)


def _upright(u: np.ndarray, v: np.ndarray, rng: Rng) -> np.ndarray:
    return _stripes(v, u, rng)


def _slanted(u: np.ndarray, v: np.ndarray, rng: Rng) -> np.ndarray:
    return _stripes(u, (u + v) / 1.414, rng)


def _checks(u: np.ndarray, v: np.ndarray, rng: Rng) -> np.ndarray:
    return (np.floor(u) + np.floor(v)) % 2


def _dots(u: np.ndarray, v: np.ndarray, rng: Rng) -> np.ndarray:
    return (np.hypot(u % 1 - 0.5, v % 1 - 0.5) < rng.uniform(0.2, 0.38)).astype(np.float64)


def _bricks(u: np.ndarray, v: np.ndarray, rng: Rng) -> np.ndarray:
    row = np.floor(v)
    return (((u / 2 + 0.5 * (row % 2)) % 1 < 0.08) | (v % 1 < 0.15)).astype(np.float64)


def _waves(u: np.ndarray, v: np.ndarray, rng: Rng) -> np.ndarray:
    return 0.5 + 0.5 * np.sin(2 * pi * (v + 0.35 * np.sin(2 * pi * u / 1.7)))


def _rings(u: np.ndarray, v: np.ndarray, rng: Rng) -> np.ndarray:
    return 0.5 + 0.5 * np.sin(2 * pi * np.hypot(u - rng.uniform(0, 8), v - rng.uniform(0, 8)))


def _lattice(u: np.ndarray, v: np.ndarray, rng: Rng) -> np.ndarray:
    return ((u % 1 < 0.18) | (v % 1 < 0.18)).astype(np.float64)


def _cells(count: int, *, edges: bool) -> Formula:
    """The nearest of scattered points: each cell of one grey, or only what lies between them."""

    def field(rng: Rng) -> np.ndarray:
        seeds = rng.uniform(0, SIDE, (count, 2))
        y, x = np.mgrid[:SIDE, :SIDE]
        apart = np.hypot(y[..., None] - seeds[:, 0], x[..., None] - seeds[:, 1])
        if edges:
            nearest = np.partition(apart, 1, axis=-1)
            return np.clip((nearest[..., 1] - nearest[..., 0]) / 4, 0, 1)
        return rng.random(count)[apart.argmin(-1)]

    return field


def _powers(power: float) -> np.ndarray:
    return 1 / np.maximum(_frequencies()[0], 1) ** power


@lru_cache(1)
def formulas() -> dict[str, Formula]:
    """One formula for each texture class, by name."""
    forms = {"noise": _plain, "ridges": _ridged, "islands": _in_two}
    found: dict[str, Formula] = {
        f"{name} at {centre}": _noise(_band(centre), form)
        for name, form in forms.items()
        for centre in (3, 5, 8, 12, 18, 26, 38)
    }
    for centre in (6, 12, 24):
        for eighth in (0, 2, 4, 6):
            found[f"grain at {centre} towards {eighth}/8"] = _noise(_band(centre, 0.3, eighth * pi / 8), _plain)
    for power in (0.6, 1.2, 1.8, 2.4):
        found[f"cloud of power {power}"] = _noise(_powers(power), _plain)
        found[f"steps of power {power}"] = _noise(_powers(power), _in_steps)
    for pattern in (_stripes, _upright, _slanted, _checks, _dots, _bricks, _waves, _rings, _lattice):
        for period in (7, 14):
            found[f"{pattern.__name__[1:]} of {period}"] = _pattern(pattern, period)
    for count in (30, 120):
        found[f"{count} cells"] = _cells(count, edges=False)
        found[f"edges of {count} cells"] = _cells(count, edges=True)
    return found


def names() -> tuple[str, ...]:
    return tuple(formulas())


@lru_cache(1)
def bank() -> np.ndarray:
    """(T, F, S, S) uint8, F fields of each of the T classes."""
    fields = [
        [formula(np.random.default_rng((FIELD_SEED, t, f))) for f in range(FIELDS)]
        for t, formula in enumerate(formulas().values())
    ]
    return (np.clip(np.array(fields), 0, 1) * 255).astype(np.uint8)
