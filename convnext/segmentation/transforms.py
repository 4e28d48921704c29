"""Pictures with masks -> what a segmenter learns from: sizes, crops, mirror images, colours; whole batches.

All randomness comes from the generator handed in. Shapes: N images, 3 channels, H x W pixels, S side of a crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data.keep_ratio import KeepRatio, pixels_of, resized, size_keeping_ratio
from ..recipes.recipe import Segmentation
from .data import SegmentationSample, SegmentationSource
from .mask_coding import IGNORED
from .photometric import distorted

TRIES = 10  # crops that are looked at for one that is not nearly all one class

T = TypeVar("T")


@dataclass(frozen=True)
class SegmentationTransform:
    """The training transform: at a random size, cropped, mirrored in half of the cases, in other colours, padded."""

    rules: Segmentation
    preprocess: KeepRatio

    def __call__(self, sample: SegmentationSample, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """-> (3, S, S) normalised, (S, S) int64 labels, IGNORED where there is no picture."""
        side = self.preprocess.size
        scale = rng.uniform(*self.rules.scale)
        before = sample.labels.shape
        size = size_keeping_ratio(before, int(side * scale), int(self.preprocess.longest * scale))
        pixels, labels = resized(pixels_of(sample.image), size), nearest(sample.labels, size)
        top, left = self._corner(labels, side, rng)
        pixels, labels = pixels[:, top : top + side, left : left + side], labels[top : top + side, left : left + side]
        if rng.random() < self.rules.hflip:
            pixels, labels = pixels.flip(-1), labels[:, ::-1]
        if self.rules.photometric:
            changed = distorted(pixels.permute(1, 2, 0).numpy(), rng)
            pixels = torch.from_numpy(changed).permute(2, 0, 1)
        image = self.preprocess.normalised(pixels)
        height, width = labels.shape
        padded = torch.zeros(3, side, side)
        padded[:, :height, :width] = image
        target = torch.full((side, side), IGNORED, dtype=torch.int64)
        target[:height, :width] = torch.from_numpy(labels.astype(np.int64))
        return padded, target

    def _corner(self, labels: np.ndarray, side: int, rng: np.random.Generator) -> tuple[int, int]:
        """Of ten crops the first in which no class has more than its share, else an eleventh, whatever it shows, as
        mmsegmentation's `cat_max_ratio` takes it."""
        room = (max(labels.shape[0] - side, 0) + 1, max(labels.shape[1] - side, 0) + 1)
        top, left = (int(rng.integers(0, size)) for size in room)
        for _ in range(TRIES if self.rules.most_of_one_class < 1 else 0):
            part = labels[top : top + side, left : left + side]
            counts = np.bincount(part[part != IGNORED])
            counts = counts[counts > 0]
            if len(counts) > 1 and counts.max() < self.rules.most_of_one_class * counts.sum():
                break
            top, left = (int(rng.integers(0, size)) for size in room)
        return top, left


def nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) -> `size`: of each place the label that lies there, as OpenCV's nearest neighbour takes it."""
    rows, columns = (
        np.minimum(np.arange(new) * (old / new), old - 1).astype(int)
        for new, old in zip(size, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]


@dataclass(frozen=True)
class SegmentationBatch:
    """Crops of one size, their labels, and what the pictures are called."""

    images: Tensor  # (N, 3, S, S) float32, normalised
    targets: Tensor  # (N, S, S) int64
    ids: tuple[str, ...]

    def to(self, device: torch.device, *, channels_last: bool = False) -> SegmentationBatch:
        layout = torch.channels_last if channels_last else torch.preserve_format
        images = self.images.to(device, non_blocking=True, memory_format=layout)
        return SegmentationBatch(images, self.targets.to(device, non_blocking=True), self.ids)


class PlainMasks(Dataset[SegmentationSample]):
    """A source as it is: a test resizes a picture itself, perhaps several times."""

    def __init__(self, source: SegmentationSource) -> None:
        self.source = source

    def __getitem__(self, index: int) -> SegmentationSample:
        return self.source[index]

    def __len__(self) -> int:
        return len(self.source)


def collated(rows: list[tuple[Tensor, Tensor, str]]) -> SegmentationBatch:
    images, targets, ids = zip(*rows, strict=True)
    return SegmentationBatch(torch.stack(images), torch.stack(targets), ids)


def first_only(rows: list[T]) -> T:
    """A batch of one is that one."""
    return rows[0]
