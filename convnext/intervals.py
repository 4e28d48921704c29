"""95 % intervals of an evaluation's figures: how far they may be from those of all pictures like the judged ones.

They speak of other pictures of the same kind, not of another training run. Figures that no sound method is known for
(calibration error, average precision) have none. Shapes: M pictures, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .metrics import Z95, ClassificationCounter, MultiLabelCounter, accuracy_interval

Interval = tuple[float, float]
SURE = (100.0, 100.0)  # of the true class among as many as there are
LEAST_LOSSES = (
    100  # below these the interval of a mean loss, which few pictures decide, holds too seldom what it should
)
DRAWS, CELLS = 1000, 20_000_000  # resamples; of M x figures, beyond which none is drawn


def of_classifier(counter: ClassificationCounter, losses: Sequence[float]) -> dict[str, Interval]:
    """Exact for hits, as on the page; normal for the mean over classes and, of enough pictures, for the loss."""
    count = len(losses)
    hits, support, _ = counter.classes.double().numpy()
    found = {f"top{k}": accuracy_interval(float(counter.sums[i]), count) if k < len(hits) else SURE
             for i, k in enumerate(counter.top)}  # fmt: skip
    found["mean_class_accuracy"] = _of_class_mean(hits[support > 0], support[support > 0])
    if count >= LEAST_LOSSES:
        spread = Z95 * float(np.std(losses, ddof=1)) / math.sqrt(count)
        found["loss"] = (max(0.0, float(np.mean(losses)) - spread), float(np.mean(losses)) + spread)
    return found


def _of_class_mean(hits: np.ndarray, support: np.ndarray) -> Interval:
    """The normal one of the mean share of hits over classes.

    A class of which all are right is no certainty, so each share is drawn towards a half; where a class has one or two
    pictures that is less than their own spread, which is then that of a share drawn towards all classes'.
    """
    half_way = (hits + 1) / (support + 2)
    common = (hits.sum() + 1) / (support.sum() + 2)
    pooled = (hits + 2 * common) / (support + 2)
    variance = np.maximum(half_way * (1 - half_way) / (support + 2), pooled * (1 - pooled) / support)
    mean, half = 100 * float((hits / support).mean()), 100 * Z95 * math.sqrt(float(variance.sum())) / len(hits)
    return max(0.0, mean - half), min(100.0, mean + half)


def of_labels(counter: MultiLabelCounter, hits: np.ndarray, seen: np.ndarray) -> dict[str, Interval]:
    """Exact for images with every label right; F1 by drawing the images anew.

    `hits` (M, K): labels that are there and were found; `seen` (M, K): there, plus found.
    """
    found = {"exact_match": accuracy_interval(float(counter.sums[1]), int(counter.sums[0]))}
    classes = hits.shape[1]

    def macro(totals: np.ndarray) -> np.ndarray:
        right, either = totals[:, :classes], totals[:, classes:]
        f1 = 200 * right / np.maximum(either, 1)
        return np.asarray((f1 * (either > 0)).sum(1) / np.maximum((either > 0).sum(1), 1))

    def micro(totals: np.ndarray) -> np.ndarray:
        return np.asarray(200 * totals[:, :classes].sum(1) / np.maximum(totals[:, classes:].sum(1), 1))

    counts = np.concatenate([hits, seen], 1)
    return found | _resampled(counts, {"macro_f1": macro, "micro_f1": micro})


def of_segmenter(hits: np.ndarray, there: np.ndarray, said: np.ndarray) -> dict[str, Interval]:
    """By drawing the images anew, as pixels of one image are no news of each other; all (M, K) counts of pixels."""
    classes = hits.shape[1]

    def miou(totals: np.ndarray) -> np.ndarray:
        right = totals[:, :classes]
        union = totals[:, classes : 2 * classes] + totals[:, 2 * classes :] - right
        return np.asarray(100 * (right / np.maximum(union, 1)).sum(1) / np.maximum((union > 0).sum(1), 1))

    def accuracy(totals: np.ndarray) -> np.ndarray:
        return np.asarray(100 * totals[:, :classes].sum(1) / np.maximum(totals[:, classes : 2 * classes].sum(1), 1))

    return _resampled(np.concatenate([hits, there, said], 1), {"miou": miou, "aacc": accuracy})


def flat(result: dict[str, Any]) -> dict[str, Any]:
    """An evaluation as one row of a table: ends of intervals behind their figures, no classes."""
    intervals = result.get("intervals", {})
    row: dict[str, Any] = {}
    for name, value in result.items():
        if name not in ("intervals", "classes"):
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
        elif name not in ("intervals", "classes"):
            places = 4 if name == "loss" else 1
            ends = " to ".join(f"{end:.{places}f}" for end in intervals.get(name, ()))
            lines.append(f"{name:20}{value:10.4f}" + (f"   95 % interval {ends}" if ends else ""))
    return "\n".join(lines)


def _resampled(counts: np.ndarray, figures: dict[str, Callable[[np.ndarray], np.ndarray]]) -> dict[str, Interval]:
    """Of figures of the sums of (M, F) counts; none of one picture, or of more than can be drawn in seconds.

    Where classes are rare, a figure of pictures drawn anew is lower than that of the pictures themselves, which is
    itself as much lower than the truth: the middle lies as far above the figure as the mean of the draws below it. The
    half width is the normal one of their spread, and the figure lies within.
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
        found[name] = (max(0.0, min(value, middle - half)), min(100.0, max(value, middle + half)))
    return found
