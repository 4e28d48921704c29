"""The distance of predicted from true numbers, in units of the targets' spread; missing ones count for nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

LossName = Literal["huber", "l1", "mse"]
LOSSES: dict[str, Callable[..., Tensor]] = {
    "huber": F.smooth_l1_loss,  # with its corner at one standard deviation (Huber 1964)
    "l1": F.l1_loss,
    "mse": F.mse_loss,
}


def regression_loss(predicted: Tensor, targets: Tensor, spread: Tensor, kind: str, present: Tensor) -> Tensor:
    """Mean over targets of the mean over the pictures that have one; in fp32.

    (N, T) predictions and targets, (T,) standard deviations, and `present` (T,): the share of all pictures that have
    each number. So the means are over N times that share, whatever the batch holds: a batch in parts, on any number of
    processes, teaches what the whole one does.
    """
    there = ~targets.isnan()
    differences = (predicted.float() - targets.where(there, predicted.detach().float())) / spread
    errors = LOSSES[kind](differences, differences.new_zeros(()).expand_as(differences), reduction="none")
    return ((errors * there).mean(0) / present).mean()
