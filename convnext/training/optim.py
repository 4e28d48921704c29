"""Parameter groups and the optimiser: which parameters decay, and at what share of the learning rate each one moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..recipe import AdamW

LayerId = Callable[[str], int]


@dataclass(frozen=True)
class Group:
    """Parameters that share a depth group and whether they decay."""

    layer: int
    lr_scale: float
    weight_decay: float
    names: tuple[str, ...]


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Weight decay spares every vector (norms, biases, layer scale) and whatever is called bias; all else decays."""
    return parameter.ndim > 1 and not name.endswith(".bias")


def parameter_groups(model: nn.Module, settings: AdamW) -> list[Group]:
    """Groups of the trainable parameters, shallow first.

    With `layer_decay`, the model's `layer_id` says how deep each parameter lies and its rate is decay^(last - id)
    (recipes_precisely sections 2 and 3). A model without `layer_id`, such as a baseline, is one group.
    """
    layer_of, last = _layer_ids(model, settings)
    rows: dict[tuple[int, bool], list[str]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rows.setdefault((layer_of(name), decays(name, parameter)), []).append(name)
    scale = settings.layer_decay if settings.layer_decay is not None else 1.0
    return [
        Group(layer, scale ** (last - layer), settings.weight_decay if decay else 0.0, tuple(names))
        for (layer, decay), names in sorted(rows.items())
    ]


def make_optimiser(model: nn.Module, settings: AdamW) -> torch.optim.AdamW:
    """AdamW over the groups, in its fastest form; each group remembers its `lr_scale`."""
    named = dict(model.named_parameters())
    groups: list[dict[str, Any]] = [
        {
            "params": [named[name] for name in group.names],
            "lr_scale": group.lr_scale,
            "weight_decay": group.weight_decay,
        }
        for group in parameter_groups(model, settings)
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr * group["lr_scale"]


def _layer_ids(model: nn.Module, settings: AdamW) -> tuple[LayerId, int]:
    if settings.layer_decay is None or not hasattr(model, "layer_id"):
        return (lambda name: 0), 0
    return (lambda name: model.layer_id(name, settings.layer_rule)), int(model.num_layer_ids) - 1  # type: ignore[operator, arg-type]
