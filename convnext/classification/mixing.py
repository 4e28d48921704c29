"""Mixup and CutMix on a batch -> soft labels; without either, smoothed labels.

One decision for the whole batch; an image's partner is its mirror in the batch order, so that in an odd batch the
middle image meets itself (timm's "batch" mode, which the official code uses).
Shapes: N images, 3 channels, H x W pixels, K classes.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import torch
from torch import Tensor

from ..recipes.recipe import Augment

Box = tuple[int, int, int, int]  # top, bottom, left, right


def mix(
    images: Tensor, targets: Tensor, num_classes: int, augment: Augment, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """(N, 3, H, W), and (N,) classes or (N, K) multi-hot labels -> images and (N, K) soft labels.

    Classes are smoothed, multi-hot labels are not. The input is left as it was.
    """
    soft = targets.float() if targets.ndim == 2 else smoothed_one_hot(targets, num_classes, augment.smoothing)
    if max(augment.mixup, augment.cutmix) <= 0 or rng.random() >= augment.mix_prob:
        return images, soft
    cut = augment.cutmix > 0 and (augment.mixup <= 0 or rng.random() < augment.switch_prob)
    alpha = augment.cutmix if cut else augment.mixup
    lam = float(rng.beta(alpha, alpha))
    if not cut:
        return blend(images, lam), blend(soft, lam)
    height, width = images.shape[-2:]
    box = random_box(height, width, lam, rng)
    return paste(images, box), blend(soft, kept_share(box, height, width))


def smoothed_one_hot(targets: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """(N,) classes -> (N, K): 1 - s + s / K on the class, s / K elsewhere."""
    off = smoothing / num_classes
    labels = torch.full((len(targets), num_classes), off, device=targets.device)
    return labels.scatter_(1, targets[:, None], 1 - smoothing + off)


def unsmoothed(soft: Tensor, smoothing: float) -> Tensor:
    """(N, K) smoothed labels, mixed or not -> (N, K) what they were before smoothing: mixing and smoothing are linear.

    With a smoothing of 1 the labels tell nothing, and are returned as they are.
    """
    return (soft - smoothing / soft.shape[-1]) / (1 - smoothing) if smoothing < 1 else soft


def blend(values: Tensor, lam: float) -> Tensor:
    """Mixup of images or labels: each row's share `lam`, the rest its partner's."""
    return values * lam + values.flip(0) * (1 - lam)


def paste(images: Tensor, box: Box) -> Tensor:
    """CutMix: the rectangle comes from the partner."""
    top, bottom, left, right = box
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
    return mixed


def random_box(height: int, width: int, lam: float, rng: np.random.Generator) -> Box:
    """A rectangle of area share 1 - lam around a uniform centre, clipped at the border.

    Odd sides lose a pixel, as in the timm the authors pin (0.3.2); newer versions keep it.
    """
    ratio = sqrt(1 - lam)
    half_h, half_w = int(height * ratio) // 2, int(width * ratio) // 2
    y, x = int(rng.integers(height)), int(rng.integers(width))
    return max(0, y - half_h), min(height, y + half_h), max(0, x - half_w), min(width, x + half_w)


def kept_share(box: Box, height: int, width: int) -> float:
    """Lambda recomputed from the clipped rectangle."""
    top, bottom, left, right = box
    return 1 - (bottom - top) * (right - left) / (height * width)
