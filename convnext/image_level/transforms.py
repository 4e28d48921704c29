"""Picture -> tensor, for training: crops, mirrors, RandAugment, erasing.

All randomness of the training transform comes from the generator handed in, so that a sample's picture is a function of
(seed, epoch, index).
Shapes: 3 channels, S x S pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, log, sqrt

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..data.images import cropped
from ..data.normalise import IMAGENET_MEAN, IMAGENET_STD, Triple, to_tensor
from ..data.preprocess import FILTERS
from ..recipes.recipe import Augment
from .randaugment import RandAugment

ATTEMPTS = 10  # at a random crop or erased rectangle that fits, before giving up (torchvision, timm)
ERASE_AREA = (0.02, 1 / 3)  # share of the image (timm)
ERASE_ASPECT = (0.3, 1 / 0.3)
SHIFT_SHARE = 8  # a shift reaches an eighth of the side: 4 pixels of CIFAR's 32
Crop = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class TrainTransform:
    """Crop, flip, RandAugment, normalise, erase: the order of the official code."""

    augment: Augment
    size: int
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    policy: RandAugment | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.augment.randaugment > 0:
            red, green, blue = (round(255 * value) for value in self.mean)
            fill, a = (red, green, blue), self.augment
            object.__setattr__(self, "policy", RandAugment(a.randaugment, a.randaugment_std, a.randaugment_ops, fill))

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        """RGB image -> (3, S, S) float32, normalised."""
        image = self._cropped(image, rng)
        if rng.random() < self.augment.hflip:
            image = ImageOps.mirror(image)
        if self.policy is not None:
            image = self.policy(image, rng)
        tensor = to_tensor(image, self.mean, self.std)
        if rng.random() < self.augment.erase:
            erase(tensor, rng)
        return tensor

    def _cropped(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        if self.augment.crop == "resized":
            image = cropped(image, random_crop(image.width, image.height, self.augment.scale, self.augment.ratio, rng))
        if image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), FILTERS["bicubic"])
        return shifted(image, rng) if self.augment.crop == "shift" else image


def random_crop(
    width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> Crop:
    """A rectangle of an image: area uniform in `scale`, aspect log-uniform in `ratio`; torchvision's algorithm.

    When none of ten fits, the largest in the centre whose aspect lies in `ratio`.
    """
    for _ in range(ATTEMPTS):
        w, h = _rectangle(width * height * rng.uniform(*scale), ratio, rng)
        if 0 < w <= width and 0 < h <= height:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            return left, top, left + w, top + h
    w, h = min(width, max(1, round(height * ratio[1]))), min(height, max(1, round(width / ratio[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def shifted(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A square image moved by up to an eighth of its side, mirrored at the border: reflect-pad and crop in one."""
    reach = max(1, image.width // SHIFT_SHARE)
    down, right = (_reflected(image.width, int(shift)) for shift in rng.integers(-reach, reach + 1, size=2))
    return Image.fromarray(np.ascontiguousarray(np.asarray(image)[down][:, right]))


def _reflected(side: int, shift: int) -> np.ndarray:
    """The source position of each of `side` pixels after a shift of less than `side`."""
    last = side - 1
    return last - np.abs(last - np.abs(np.arange(side) + shift))


def erase(image: Tensor, rng: np.random.Generator) -> None:
    """Replaces one random rectangle of a (3, H, W) tensor by normal noise, in place (timm's "pixel" mode)."""
    _, height, width = image.shape
    for _ in range(ATTEMPTS):
        h, w = _rectangle(height * width * rng.uniform(*ERASE_AREA), ERASE_ASPECT, rng)
        if 0 < h < height and 0 < w < width:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            noise = rng.standard_normal((3, h, w), dtype=np.float32)
            image[:, top : top + h, left : left + w] = torch.from_numpy(noise)
            return


def _rectangle(area: float, aspects: tuple[float, float], rng: np.random.Generator) -> tuple[int, int]:
    """Two sides of about `area`, their quotient log-uniform in `aspects`."""
    aspect = exp(rng.uniform(log(aspects[0]), log(aspects[1])))
    return round(sqrt(area * aspect)), round(sqrt(area / aspect))
