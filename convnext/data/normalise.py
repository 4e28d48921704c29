"""Pixels -> numbers that networks learn from, and what every evaluation protocol is written with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, SupportsFloat, SupportsInt, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LARGEST_SIDE = 4096  # pixels that a network may be shown; a picture of 1e6 x 1e6 would need terabytes
LONGEST_QUOTE = 200  # characters of somebody's value in a message
Triple = tuple[float, float, float]


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


def whole_number(value: object) -> int:
    """A number as an int. Raises ValueError or TypeError for a truth value, a fraction or something else."""
    if isinstance(value, bool | str):
        raise ValueError
    number = int(cast(SupportsInt, value))  # which raises TypeError for what is no number
    if number != value:
        raise ValueError
    return number


def real_number(value: object) -> float:
    """A number, or the text of one, as a float. Raises ValueError or TypeError for something else."""
    if not isinstance(value, str | SupportsFloat):
        raise TypeError
    return float(value)


def written(protocol: DataclassInstance) -> dict[str, object]:
    """A protocol as plain values; where it has no levels, as it was written before there were any."""
    values = asdict(protocol)
    return values if values["levels"] is not None else {name: values[name] for name in values if name != "levels"}


def mean_and_std(values: Mapping[str, object]) -> tuple[Triple, Triple]:
    """Both as three numbers. Raises KeyError, TypeError or ValueError where they cannot be what pictures are
    normalised with."""
    mean, std = _triple(values["mean"]), _triple(values["std"])
    if not all(isfinite(value) and abs(value) < LARGEST_SIDE for value in (*mean, *std)) or min(map(abs, std)) < 1e-6:
        raise ValueError
    return mean, std


def shortened(values: object) -> str:
    """What a message shows of a value that may be of any length."""
    text = str(values)
    return text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + " …"


def _triple(values: object) -> Triple:
    if not isinstance(values, Iterable):
        raise TypeError
    first, second, third = (float(value) for value in values)
    return first, second, third
