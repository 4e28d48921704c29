"""Top-k, calibration, per-class figures: counters that add up across batches and processes; no communication in here.

A counter's `state()` is one float64 vector: the sum of two states is the state over both sets of images, so a task adds
them up over its processes and loads the sum. Counts stay exact up to 2^53. Shapes: N images, K classes. All figures are
in percent, but for losses and counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..reports.intervals import SURE, Interval, resampled
from ..system.shares import Z95, accuracy_interval

CALIBRATION_BINS = 15  # of equal width, closed on the right (Guo et al. 2017, section 2)
CONFUSION_UP_TO = 5000  # classes: 22K classes would make the matrix 4 GB, so only its diagonal and margins are kept
SMALLEST = torch.finfo(torch.float32).tiny  # softmax underflows to 0; one such image must not make the loss infinite


def calibration(confidence: Tensor, correct: Tensor) -> Tensor:
    """(M,) confidences in [0, 1] and (M,) outcomes, 0 or 1 -> (3, bins): count, sum of confidence, sum of outcomes."""
    bins = (confidence * CALIBRATION_BINS).ceil().long().sub_(1).clamp_(0, CALIBRATION_BINS - 1)
    rows = torch.stack([torch.ones_like(confidence), confidence, correct.to(confidence)]).double()
    return torch.zeros(3, CALIBRATION_BINS, dtype=torch.float64).index_add_(1, bins, rows)


def calibration_error(bins: Tensor) -> float:
    """Expected calibration error in percent: the gap of confidence and accuracy, averaged over bins by their count."""
    return 100 * float((bins[1] - bins[2]).abs().sum() / bins[0].sum().clamp_min(1))


class ClassificationCounter:
    """Sums over (N, K) probabilities and (N,) class indices.

    `classes` holds each class's hits, support and predictions; `confusion` is (K, K) with true classes in rows, or None
    beyond 5,000 classes; `bins` are those of `calibration`.
    """

    def __init__(self, num_classes: int, top: Sequence[int] = (1, 5)) -> None:
        self.num_classes, self.top = num_classes, tuple(top)
        self.classes = torch.zeros(3, num_classes, dtype=torch.int64)
        shape = (num_classes, num_classes)
        self.confusion = torch.zeros(shape, dtype=torch.int64) if num_classes <= CONFUSION_UP_TO else None
        self.bins = torch.zeros(3, CALIBRATION_BINS, dtype=torch.float64)
        self.sums = torch.zeros(len(self.top) + 1, dtype=torch.float64)  # top-k hits, negative log-likelihood

    def update(self, probabilities: Tensor, targets: Tensor) -> None:
        """Counts (N, K) probabilities and (N,) int64 targets, both on the CPU."""
        p = probabilities.double()
        confidence, best = p.topk(min(max(1, *self.top), self.num_classes))
        predicted = best[:, 0]
        hit = best == targets[:, None]
        for row, members in zip(self.classes, (targets[hit[:, 0]], targets, predicted), strict=True):
            row += torch.bincount(members, minlength=self.num_classes)
        if self.confusion is not None:
            cells = targets * self.num_classes + predicted
            self.confusion.view(-1).index_add_(0, cells, torch.ones_like(cells))
        self.bins += calibration(confidence[:, 0], hit[:, 0])
        own = p.gather(1, targets[:, None]).clamp_min(SMALLEST)
        self.sums += torch.stack([*(hit[:, :k].sum().double() for k in self.top), -own.log().sum()])

    def state(self) -> Tensor:
        """Everything counted so far, as one vector."""
        return torch.cat([part.double().flatten() for part in self._parts()])

    def load(self, state: Tensor) -> None:
        """Takes over the counts of a `state()`, or of a sum of them."""
        parts = self._parts()
        for part, values in zip(parts, state.split([part.numel() for part in parts]), strict=True):
            part.copy_(values.view_as(part))

    def result(self) -> dict[str, float]:
        """top1, top5 (of at most K), mean class accuracy (of classes with images), loss, ECE, count; 0 when empty."""
        count, divisor = int(self.classes[1].sum()), max(1, int(self.classes[1].sum()))
        hits, support = self.classes[0].double(), self.classes[1].double()
        recall = (hits / support)[support > 0]
        return {
            **{f"top{k}": 100 * float(self.sums[i]) / divisor for i, k in enumerate(self.top)},
            "mean_class_accuracy": 100 * float(recall.sum()) / max(1, len(recall)),
            "loss": float(self.sums[-1]) / divisor,
            "ece": calibration_error(self.bins),
            "count": count,
        }

    def _parts(self) -> list[Tensor]:
        matrix = [] if self.confusion is None else [self.confusion]
        return [self.classes, *matrix, self.bins, self.sums]


class MultiLabelCounter:
    """Sums over (N, K) probabilities and multi-hot targets; a class is predicted from 0.5 on.

    `classes` holds each class's hits, support and predictions; `bins` those of `calibration`, each label on its own.
    """

    def __init__(self, num_classes: int) -> None:
        self.classes = torch.zeros(3, num_classes, dtype=torch.int64)
        self.bins = torch.zeros(3, CALIBRATION_BINS, dtype=torch.float64)
        self.sums = torch.zeros(4, dtype=torch.float64)  # images, exact ones, wrong labels over K, cross-entropy over K

    def update(self, probabilities: Tensor, targets: Tensor) -> None:
        """Counts (N, K) probabilities and (N, K) targets of 0 and 1, both on the CPU."""
        p, true, predicted = probabilities.double(), targets > 0.5, probabilities >= 0.5
        self.classes += torch.stack([(predicted & true).sum(0), true.sum(0), predicted.sum(0)])
        self.bins += calibration(p.flatten(), true.flatten())
        wrong = predicted != true
        loss = F.binary_cross_entropy(p, true.double(), reduction="none").mean(1).sum()  # torch bounds the log at -100
        figures = [torch.tensor(len(p)), (~wrong.any(1)).sum(), wrong.double().mean(1).sum(), loss]
        self.sums += torch.stack([figure.double() for figure in figures])

    def state(self) -> Tensor:
        """Everything counted so far, as one vector."""
        return torch.cat([self.classes.double().flatten(), self.bins.flatten(), self.sums])

    def load(self, state: Tensor) -> None:
        """Takes over the counts of a `state()`, or of a sum of them."""
        classes, bins, sums = state.split([self.classes.numel(), self.bins.numel(), self.sums.numel()])
        self.classes = classes.view_as(self.classes).round().long()
        self.bins, self.sums = bins.view_as(self.bins), sums

    def result(self) -> dict[str, float]:
        """Macro and micro F1, exact matches, Hamming loss (share of wrong labels), loss, ECE, count; 0 when empty.

        Macro F1 leaves out classes that neither occur nor are predicted.
        """
        hits, seen = self.classes[0].double(), (self.classes[1] + self.classes[2]).double()
        f1 = (2 * hits / seen)[seen > 0]
        count, divisor = int(self.sums[0]), max(1, int(self.sums[0]))
        return {
            "macro_f1": 100 * float(f1.sum()) / max(1, len(f1)),
            "micro_f1": 200 * float(hits.sum()) / max(1.0, float(seen.sum())),
            "exact_match": 100 * float(self.sums[1]) / divisor,
            "hamming": 100 * float(self.sums[2]) / divisor,
            "loss": float(self.sums[3]) / divisor,
            "ece": calibration_error(self.bins),
            "count": count,
        }


class ClassRow(TypedDict):
    """The pictures of one class, and its precision, recall and F1 in percent."""

    support: int
    precision: float
    recall: float
    f1: float


def class_rows(hits: np.ndarray, support: np.ndarray, predicted: np.ndarray) -> list[ClassRow]:
    """(K,) counts of each class -> its support, precision, recall and F1; 0 where nothing was there to divide by."""
    precision = 100 * hits / np.maximum(predicted, 1)
    recall = 100 * hits / np.maximum(support, 1)
    f1 = 200 * hits / np.maximum(support + predicted, 1)
    return [
        {"support": int(s), "precision": float(p), "recall": float(r), "f1": float(f)}
        for s, p, r, f in zip(support, precision, recall, f1, strict=True)
    ]


def per_class(confusion: np.ndarray) -> list[ClassRow]:
    """`class_rows` of a (K, K) confusion matrix with true classes in rows."""
    return class_rows(np.diag(confusion), confusion.sum(1), confusion.sum(0))


LEAST_LOSSES = 100  # below these the interval of a mean loss, which few pictures decide, holds too seldom


def of_classifier(counter: ClassificationCounter, losses: Sequence[float]) -> dict[str, Interval]:
    """Exact for hits, as on the page; normal for the mean over classes and, of enough pictures, for the loss."""
    count = len(losses)
    hits, support, _ = counter.classes.double().numpy()
    found = {
        f"top{k}": accuracy_interval(float(counter.sums[i]), count) if k < len(hits) else SURE
        for i, k in enumerate(counter.top)
    }
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
    return found | resampled(counts, {"macro_f1": macro, "micro_f1": micro})
