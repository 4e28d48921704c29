"""The paper's Table 9: what the three networks it compares are made of, read off the networks themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from ..weights.backbone import create_model
from .costs import count

IMAGE_SIZE = 224


@dataclass(frozen=True)
class Parts:
    """Under which names a kind of network keeps its stem and its stages, and how its maps lie in memory."""

    name: str
    stem: tuple[str, ...]
    stages: tuple[str, ...]
    channels_last: bool = False


NETWORKS = {
    "ResNet-50": Parts("torchvision:resnet50", ("conv1", "maxpool"), ("layer1", "layer2", "layer3", "layer4")),
    "ConvNeXt-T": Parts("convnext_tiny", ("downsample_layers.0",), ("stages.0", "stages.1", "stages.2", "stages.3")),
    "Swin-T": Parts(
        "torchvision:swin_t", ("features.0",), ("features.1", "features.3", "features.5", "features.7"), True
    ),
}


def architecture_rows() -> list[dict[str, str | None]]:
    """Table 9: stem and four stages of ResNet-50, ConvNeXt-T and Swin-T, a column each, and what they cost.

    A block is its layers in order, "k x k, channels", "d" before a depthwise kernel; "[…] x n" are n alike. Shortcuts
    and the layers between stages stand in no row, as in the paper.
    """
    rows = [{"stage": name} for name in ("stem", "res2", "res3", "res4", "res5")]
    costs = [{"stage": "GFLOPs"}, {"stage": "M parameters"}]
    for network, parts in NETWORKS.items():
        with torch.device("meta"):
            model = create_model(parts.name).eval()
        stem, stages = ([model.get_submodule(name) for name in names] for names in (parts.stem, parts.stages))
        sizes = _output_sizes(model, stages, parts.channels_last)
        rows[0][network] = ", ".join(text for part in stem for text in _layers(part, strides=True))
        for row, stage, size in zip(rows[1:], stages, sizes, strict=True):
            row["output"] = f"{size} x {size}"
            row[network] = _blocks(stage)
        cost = count(partial(create_model, parts.name), IMAGE_SIZE)
        costs[0][network], costs[1][network] = f"{cost.gmacs:.2f}", f"{cost.parameters / 1e6:.1f}"
    rows[0]["output"] = rows[1]["output"]
    columns = ("stage", "output", *NETWORKS)
    return [{name: row.get(name) for name in columns} for row in [*rows, *costs]]


def _output_sizes(model: nn.Module, stages: list[nn.Module], channels_last: bool) -> list[int]:
    sizes: list[int] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append(output.shape[1 if channels_last else 2])

    hooks = [stage.register_forward_hook(note) for stage in stages]
    with torch.no_grad():
        model(torch.empty(1, 3, IMAGE_SIZE, IMAGE_SIZE, device="meta"))
    for hook in hooks:
        hook.remove()
    return sizes


def _blocks(stage: nn.Module) -> str:
    described = ["; ".join(_layers(block)) for block in stage.children()]
    return " + ".join(f"[{text}] x {len(list(alike))}" for text, alike in groupby(described))


def _layers(part: nn.Module, *, strides: bool = False) -> Iterator[str]:
    """The layers with weights (and pooling) below `part` in order."""
    if hasattr(part, "qkv"):
        yield from _attention(part)
    elif isinstance(part, nn.Conv2d):
        kernel, depthwise = part.kernel_size[0], part.groups == part.in_channels
        text = f"{'d' if depthwise else ''}{kernel} x {kernel}, {part.out_channels}"
        yield f"{text}, stride {part.stride[0]}" if strides else text
    elif isinstance(part, nn.Linear):
        yield f"1 x 1, {part.out_features}"
    elif isinstance(part, nn.MaxPool2d):
        yield f"{part.kernel_size} x {part.kernel_size} max pool, stride {part.stride}"
    else:
        for name, child in part.named_children():
            if name != "downsample":  # ResNet's shortcut
                yield from _layers(child, strides=strides)


def _attention(part: Any) -> Iterator[str]:
    """Swin's windowed attention, which torchvision keeps in one module."""
    width = part.qkv.in_features
    window = math.isqrt(math.prod(part.window_size))
    yield f"1 x 1, {width} x {part.qkv.out_features // width}"
    yield f"attention, window {window} x {window}, {part.num_heads} heads, relative position"
    yield f"1 x 1, {part.proj.out_features}"
