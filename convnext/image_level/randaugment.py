"""RandAugment as the paper used it: timm's "increasing" set of fifteen operations, `rand-m9-mstd0.5-inc1`.

Per image, two operations are drawn with replacement; each is applied with probability 0.5, at a level drawn from
N(9, 0.5) and clipped to [0, 10]. All randomness comes from the generator handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

MAX_LEVEL = 10.0
APPLY_PROBABILITY = 0.5
SOLARIZE_ADD_BELOW = 128  # brighter values are left alone
BICUBIC = Image.Resampling.BICUBIC
Fill = tuple[int, int, int]
MEAN_COLOUR: Fill = (124, 116, 104)  # ImageNet's mean in 0..255


@dataclass(frozen=True)
class Operation:
    """`strength` turns a level, as a share of the highest, into the operation's unit; a signed one may be negated."""

    strength: Callable[[float], float]
    apply: Callable[[Image.Image, float, Fill], Image.Image]
    signed: bool = False


def _fixed(change: Callable[[Image.Image], Image.Image]) -> Operation:
    return Operation(lambda share: 0.0, lambda image, strength, fill: change(image))


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    def apply(image: Image.Image, strength: float, fill: Fill) -> Image.Image:
        return kind(image).enhance(max(0.1, 1.0 + strength))

    return Operation(lambda share: 0.9 * share, apply, signed=True)


def _table(strength: Callable[[float], float], new_value: Callable[[int, int], int]) -> Operation:
    def apply(image: Image.Image, strength: float, fill: Fill) -> Image.Image:
        return image.point([new_value(value, int(strength)) for value in range(256)] * 3)

    return Operation(strength, apply)


def _affine(limit: float, matrix: Callable[[float, Image.Image], tuple[float, ...]]) -> Operation:
    def apply(image: Image.Image, strength: float, fill: Fill) -> Image.Image:
        numbers = matrix(strength, image)
        return image.transform(image.size, Image.Transform.AFFINE, numbers, resample=BICUBIC, fillcolor=fill)

    return Operation(lambda share: limit * share, apply, signed=True)


def _rotate(image: Image.Image, degrees: float, fill: Fill) -> Image.Image:
    return image.rotate(degrees, BICUBIC, fillcolor=fill)


def _keep_bits(value: int, bits: int) -> int:
    return value & (0xFF00 >> bits)  # 0 bits is black; Pillow 13's own posterize refuses it


def _add_to_dark(value: int, amount: int) -> int:
    return min(255, value + amount) if value < SOLARIZE_ADD_BELOW else value


OPERATIONS: dict[str, Operation] = {
    "AutoContrast": _fixed(ImageOps.autocontrast),
    "Equalize": _fixed(ImageOps.equalize),
    "Invert": _fixed(ImageOps.invert),
    "Rotate": Operation(lambda share: 30.0 * share, _rotate, signed=True),
    "PosterizeIncreasing": _table(lambda share: 4 - int(share * 4), _keep_bits),
    "SolarizeIncreasing": _table(lambda share: 256 - int(share * 256), lambda v, limit: v if v < limit else 255 - v),
    "SolarizeAdd": _table(lambda share: int(share * 110), _add_to_dark),
    "ColorIncreasing": _enhance(ImageEnhance.Color),
    "ContrastIncreasing": _enhance(ImageEnhance.Contrast),
    "BrightnessIncreasing": _enhance(ImageEnhance.Brightness),
    "SharpnessIncreasing": _enhance(ImageEnhance.Sharpness),
    "ShearX": _affine(0.3, lambda s, image: (1, s, 0, 0, 1, 0)),
    "ShearY": _affine(0.3, lambda s, image: (1, 0, 0, s, 1, 0)),
    "TranslateXRel": _affine(0.45, lambda s, image: (1, 0, s * image.width, 0, 1, 0)),
    "TranslateYRel": _affine(0.45, lambda s, image: (1, 0, 0, 0, 1, s * image.height)),
}
NAMES = tuple(OPERATIONS)


def apply_op(
    name: str, image: Image.Image, level: float, *, negative: bool = False, fill: Fill = MEAN_COLOUR
) -> Image.Image:
    """One operation at a level in [0, 10] on an RGB image; `negative` mirrors a signed one. Deterministic."""
    operation = OPERATIONS[name]
    strength = operation.strength(level / MAX_LEVEL)
    return operation.apply(image, -strength if negative and operation.signed else strength, fill)


@dataclass(frozen=True)
class RandAugment:
    """The policy: `ops` operations at levels around `magnitude`; `fill` is the colour of what a shift uncovers."""

    magnitude: float = 9.0
    std: float = 0.5
    ops: int = 2
    fill: Fill = MEAN_COLOUR

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        for choice in rng.integers(len(NAMES), size=self.ops):
            if rng.random() < APPLY_PROBABILITY:
                level = min(MAX_LEVEL, max(0.0, rng.normal(self.magnitude, self.std)))
                image = apply_op(NAMES[choice], image, level, negative=rng.random() < 0.5, fill=self.fill)
        return image
