"""The cases on which the segmenter is compared with mmsegmentation: used by the tests and by the fixtures' script."""

from __future__ import annotations

import numpy as np
import torch
from detector_cases import numbers
from torch import Tensor

CHANNELS, WIDTH, CLASSES = (8, 16, 24, 32), 16, 5
SIZES = ((19, 26), (10, 13), (5, 7), (3, 4))  # of the four maps of an image of odd sides
IMAGE = (75, 101)


def maps() -> list[Tensor]:
    """Four maps of two images."""
    return [numbers(f"seg map {i}", 2, c, *size) for i, (c, size) in enumerate(zip(CHANNELS, SIZES, strict=True))]


def labels() -> Tensor:
    """(2, H, W) labels, a fifth of them -1."""
    drawn = torch.from_numpy(np.random.RandomState(7).randint(-1, CLASSES, (2, *IMAGE)))
    return drawn.long()


def picture() -> np.ndarray:
    """(H, W, 3) uint8 with smooth colours, grey and black."""
    y, x = np.mgrid[:40, :60]
    pixels = np.stack((x * 4, y * 6, 255 - x * 2 - y * 3), -1).clip(0, 255)
    pixels[:5], pixels[5:8] = 0, 128
    return pixels.astype(np.uint8)
