"""The loss of boxes, generalised intersection over union; computed in fp32 whatever the boxes' type."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-7  # square pixels; keeps the overlap of empty boxes defined (mmdetection)


def giou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """1 - generalised intersection over union (Rezatofighi et al., 2019) of (R, 4) and (R, 4) boxes -> (R,).

    The overlap less the share of the smallest enclosing box that neither covers: boxes apart are drawn together.
    """
    boxes, targets = boxes.float(), targets.float()
    shared = _product(torch.minimum(boxes[:, 2:], targets[:, 2:]) - torch.maximum(boxes[:, :2], targets[:, :2]))
    union = (_product(boxes[:, 2:] - boxes[:, :2]) + _product(targets[:, 2:] - targets[:, :2]) - shared).clamp(EPS)
    outer = torch.maximum(boxes[:, 2:], targets[:, 2:]) - torch.minimum(boxes[:, :2], targets[:, :2])
    enclosing = _product(outer).clamp(EPS)
    return 1 - shared / union + (enclosing - union) / enclosing


def _product(sides: Tensor) -> Tensor:
    """(R, 2) widths and heights -> (R,) areas; a negative side makes none."""
    return sides.clamp(0).prod(1)
