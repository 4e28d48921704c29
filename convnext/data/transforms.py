"""Picture -> tensor: the training transform, and the evaluation protocol that is stored with the weights.

All randomness of the training transform comes from the generator handed in, so that a sample's picture is a function of
(seed, epoch, index).
Shapes: 3 channels, S x S pixels, V views.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import lru_cache
from math import exp, isfinite, log, sqrt
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import UserError
from ..recipe import Augment
from ..variants import CROP_FRACTION, WARP_FROM_SIZE, WHOLE_BELOW_SIZE
from .images import cropped
from .levels import Levels, levels_from
from .randaugment import RandAugment

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FILTERS = {
    name: Image.Resampling[name.upper()] for name in ("bicubic", "bilinear", "lanczos", "nearest", "box", "hamming")
}
MODES = ("crop", "squash", "warp", "whole")
LARGEST_SIDE = 4096  # pixels that a network may be shown; a picture of 1e6 x 1e6 would need terabytes
LARGEST_MARGIN = 2 * LARGEST_SIDE  # what it may be cut from
ATTEMPTS = 10  # at a random crop or erased rectangle that fits, before giving up (torchvision, timm)
ERASE_AREA = (0.02, 1 / 3)  # share of the image (timm)
ERASE_ASPECT = (0.3, 1 / 0.3)
SHIFT_SHARE = 8  # a shift reaches an eighth of the side: 4 pixels of CIFAR's 32
LONGEST_QUOTE = 200  # characters of somebody's value in a message
LONGEST_STRIP = 16  # long side over short; enlarging a 1 x 30000 strip before the centre crop would need gigabytes
Triple = tuple[float, float, float]
Crop = tuple[int, int, int, int]  # left, top, right, bottom
Mode = Literal["crop", "squash", "warp", "whole"]


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
    halves: Literal["even", "first"] = "even"
    levels: Levels | None = None

    @classmethod
    def for_size(cls, size: int, mean: Triple = IMAGENET_MEAN, std: Triple = IMAGENET_STD) -> Preprocess:
        """The protocol at a resolution: whole below 128 pixels, crop below 384, warp from there on."""
        mode: Mode = "whole" if size < WHOLE_BELOW_SIZE else "crop" if size < WARP_FROM_SIZE else "warp"
        return cls(size, mode, mean, std)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        """What `to_dict` wrote, also after JSON; `crop`, `halves` and `levels` may be missing. Raises UserError when it
        is something else, or asks for sides beyond LARGEST_SIDE."""
        try:
            mode, interpolation, halves = values["mode"], values["interpolation"], values.get("halves", "even")
            size, crop = whole_number(values["size"]), float(values.get("crop", CROP_FRACTION))
            mean, std = mean_and_std(values)
            if mode not in MODES or interpolation not in FILTERS or halves not in ("even", "first"):
                raise ValueError
            if not (1 <= size <= LARGEST_SIDE and 0 < crop <= 1 and size / crop <= LARGEST_MARGIN):
                raise ValueError
            return cls(size, mode, mean, std, interpolation, crop, halves, levels_from(values.get("levels")))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            known = f"size (up to {LARGEST_SIDE}), mode ({', '.join(MODES)}), interpolation ({', '.join(FILTERS)})"
            raise UserError(
                f"the stored preprocessing {shortened(values)} cannot be used; it needs {known}, mean and std"
            ) from None

    def to_dict(self) -> dict[str, Any]:
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


def to_tensor(image: Image.Image, mean: Triple, std: Triple) -> Tensor:
    """RGB image -> (3, H, W) float32, (value / 255 - mean) / std; a table look-up, as there are only 256 values."""
    pixels = np.asarray(image)  # (H, W, 3)
    out = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
    for channel, table in enumerate(_tables(mean, std)):
        np.take(table, pixels[..., channel], out=out[channel], mode="clip")  # "clip" writes to `out` without a buffer
    return torch.from_numpy(out)


@lru_cache(maxsize=8)
def _tables(mean: Triple, std: Triple) -> np.ndarray:
    """(3, 256) float32: what each byte becomes."""
    values = torch.arange(256, dtype=torch.float32) / 255
    return ((values - torch.tensor(mean)[:, None]) / torch.tensor(std)[:, None]).numpy()


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


def _middle(image: Image.Image, longest: int) -> Image.Image:
    width, height = min(image.width, longest), min(image.height, longest)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return cropped(image, (left, top, left + width, top + height))


def whole_number(value: Any) -> int:
    """A number as an int. Raises ValueError or TypeError for a truth value, a fraction or something else."""
    if isinstance(value, bool | str) or int(value) != value:
        raise ValueError
    return int(value)


def written(protocol: Any) -> dict[str, Any]:
    """A protocol as plain values; where it has no levels, as it was written before there were any."""
    values = asdict(protocol)
    return values if values["levels"] is not None else {name: values[name] for name in values if name != "levels"}


def mean_and_std(values: dict[str, Any]) -> tuple[Triple, Triple]:
    """Both as three numbers. Raises KeyError, TypeError or ValueError where they cannot be what pictures are
    normalised with."""
    mean, std = _triple(values["mean"]), _triple(values["std"])
    if not all(isfinite(value) and abs(value) < LARGEST_SIDE for value in (*mean, *std)) or min(map(abs, std)) < 1e-6:
        raise ValueError
    return mean, std


def shortened(values: Any) -> str:
    """What a message shows of a value that may be of any length."""
    text = str(values)
    return text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + " …"


def _triple(values: Any) -> Triple:
    first, second, third = (float(value) for value in values)
    return first, second, third
