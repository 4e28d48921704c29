"""The evaluation protocol of a classifier, which is stored with its weights: picture -> tensor.

Shapes: 3 channels, S x S pixels, V views.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..catalog.variants import CROP_FRACTION, WARP_FROM_SIZE, WHOLE_BELOW_SIZE
from ..errors import UserError
from .images import cropped
from .levels import Levels, levels_from
from .normalise import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LARGEST_SIDE,
    Triple,
    mean_and_std,
    real_number,
    shortened,
    to_tensor,
    whole_number,
    written,
)

FILTERS = {
    name: Image.Resampling[name.upper()] for name in ("bicubic", "bilinear", "lanczos", "nearest", "box", "hamming")
}
Mode = Literal["crop", "squash", "warp", "whole"]
Halves = Literal["even", "first"]
MODES: tuple[Mode, ...] = ("crop", "squash", "warp", "whole")
HALVES: tuple[Halves, ...] = ("even", "first")
LARGEST_MARGIN = 2 * LARGEST_SIDE  # what it may be cut from
LONGEST_STRIP = 16  # long side over short; enlarging a 1 x 30000 strip before the centre crop would need gigabytes
T = TypeVar("T")


@dataclass(frozen=True)
class Preprocess:
    """How a trained model is shown an image of any size (official evaluation; "whole" is ours, for small images).

    "crop": short side to size / `crop`, then the centre; "squash": both sides, then the centre; "warp" and "whole":
    resize to a square. `halves` says which of two pixels is taken where the centre lies between them: the even one, as
    torchvision and timm do, or the first, as transformers does. `levels` are what is black and white in pictures of
    more than 8 bits, to open them with (None: as their type says).
    """

    size: int
    mode: Mode
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    interpolation: str = "bicubic"  # one of FILTERS
    crop: float = CROP_FRACTION
    halves: Halves = "even"
    levels: Levels | None = None

    @classmethod
    def for_size(cls, size: int, mean: Triple = IMAGENET_MEAN, std: Triple = IMAGENET_STD) -> Preprocess:
        """The protocol at a resolution: whole below 128 pixels, crop below 384, warp from there on."""
        mode: Mode = "whole" if size < WHOLE_BELOW_SIZE else "crop" if size < WARP_FROM_SIZE else "warp"
        return cls(size, mode, mean, std)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Preprocess:
        """What `to_dict` wrote, also after JSON; `crop`, `halves` and `levels` may be missing. Raises UserError when it
        is something else, or asks for sides beyond LARGEST_SIDE."""
        try:
            mode, interpolation = _one_of(MODES, values["mode"]), _one_of(FILTERS, values["interpolation"])
            halves = _one_of(HALVES, values.get("halves", "even"))
            size, crop = whole_number(values["size"]), real_number(values.get("crop", CROP_FRACTION))
            mean, std = mean_and_std(values)
            if not (1 <= size <= LARGEST_SIDE and 0 < crop <= 1 and size / crop <= LARGEST_MARGIN):
                raise ValueError
            return cls(size, mode, mean, std, interpolation, crop, halves, levels_from(values.get("levels")))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            known = f"size (up to {LARGEST_SIDE}), mode ({', '.join(MODES)}), interpolation ({', '.join(FILTERS)})"
            raise UserError(
                f"the stored preprocessing {shortened(values)} cannot be used; it needs {known}, mean and std"
            ) from None

    def to_dict(self) -> dict[str, object]:
        return written(self)

    def __call__(self, image: Image.Image) -> Tensor:
        """RGB image -> (3, S, S) float32, normalised."""
        return to_tensor(self.resize(image), self.mean, self.std)

    def resize(self, image: Image.Image) -> Image.Image:
        """The S x S picture that the model sees."""
        if self.mode in ("warp", "whole"):
            return self._to(image, (self.size, self.size))
        wide, rounded = self.margined(image), round if self.halves == "even" else int
        left, top = rounded((wide.width - self.size) / 2), rounded((wide.height - self.size) / 2)
        return wide.crop((left, top, left + self.size, top + self.size))

    def margined(self, image: Image.Image) -> Image.Image:
        """The image larger than the model's by 1 / `crop`: what the five crops are cut from."""
        short = int(self.size / self.crop)
        if self.mode != "crop":
            return self._to(image, (short, short))
        image = _middle(image, LONGEST_STRIP * min(image.size))
        width, height = image.size
        if width <= height:
            return self._to(image, (short, int(short * height / width)))
        return self._to(image, (int(short * width / height), short))

    def _to(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        return image if image.size == size else image.resize(size, FILTERS[self.interpolation])


def views(image: Image.Image, preprocess: Preprocess, *, flip: bool = False, crops: int = 1) -> Tensor:
    """Several views of an RGB image, for averaging -> (V, 3, S, S): the protocol's, the corners, mirrored.

    `crops` is 1, or 5 with the corners; `flip` doubles the number. Raises UserError for other numbers of crops.
    """
    if crops not in (1, 5):
        raise UserError(f"crops {crops} is not one of 1 (the centre) and 5 (and the corners)")
    pictures = [preprocess.resize(image)]
    if crops == 5:
        size, wide = preprocess.size, preprocess.margined(image)
        corners = [(x, y) for y in (0, wide.height - size) for x in (0, wide.width - size)]
        pictures += [wide.crop((x, y, x + size, y + size)) for x, y in corners]
    if flip:
        pictures += [ImageOps.mirror(picture) for picture in pictures]
    return torch.stack([to_tensor(picture, preprocess.mean, preprocess.std) for picture in pictures])


def _one_of(known: Iterable[T], value: object) -> T:
    for one in known:
        if one == value:
            return one
    raise ValueError


def _middle(image: Image.Image, longest: int) -> Image.Image:
    width, height = min(image.width, longest), min(image.height, longest)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return cropped(image, (left, top, left + width, top + height))
