"""95 % intervals of an evaluation's figures: how far they may be from those of all pictures like the judged ones.

They speak of other pictures of the same kind, not of another training run. Figures that no sound method is known for
(calibration error, average precision) have none. Shapes: M pictures, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..system.shares import Z95

Interval = tuple[float, float]
SURE = (100.0, 100.0)  # of the true class among as many as there are
DRAWS, CELLS = 1000, 20_000_000  # resamples; of M x figures, beyond which none is drawn


TABLES = ("classes", "targets")  # parts of an evaluation that are rows
WITH_UNIT = ("mae", "rmse")  # that of the numbers themselves, which may be of any size
WITHOUT_PERCENT = ("loss", "r2", "mae", "rmse", "spearman")


def flat(result: dict[str, Any]) -> dict[str, Any]:
    """An evaluation as one row of a table: ends of intervals behind their figures, no classes."""
    intervals = result.get("intervals", {})
    row: dict[str, Any] = {}
    for name, value in result.items():
        if name not in ("intervals", *TABLES):
            row[name] = value
            if name in intervals:
                row |= dict(zip((f"{name}_low", f"{name}_high"), intervals[name], strict=True))
    return row


def as_lines(result: dict[str, Any]) -> str:
    """An evaluation for people, without what can be nothing else: a true class among the first five of five."""
    intervals, lines = result.get("intervals", {}), []
    for name, value in result.items():
        if name == "count":
            lines.append(f"{name:20}{int(value):10d}")
        elif name.startswith("top") and tuple(intervals.get(name, ())) == SURE:
            continue
        elif name not in ("intervals", *TABLES):
            form = ".4g" if name in WITH_UNIT else ".4f" if name in WITHOUT_PERCENT else ".1f"
            ends = " to ".join(f"{end:{form}}" for end in intervals.get(name, ()))
            lines.append(
                f"{name:20}{value:{'10.4g' if name in WITH_UNIT else '10.4f'}}"
                + (f"   95 % interval {ends}" if ends else "")
            )
    return "\n".join(lines)


def resampled(
    counts: np.ndarray, figures: dict[str, Callable[[np.ndarray], np.ndarray]], least: float = 0.0, most: float = 100.0
) -> dict[str, Interval]:
    """Of figures of the sums of (M, F) counts; none of one picture, or of more than can be drawn in seconds.

    Where classes are rare, a figure of pictures drawn anew is lower than that of the pictures themselves, which is
    itself as much lower than the truth: the middle lies as far above the figure as the mean of the draws below it. The
    half width is the normal one of their spread, and the figure lies within; none is below `least` or above `most`.
    """
    pictures = len(counts)
    if pictures < 2 or counts.size > CELLS:
        return {}
    weights = np.random.default_rng(0).multinomial(pictures, np.full(pictures, 1 / pictures), size=DRAWS)
    totals = weights.astype(np.float64) @ counts
    found: dict[str, Interval] = {}
    for name, figure in figures.items():
        value, drawn = float(figure(counts.sum(0, dtype=np.float64)[None])[0]), figure(totals)
        middle, half = 2 * value - float(drawn.mean()), Z95 * float(drawn.std())
        found[name] = (max(least, min(value, middle - half)), min(most, max(value, middle + half)))
    return found
