"""Images that keep their shape: how detectors and segmenters are shown them.

Shapes: 3 channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import UserError
from .levels import Levels, levels_from
from .normalise import IMAGENET_MEAN, IMAGENET_STD, LARGEST_SIDE, Triple, mean_and_std, shortened, whole_number, written

LONGEST_SIDE = 4 * LARGEST_SIDE  # pixels of a long side: segmenters allow it four times the short one


@dataclass(frozen=True)
class KeepRatio:
    """An evaluation protocol: short side to `size`, long side at most `longest`."""

    size: int
    longest: int
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    levels: Levels | None = None  # of pictures of more than 8 bits; None: as their type says

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> KeepRatio:
        """What `to_dict` wrote, also after JSON. Raises UserError when it is something else."""
        try:
            mean, std = mean_and_std(values)
            size, longest = whole_number(values["size"]), whole_number(values["longest"])
            if not (1 <= size <= LARGEST_SIDE and 1 <= longest <= LONGEST_SIDE):
                raise ValueError
            return cls(size, longest, mean, std, levels_from(values.get("levels")))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            known = f"size (up to {LARGEST_SIDE}), longest (up to {LONGEST_SIDE}), mean and std"
            raise UserError(f"the stored preprocessing {shortened(values)} cannot be used; it needs {known}") from None

    def to_dict(self) -> dict[str, object]:
        return written(self)

    def __call__(self, image: Image.Image, scale: float = 1.0) -> Tensor:
        """RGB image -> (3, H, W) float32, normalised; `scale` multiplies both lengths."""
        short, longest = int(self.size * scale), int(self.longest * scale)
        return self.normalised(resized(pixels_of(image), size_keeping_ratio(image.size[::-1], short, longest)))

    def normalised(self, pixels: Tensor) -> Tensor:
        """(3, H, W) uint8 -> float32."""
        mean, std = torch.tensor(self.mean)[:, None, None], torch.tensor(self.std)[:, None, None]
        return (pixels.float() / 255 - mean) / std


def size_keeping_ratio(size: Sequence[int], short: int, longest: int) -> tuple[int, int]:
    """Height and width that keep the shape of `size`, with the short side at `short` and neither beyond `longest`."""
    scale = min(short / min(size), longest / max(size))
    height, width = (max(1, int(side * scale + 0.5)) for side in size)
    return height, width


def pixels_of(image: Image.Image) -> Tensor:
    """RGB image -> (3, H, W) uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, H, W) uint8 -> (3, *size) uint8, bilinear between pixel centres without smoothing, as OpenCV does."""
    if tuple(pixels.shape[-2:]) == size:
        return pixels
    return F.interpolate(pixels[None], size=size, mode="bilinear", align_corners=False)[0]
