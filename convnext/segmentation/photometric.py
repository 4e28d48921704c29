"""Photometric distortion as mmsegmentation does it: brightness, contrast, saturation, hue, each in half of the cases.

Shapes: H x W pixels, 3 channels of 0 to 255.
"""

from __future__ import annotations

import numpy as np

BRIGHTNESS = 32.0  # added, either way
CONTRAST = SATURATION = (0.5, 1.5)  # factors
HUE = 18.0 / 180.0  # of the circle, either way: OpenCV's hues have 180 steps
WHITE = 255.0


def distorted(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 -> uint8; contrast comes before saturation and hue, or after."""
    x = pixels.astype(np.float32)
    if rng.random() < 0.5:
        x = _whole(x + rng.uniform(-BRIGHTNESS, BRIGHTNESS))
    contrast_last = rng.random() < 0.5
    if not contrast_last:
        x = _contrast(x, rng)
    if rng.random() < 0.5:
        x = _whole(saturated(x, rng.uniform(*SATURATION)))
    if rng.random() < 0.5:
        x = _whole(turned(x, rng.uniform(-HUE, HUE)))
    if contrast_last:
        x = _contrast(x, rng)
    return x.astype(np.uint8)


def saturated(x: np.ndarray, factor: float) -> np.ndarray:
    """(H, W, 3) -> the same with HSV's saturation times `factor`, at most 1; value and hue stay."""
    value = x.max(-1, keepdims=True)
    spread = value - x.min(-1, keepdims=True)
    most = np.divide(value, spread, out=np.ones_like(value), where=spread > 0)
    return value - (value - x) * np.minimum(factor, most)


def turned(x: np.ndarray, share: float) -> np.ndarray:
    """(H, W, 3) -> the same with HSV's hue moved by `share` of the circle; value and saturation stay."""
    value, low = x.max(-1), x.min(-1)
    spread = value - low
    safe = np.where(spread > 0, spread, 1)
    r, g, b = np.moveaxis(x, -1, 0)
    sector = np.where(
        value == r, (g - b) / safe % 6, np.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4)
    )  # of six
    sector = sector + 6 * share
    steps = (sector[..., None] + np.array((5.0, 3.0, 1.0), np.float32)) % 6  # red, green, blue
    return value[..., None] - spread[..., None] * np.minimum(steps, 4 - steps).clip(0, 1)


def _contrast(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _whole(x * np.float32(rng.uniform(*CONTRAST))) if rng.random() < 0.5 else x


def _whole(x: np.ndarray) -> np.ndarray:
    return np.trunc(x.clip(0, WHITE)).astype(np.float32)
