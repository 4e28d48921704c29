"""Parameter groups and the optimiser: which parameters decay, at what share of the learning rate each one moves, and
which are Muon's (Keller Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from torch import nn

from ..recipes.recipe import AdamW

LayerId = Callable[[str], int]
NETWORK = "network."  # before the names of a whole network in a model of a task
HEADS = ("head.", "heads.", "fc.", "classifier.")  # how the classifiers of ours and of the baselines are called


@dataclass(frozen=True)
class Group:
    """Parameters that share a depth group and whether they decay."""

    layer: int
    lr_scale: float
    weight_decay: float
    names: tuple[str, ...]
    muon: bool = False


class Layered(Protocol):
    """A model that knows the depth groups of its parameters."""

    def layer_id(self, name: str, rule: str) -> int: ...


class CombinedOptimizer:
    """AdamW and Muon behind one optimiser's face; each moves its own groups."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part, values in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(values)


Optimiser = torch.optim.Optimizer | CombinedOptimizer


def is_head(name: str) -> bool:
    """Whether a parameter belongs to the head of a network, which may stand in a task's model."""
    return name.removeprefix(NETWORK).startswith(HEADS)


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Weight decay spares every vector (norms, biases, layer scale) and whatever is called bias; all else decays."""
    return parameter.ndim > 1 and not name.endswith(".bias")


def parameter_groups(model: nn.Module, settings: AdamW) -> list[Group]:
    """Groups of the trainable parameters, shallow first.

    With `layer_decay`, the model's `layer_id` says how deep each parameter lies and its rate is decay^(last - id)
    (official code: optim_factory.py for classifiers, the layer-decay constructors of object_detection/ and
    semantic_segmentation/). A model without `layer_id`, such as a baseline, is one group. With `muon`, the
    matrices but the classifier's are groups of their own, at that many times the rate.
    """
    layer_of, last = _layer_ids(model, settings)
    rows: dict[tuple[int, bool, bool], list[str]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            muon = settings.muon is not None and parameter.ndim == 2 and not is_head(name)
            rows.setdefault((layer_of(name), decays(name, parameter), muon), []).append(name)
    scale = settings.layer_decay if settings.layer_decay is not None else 1.0
    groups = [
        Group(layer, scale ** (last - layer), settings.weight_decay if decay else 0.0, tuple(names), muon)
        for (layer, decay, muon), names in sorted(rows.items())
    ]
    return [replace(g, lr_scale=g.lr_scale * settings.muon) if g.muon and settings.muon else g for g in groups]


def make_optimiser(model: nn.Module, settings: AdamW) -> Optimiser:
    """AdamW over the groups, in its fastest form, and Muon over its own; each group remembers its `lr_scale`.

    Muon's steps are scaled to the size of AdamW's (0.2 sqrt(larger side); Liu et al., "Muon is scalable", 2025).
    """
    named = dict(model.named_parameters())
    adamw: list[dict[str, object]] = []
    muon: list[dict[str, object]] = []
    for group in parameter_groups(model, settings):
        parameters = [named[name] for name in group.names]
        row = {"params": parameters, "lr_scale": group.lr_scale, "weight_decay": group.weight_decay}
        (muon if group.muon else adamw).append(row)
    first = torch.optim.AdamW(adamw, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)
    return (
        CombinedOptimizer(first, torch.optim.Muon(muon, lr=settings.lr, adjust_lr_fn="match_rms_adamw"))
        if muon
        else first
    )


def set_lr(optimiser: Optimiser, lr: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr * group["lr_scale"]


def _layer_ids(model: nn.Module, settings: AdamW) -> tuple[LayerId, int]:
    if settings.layer_decay is None or not hasattr(getattr(model, "body", model), "layer_id"):
        return (lambda name: 0), 0

    layered = cast(Layered, model)

    def layer_of(name: str) -> int:
        return layered.layer_id(name, settings.layer_rule)

    return layer_of, layer_of("head")
