"""Untrained networks, ImageNet's names, and the types of the fixtures, for the tests of robustness."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import torch
from small_models import ModelOptions

import convnext
from convnext.catalog.class_lists import imagenet1k
from convnext.data.preprocess import Preprocess
from convnext.robustness import suites

SYNSETS = [synset for synset, _ in imagenet1k()]
SHAPE: ModelOptions = {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}
ALEXNET = suites.alexnet_errors()


class MakeClasses(Protocol):
    """The fixture `folder`."""

    def __call__(self, name: str, counts: dict[str, int], size: tuple[int, int] = ...) -> Path: ...


class MakeCorrupted(Protocol):
    """The fixture `corrupted`."""

    def __call__(
        self,
        name: str,
        corruptions: Iterable[str],
        severities: Iterable[float | str] = ...,
        size: tuple[int, int] = ...,
    ) -> Path: ...


def save(path: Path, *, bias: dict[int, float] | None = None, size: int = 32, classes: int = 1000) -> Path:
    """An untrained network; with `bias` one that gives every picture the same answer, by those logits."""
    torch.manual_seed(0)
    model = convnext.create_model("convnext_atto", **SHAPE | {"num_classes": classes})
    if bias is not None:
        with torch.no_grad():
            model.get_parameter("head.weight").zero_()
            model.get_parameter("head.bias").fill_(-9)
            for index, value in bias.items():
                model.get_parameter("head.bias")[index] = value
    return convnext.save_weights(model, path, metadata={"preprocess": json.dumps(Preprocess.for_size(size).to_dict())})
