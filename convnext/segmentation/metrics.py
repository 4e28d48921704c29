"""Intersection over union and pixel accuracy: a counter that adds up across pictures and processes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..reports.intervals import Interval, resampled


class SegmentationCounter:
    """Pixels by their true and predicted class: (K, K), true classes in rows."""

    def __init__(self, num_classes: int) -> None:
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Counts (H, W) predicted and true labels; pixels whose truth is negative are left out."""
        classes = len(self.confusion)
        counted = truth >= 0
        cells = truth[counted].long() * classes + predicted[counted].long()
        self.confusion += torch.bincount(cells, minlength=classes**2).view(classes, classes)

    def state(self) -> Tensor:
        """Everything counted so far, as one vector."""
        return self.confusion.double().flatten()

    def load(self, state: Tensor) -> None:
        """Takes over the counts of a `state()`, or of a sum of them."""
        self.confusion.copy_(state.view_as(self.confusion))

    def iou(self) -> Tensor:
        """(K,) intersection over union of each class in percent; not a number for those neither there nor predicted."""
        hits = self.confusion.diagonal().double()
        return 100 * hits / (self.confusion.sum(0) + self.confusion.sum(1) - hits)

    def result(self) -> dict[str, float]:
        """mIoU over the classes that are there or predicted, pixel accuracy, mean accuracy of the classes there."""
        hits, there = self.confusion.diagonal().double(), self.confusion.sum(1)
        accuracy = (100 * hits / there)[there > 0]
        iou = self.iou()
        iou = iou[~iou.isnan()]
        return {
            "miou": float(iou.mean()) if len(iou) else 0.0,
            "aacc": 100 * float(hits.sum() / there.sum().clamp_min(1)),
            "macc": float(accuracy.mean()) if len(accuracy) else 0.0,
        }


def of_segmenter(hits: np.ndarray, there: np.ndarray, said: np.ndarray) -> dict[str, Interval]:
    """By drawing the images anew, as pixels of one image are no news of each other; all (M, K) counts of pixels."""
    classes = hits.shape[1]

    def miou(totals: np.ndarray) -> np.ndarray:
        right = totals[:, :classes]
        union = totals[:, classes : 2 * classes] + totals[:, 2 * classes :] - right
        return np.asarray(100 * (right / np.maximum(union, 1)).sum(1) / np.maximum((union > 0).sum(1), 1))

    def accuracy(totals: np.ndarray) -> np.ndarray:
        return np.asarray(100 * totals[:, :classes].sum(1) / np.maximum(totals[:, classes : 2 * classes].sum(1), 1))

    return resampled(np.concatenate([hits, there, said], 1), {"miou": miou, "aacc": accuracy})
