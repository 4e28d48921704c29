"""Parameter groups against timm's: the same decaying set, and the same depth groups where timm has them."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from convnext.recipes.recipe import AdamW
from convnext.training.optim import parameter_groups
from convnext.weights.backbone import create_model

NAMES = ["convnext_tiny", "convnext_base", "convnext_isotropic_small", "torchvision:resnet18"]


def build(name: str) -> nn.Module:
    dims = None if ":" in name or "isotropic" in name else (4, 4, 4, 4)
    with torch.device("meta"):
        return create_model(name, num_classes=5, dims=dims)


def names_of(model: nn.Module, group: dict[str, Any]) -> set[str]:
    by_identity = {id(parameter): name for name, parameter in model.named_parameters()}
    return {by_identity[id(parameter)] for parameter in group["params"]}


@pytest.mark.parametrize("name", NAMES)
def test_the_decaying_set_equals_timms(name: str) -> None:
    model = build(name)
    theirs = {group["weight_decay"]: names_of(model, group) for group in param_groups_weight_decay(model, 0.05)}
    ours = {group.weight_decay: set(group.names) for group in parameter_groups(model, AdamW(weight_decay=0.05))}
    assert ours == theirs


def test_the_decaying_set_of_a_frozen_backbone_equals_timms() -> None:
    model = build("convnext_tiny")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("stages.0"))
    theirs = {group["weight_decay"]: names_of(model, group) for group in param_groups_weight_decay(model, 0.05)}
    assert {group.weight_decay: set(group.names) for group in parameter_groups(model, AdamW())} == theirs


@pytest.mark.parametrize("name", ["convnext_tiny", "convnext_base"])
def test_blocks_are_ordered_as_timm_orders_them(name: str) -> None:
    """timm gives every block a depth of its own where the official code takes three together: the order must agree."""
    groups = parameter_groups(build(name), AdamW(layer_decay=0.8))
    ours = {tuple(n.split(".")[1:3]): g.lr_scale for g in groups for n in g.names if n.startswith("stages.")}
    with torch.device("meta"):
        model = timm.create_model(name, dims=(4, 4, 4, 4), num_classes=5)
    theirs: dict[tuple[str, ...], float] = {}
    for group in param_groups_layer_decay(model, layer_decay=0.8):
        blocks = (n.split(".") for n in names_of(model, group) if ".blocks." in n)
        theirs |= {(stage, block): group["lr_scale"] for _, stage, _, block, *_ in blocks}
    assert theirs.keys() == ours.keys()
    assert len(set(theirs.values())) == len(theirs) > len(set(ours.values()))
    scales = [ours[block] for block in sorted(theirs, key=lambda block: theirs[block])]
    assert scales == sorted(scales)


@pytest.mark.parametrize("name", ["convnext_tiny", "convnext_base"])
def test_the_head_moves_at_the_full_rate_as_timms_does(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, dims=(4, 4, 4, 4), num_classes=5)
    (theirs,) = {
        group["lr_scale"]
        for group in param_groups_layer_decay(model, layer_decay=0.8)
        if "head.fc.weight" in names_of(model, group)
    }
    (ours,) = {
        group.lr_scale
        for group in parameter_groups(build(name), AdamW(layer_decay=0.8))
        if "head.weight" in group.names
    }
    assert ours == theirs == 1
