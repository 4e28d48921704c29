"""What a network costs: parameters and multiply-adds, counted on meta tensors, beside the published figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .models.roadmap import build
from .recipes.roadmap import STEPS, SWIN, Reading

AGREES = 0.0055  # GFLOPs: a printed figure has two decimals
FLOPS_PER_MULTIPLY_ADD = 2  # torch's counter has both; the paper's FLOPs are multiply-adds


@dataclass(frozen=True)
class Cost:
    """Of one network: trainable values, and multiply-adds of convolutions and linear layers for one image."""

    parameters: int
    multiply_adds: int

    @property
    def gmacs(self) -> float:
        """Multiply-adds in units of 10^9: what the paper prints as GFLOPs."""
        return self.multiply_adds / 1e9


def count(make: Callable[[], nn.Module], image_size: int = 224) -> Cost:
    """The cost of the network that `make` builds, for one (3, image_size, image_size) image; nothing is computed."""
    with torch.device("meta"):
        model, image = make().eval(), torch.empty(1, 3, image_size, image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(parameters, counter.get_total_flops() // FLOPS_PER_MULTIPLY_ADD)


def roadmap_rows(regimes: Iterable[str] = tuple(STEPS), reading: Reading | None = None) -> list[dict[str, Any]]:
    """Tables 10 and 11: a row a step, our counted multiply-adds and parameters beside what was printed."""
    rows: list[dict[str, Any]] = []
    for regime in regimes:
        for index, step in enumerate(STEPS[regime]):
            cost = count(lambda regime=regime, index=index: build(regime, index, reading=reading))  # type: ignore[misc]
            difference = cost.gmacs - step.gflops
            rows.append({
                "regime": regime, "step": index, "change": step.name,
                "top-1 (paper)": step.top1, "std (paper)": step.std,
                "GFLOPs (paper)": step.gflops, "GFLOPs (counted)": round(cost.gmacs, 4),
                "difference": round(difference, 4), "agrees": abs(difference) < AGREES,
                "parameters": cost.parameters, "note": step.note,
            })  # fmt: skip
        name, gflops, top1 = SWIN[regime]
        rows.append(
            {"regime": regime, "change": f"{name} (as published)", "top-1 (paper)": top1, "GFLOPs (paper)": gflops}
        )
    return rows
