"""How far predicted numbers are from the true ones: MAE, RMSE, R², Spearman's rank correlation, each with an interval.

Shapes: N pictures, T targets; a target that is not a number is missing, and its picture does not count for it.
"""

from __future__ import annotations

import math
from typing import Literal, TypedDict

import numpy as np

from ..reports.intervals import Interval, resampled
from ..system.shares import Z95

FIGURES: tuple[Literal["r2", "mae", "rmse", "spearman"], ...] = ("r2", "mae", "rmse", "spearman")
ROUNDING = 1e-9  # of a sum of squares, which differences of equal numbers leave
LEAST_RANKED = 4  # pictures: Fisher's transformation divides by the root of three fewer


def figures_of(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """(N,) predictions and values that are there -> R², MAE, RMSE, Spearman's rho.

    R² is 1 - squared errors over squared distances from the mean of these values, at most 1, below 0 for worse than
    that mean; where all values are the same it is 1 for no error and 0 else, as scikit-learn has it. Of ties the ranks
    are averaged; rho is 0 where either side has one value.
    """
    if not len(true):
        return dict.fromkeys(FIGURES, 0.0)
    errors = predicted - true
    squared, spread = float((errors**2).sum()), float(((true - true.mean()) ** 2).sum())
    constant = bool(np.all(true == true[0]))
    r2 = float(squared == 0) if constant else 1 - squared / spread
    return {
        "r2": r2,
        "mae": float(np.abs(errors).mean()),
        "rmse": math.sqrt(squared / len(true)),
        "spearman": _correlation(_ranks(predicted), _ranks(true)),
    }


class TargetRow(TypedDict):
    """The figures of one target, and how many pictures they are of."""

    target: str
    count: int
    r2: float
    mae: float
    rmse: float
    spearman: float


def rows_of(predicted: np.ndarray, true: np.ndarray, targets: tuple[str, ...]) -> list[TargetRow]:
    """(N, T) predictions and values -> of each target its figures, and how many pictures they are of."""
    rows = []
    for k, name in enumerate(targets):
        there = ~np.isnan(true[:, k])
        found = figures_of(predicted[there, k], true[there, k])
        rows.append(
            TargetRow(
                target=name,
                count=int(there.sum()),
                r2=found["r2"],
                mae=found["mae"],
                rmse=found["rmse"],
                spearman=found["spearman"],
            )
        )
    return rows


def result_of(rows: list[TargetRow], pictures: int) -> dict[str, float]:
    """The figures of one target; of several the means of those without a unit."""
    if len(rows) == 1:
        return {name: rows[0][name] for name in FIGURES} | {"count": pictures}
    judged = [row for row in rows if row["count"]]
    names: tuple[Literal["r2", "spearman"], ...] = ("r2", "spearman")
    means = {name: sum(row[name] for row in judged) / max(1, len(judged)) for name in names}
    return means | {"count": pictures}


def intervals_of(predicted: np.ndarray, true: np.ndarray) -> dict[str, Interval]:
    """95 % intervals of `figures_of`: pictures drawn anew; of rho Fisher's, with the variance of Bonett and Wright."""
    if len(true) < LEAST_RANKED:
        return {}
    errors, centred = predicted - true, true - true.mean()
    sums = np.stack([np.ones_like(errors), np.abs(errors), errors**2, centred, centred**2], 1)

    def r2(totals: np.ndarray) -> np.ndarray:
        count, _, squared, first, second = totals.T
        spread = second - first**2 / count
        varied = spread > ROUNDING * second  # a draw of one value says nothing of R²
        whole = figures_of(predicted, true)["r2"]
        return np.where(varied, 1 - squared / np.where(varied, spread, 1.0), whole)

    def mae(totals: np.ndarray) -> np.ndarray:
        return np.asarray(totals[:, 1] / totals[:, 0])

    def rmse(totals: np.ndarray) -> np.ndarray:
        return np.asarray(np.sqrt(totals[:, 2] / totals[:, 0]))

    found = {} if np.all(true == true[0]) else resampled(sums, {"r2": r2}, -math.inf, 1.0)
    found |= resampled(sums, {"mae": mae, "rmse": rmse}, 0.0, math.inf)
    rho = figures_of(predicted, true)["spearman"]
    if abs(rho) < 1:
        middle, half = math.atanh(rho), Z95 * math.sqrt((1 + rho**2 / 2) / (len(true) - 3))
        found["spearman"] = (math.tanh(middle - half), math.tanh(middle + half))
    return found


def _ranks(values: np.ndarray) -> np.ndarray:
    """(N,) -> their ranks, those of equal values averaged."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[place])


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    a, b = one - one.mean(), other - other.mean()
    size = math.sqrt(float((a**2).sum()) * float((b**2).sum()))
    return float((a * b).sum()) / size if size else 0.0
