"""Pictures of more than 8 bits a channel: which of their values are black and white, and how 8 bits are made of them.

Files do not say how many of their bits a camera filled, so a data set's levels are measured once (level_scan.py) and
kept with the weights: read by its own brightness, a picture would look different from the same one in a darker file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite

import numpy as np

Levels = tuple[float, float]  # the values that become 0 and 255; what lies beyond is cut
DEPTHS = (8, 10, 12, 14, 16)  # bits: what cameras, scanners and microscopes store in 16
MISSING_BEYOND = 1e37  # floats that measure nothing: how maps mark pixels without a value
BAND_PIXELS = 1 << 22  # of a picture that is worked on in parts, so that what is made of a part stays small


def is_deep(mode: str) -> bool:
    """Whether Pillow's mode is greyscale of more than 8 bits; colours of 16 it has made 8 of by itself."""
    return mode.startswith("I") or mode == "F"


def levels_from(values: object) -> Levels | None:
    """Levels after JSON. Raises ValueError or TypeError for anything else than two rising numbers, or None."""
    if values is None:
        return None
    if not isinstance(values, Iterable):
        raise TypeError(f"{type(values).__name__!r} object is not iterable")
    low, high = (float(value) for value in values)
    if not (isfinite(low) and isfinite(high) and low < high):
        raise ValueError
    return low, high


def to_8_bit(values: np.ndarray, levels: Levels | None = None) -> np.ndarray:
    """Greyscale of more than 8 bits, (H, W) -> uint8, from `levels`; what lies beyond them is black or white.

    Without levels (None) integers are read as 16-bit, however dark, and floats as 0..1, else 0..255; what fits neither
    is stretched over its own range. Values that are not finite, or of a size that only marks what is missing, are
    black.
    """
    low, high = levels or _of_type(values)
    out = np.empty(values.shape, dtype=np.uint8)
    whole = values.dtype.kind != "f"
    shift = next((depth - 8 for depth in DEPTHS if whole and (low, high) == (0, (1 << depth) - 1)), None)
    for band, target in zip(bands(values), bands(out), strict=True):
        if shift is not None:
            target[...] = np.clip(band, 0, int(high)) >> shift
            continue
        known = np.where(counts(band), band, low).astype(np.float64).clip(low, high)
        np.rint((known - low) * 255 / max(high - low, 1e-12), out=target, casting="unsafe")
    return out


def usual(low: float, high: float, *, whole: bool) -> Levels:
    """The levels that values from `low` to `high` are usually stored with; of what fits none, these themselves."""
    ends: tuple[float, ...] = tuple((1 << depth) - 1 for depth in DEPTHS) if whole else (1.0, 255.0)
    if low >= 0 and high <= ends[-1]:
        return 0.0, float(next(end for end in ends if high <= end))
    return low, high


def counts(values: np.ndarray) -> np.ndarray:
    """Which values measure something."""
    return np.abs(values) < MISSING_BEYOND if values.dtype.kind == "f" else np.ones(values.shape, dtype=bool)


def bands(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """(H, W) or (H, W, C) as views of some rows each, for work whose memory would be many times the picture's."""
    rows = max(1, BAND_PIXELS // max(1, pixels.shape[1]))
    return (pixels[top : top + rows] for top in range(0, len(pixels), rows))


def _of_type(values: np.ndarray) -> Levels:
    """What a file's own values say."""
    ranges = [_range_of(band) for band in bands(values)]
    low, high = min(one[0] for one in ranges), max(one[1] for one in ranges)
    whole = values.dtype.kind != "f"
    most = (1 << DEPTHS[-1]) - 1
    return (0.0, float(most)) if whole and low >= 0 and high <= most else usual(low, high, whole=whole)


def _range_of(values: np.ndarray) -> Levels:
    known = values[counts(values)]
    return (float(known.min()), float(known.max())) if known.size else (np.inf, -np.inf)
