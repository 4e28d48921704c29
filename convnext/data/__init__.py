"""Pictures in: what a Sample and a Batch are.

Shapes: N images, 3 channels, H x W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One labelled picture: `label` is a class index, of several labels a tuple of these, or a tuple of numbers."""

    image: Image.Image  # RGB, upright
    label: int | tuple[int, ...] | tuple[float, ...]
    id: str  # stable name: the path below the data folder, or "digits/17"


@dataclass(frozen=True)
class Batch:
    """`targets` is (N,) class indices, or (N, K) soft labels or numbers; `ids` lets any failure name its files."""

    images: Tensor  # (N, 3, H, W) float32, normalised
    targets: Tensor
    ids: tuple[str, ...]

    def to(self, device: torch.device, *, channels_last: bool = False) -> Batch:
        layout = torch.channels_last if channels_last else torch.preserve_format
        images = self.images.to(device, non_blocking=True, memory_format=layout)
        return Batch(images, self.targets.to(device, non_blocking=True), self.ids)
