"""Networks of a few thousand parameters, for tests of weights and files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, Unpack

import torch
from narrow import instance_of
from torch import Tensor, nn

from convnext import create_model
from convnext.models.convnext import ConvNeXt

Weights = dict[str, Tensor]


class ModelOptions(TypedDict, total=False):
    """Keyword arguments of `create_model`."""

    num_classes: int
    in_chans: int
    drop_path_rate: float
    drop_rate: float
    layer_scale_init_value: float
    head_init_scale: float
    patch_size: int
    depths: Sequence[int]
    dims: Sequence[int]
    stem: str
    out_norms: bool
    features_only: bool
    out_indices: Sequence[int]


SMALL: ModelOptions = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32), "num_classes": 5}


def small(seed: int = 0, **options: Unpack[ModelOptions]) -> ConvNeXt:
    torch.manual_seed(seed)
    model = instance_of(ConvNeXt, create_model("convnext_atto", **SMALL | options))
    with torch.no_grad():
        for value in model.parameters():
            value.normal_()
    return model


def state(seed: int = 0, **options: Unpack[ModelOptions]) -> Weights:
    return dict(small(seed, **options).state_dict())


def same(model: nn.Module, weights: Weights) -> bool:
    return all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def prefixed(weights: Weights, prefix: str) -> Weights:
    return {prefix + name: value for name, value in weights.items()}
