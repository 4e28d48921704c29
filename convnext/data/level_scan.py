"""Which values are black and white in a data set's pictures of more than 8 bits: measured once, on a sample of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .images import BadImage, deep_values, read_header
from .levels import DEPTHS, Levels, counts, is_deep, usual
from .splits import Pictures

SAMPLE = 200  # pictures whose header is read; those of more than 8 bits among them are decoded …
LEAST, MOST_PIXELS = 20, 100_000_000  # … but of large pictures only so many as have these pixels, and at least LEAST
LOOKED_AT = 1 << 22  # pixels of one picture
# What may lie beyond the levels, so that a dead pixel, or one picture of another kind, does not make all others dark: a
# share of each picture's pixels, smaller than the objects of one, and a share of the pictures.
STRAY, ODD = 1e-4, 0.01
MARK = (1 << DEPTHS[-1]) - 1  # the end of the type, which pixels without a value and burned-in letters have


@dataclass(frozen=True)
class Measured:
    """What a sample of a data set's pictures says; without `levels` (None) each is read as its type says."""

    levels: Levels | None
    why: str


@dataclass(frozen=True)
class _Seen:
    """The values of one picture, but for its stray ones."""

    whole: bool
    low: float
    high: float


def measured_on(source: Pictures) -> Measured | None:
    """The levels of a source's pictures; None where none of a sample holds more than 8 bits, or they are no files."""
    if source.arrays is not None or source.drawn:
        return None
    return measured(len(source), source.path)


def measured(count: int, path_of: Callable[[int], str | Path]) -> Measured | None:
    """As `measured_on`, of so many files."""
    sample = [path_of(i) for i in _spread(count, SAMPLE)]
    deep = _deep(sample)
    if not deep:
        return None
    share = f"{len(deep):,} of {len(sample):,} sampled pictures hold more than 8 bits"
    most = max(LEAST, round(MOST_PIXELS / float(np.median([pixels for _, pixels in deep]))))
    with ThreadPoolExecutor() as pool:
        looked = list(pool.map(_seen, [deep[i][0] for i in _spread(len(deep), most)]))
    seen = [one for one in looked if one is not None]
    if not seen:
        return None
    kinds = [[one for one in seen if one.whole], [one for one in seen if not one.whole]]
    found = {_levels_of(mine): mine for mine in kinds if mine}
    if len(found) > 1:
        return Measured(
            None, f"{share}, whole numbers beside fractions of another range: each is read as its type says"
        )
    return Measured(next(iter(found)), f"{share}{_described(seen, next(iter(found)))}")


def _spread(count: int, most: int) -> Iterable[int]:
    """At most so many positions, evenly spaced."""
    taken = min(count, most)
    return (i * count // taken for i in range(taken))


def _deep(paths: Sequence[str | Path]) -> list[tuple[str | Path, int]]:
    """Those of more than 8 bits, with their pixels; whoever needs a picture says that it cannot be read."""
    found = []
    for path in paths:
        try:
            header = read_header(path)
        except BadImage:
            continue
        if is_deep(header.mode):
            found.append((path, header.size[0] * header.size[1]))
    return found


def _seen(path: str | Path) -> _Seen | None:
    """None for a picture that cannot be read, or has no value that counts."""
    try:
        values = deep_values(path, LOOKED_AT)
    except BadImage:
        return None
    whole = values.dtype.kind != "f"
    known = values[counts(values)]
    if whole and values.size and values.min() >= 0:
        known = known[known != MARK]
        known = np.zeros(1) if not known.size else known
    if not known.size:
        return None
    stray = int(STRAY * known.size)
    ordered = np.partition(known, sorted({stray, known.size - 1 - stray}))
    return _Seen(whole, float(ordered[stray]), float(ordered[known.size - 1 - stray]))


def _levels_of(seen: Sequence[_Seen]) -> Levels:
    """The usual levels that hold all but the odd pictures."""
    odd = int(ODD * len(seen))
    low, high = sorted(one.low for one in seen)[odd], sorted(one.high for one in seen)[len(seen) - 1 - odd]
    low, high = usual(low, high, whole=seen[0].whole)
    low, high = float(f"{low:.6g}"), float(f"{high:.6g}")
    return low, high if high > low else low + 1


def _described(seen: Sequence[_Seen], levels: Levels) -> str:
    """To go on after how many pictures were looked at."""
    low, high = min(one.low for one in seen), max(one.high for one in seen)
    bits = next((f", as {depth} bits have" for depth in DEPTHS if levels == (0, (1 << depth) - 1)), "")
    said = f", with values from {low:,.6g} to {high:,.6g}: {levels[0]:,.6g} is black and {levels[1]:,.6g} white{bits}"
    beyond = sum(one.low < levels[0] or one.high > levels[1] for one in seen)
    return said + (f"; what lies beyond is cut, in {beyond:,} of them" if beyond else "")
