"""Networks of a few thousand parameters, for tests of weights and files."""

from typing import Any

import torch
from torch import Tensor, nn

from convnext import create_model

SMALL: dict[str, Any] = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32), "num_classes": 5}
Weights = dict[str, Tensor]


def small(seed: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    model = create_model("convnext_atto", **SMALL | options)
    with torch.no_grad():
        for value in model.parameters():
            value.normal_()
    return model


def state(seed: int = 0, **options: Any) -> Weights:
    return dict(small(seed, **options).state_dict())


def same(model: nn.Module, weights: Weights) -> bool:
    return all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def prefixed(weights: Weights, prefix: str) -> Weights:
    return {prefix + name: value for name, value in weights.items()}
