"""One network that spans ResNet-50/200 .. ConvNeXt-T/B, built from a `Design` of recipes/roadmap.py (paper section 2).

Shapes: N images, C channels, H x W positions. `_nchw` is channels first, `_nhwc` channels last. From the step that
moves the depthwise convolution up, names and layers are the family's own, so the last step's weights are ConvNeXt's.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..catalog.variants import MLP_RATIO
from ..recipes.roadmap import Design, Reading, design, parse
from .depthwise import DepthwiseConv
from .layers import DropPath, LayerNormFirst, LayerNormLast, drop_path_ramp, init_weights, make_head

EXPANSION = 4  # output width of a bottleneck over its hidden one (ResNet)
WIDTH_GRID = 8  # widths of scaled-down copies are multiples of it


class BatchNormLast(nn.BatchNorm2d):
    """BatchNorm over the last axis of (N, H, W, C)."""

    def forward(self, x_nhwc: Tensor) -> Tensor:
        return super().forward(x_nhwc.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Shortcut(nn.Sequential):
    """The path around a block: nothing, or a strided 1x1 convolution with a norm where the shape changes."""

    def __init__(self, before: int, after: int, stride: int, plan: Design, reading: Reading) -> None:
        changes = stride > 1 or before != after
        norm = [_norm(plan, after)] if reading.shortcut_norm else []
        conv = nn.Conv2d(before, after, 1, stride, bias=reading.conv_bias and not norm)
        super().__init__(*([conv, *norm] if changes else []))


class Widths(NamedTuple):
    """Channels into a block, of its middle layer, and out of it."""

    before: int
    hidden: int
    after: int


class Bottleneck(nn.Module):
    """1x1, k x k, 1x1 (paper Figure 3 a and b): the middle layer carries the stride and may be depthwise."""

    def __init__(self, widths: Widths, stride: int, plan: Design, reading: Reading, drop_path: float) -> None:
        super().__init__()
        before, hidden, after = widths
        groups = hidden if plan.depthwise else 1
        self.conv1 = nn.Conv2d(before, hidden, 1, bias=False)
        self.norm1 = _norm(plan, hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, plan.kernel, stride, plan.kernel // 2, groups=groups, bias=False)
        self.norm2 = _norm(plan, hidden)
        self.conv3 = nn.Conv2d(hidden, after, 1, bias=False)
        self.norm3 = _norm(plan, after)
        self.shortcut = Shortcut(before, after, stride, plan, reading)
        self.gamma = _gamma(after, reading)
        self.act, self.drop_path = _activation(plan), DropPath(drop_path)

    def forward(self, x_nchw: Tensor) -> Tensor:
        y = self.act(self.norm1(self.conv1(x_nchw)))
        y = self.act(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        if self.gamma is not None:
            y = self.gamma[:, None, None] * y
        return self.act(self.shortcut(x_nchw) + self.drop_path(y))


class MovedUp(nn.Module):
    """Depthwise k x k, widen, narrow (paper Figure 3 c); with one norm and one activation it is ConvNeXt's block."""

    def __init__(self, before: int, after: int, stride: int, plan: Design, reading: Reading, drop_path: float) -> None:
        super().__init__()
        hidden = MLP_RATIO * after
        every_norm, last = plan.norms == "all", plan.downsampling == "separate"
        bias = last or (reading.conv_bias and not every_norm)
        self.dwconv = _depthwise(before, plan.kernel, stride, bias=last)
        self.norm = _norm_last(plan, before)
        self.pwconv1 = nn.Linear(before, hidden, bias=bias)
        self.norm1 = _norm_last(plan, hidden) if every_norm else nn.Identity()
        self.pwconv2 = nn.Linear(hidden, after, bias=bias)
        self.norm2 = _norm_last(plan, after) if every_norm else nn.Identity()
        self.shortcut = Shortcut(before, after, stride, plan, reading)
        self.gamma = _gamma(after, reading)
        self.act, self.drop_path = _activation(plan), DropPath(drop_path)
        self.outer_act = self.act if plan.activations == "all" else nn.Identity()

    def forward(self, x_nchw: Tensor) -> Tensor:
        y_nhwc = self.outer_act(self.norm(self.dwconv(x_nchw).permute(0, 2, 3, 1)))
        y_nhwc = self.act(self.norm1(self.pwconv1(y_nhwc)))
        y_nhwc = self.norm2(self.pwconv2(y_nhwc))
        if self.gamma is not None:
            y_nhwc = self.gamma * y_nhwc
        return self.outer_act(self.shortcut(x_nchw) + self.drop_path(y_nhwc.permute(0, 3, 1, 2)))


class RoadmapNet(nn.Module):
    """(N, 3, H, W) -> (N, K) logits. `downsample_layers`: the stem and, in the last step, what lies between stages."""

    def __init__(
        self,
        plan: Design,
        reading: Reading | None = None,
        *,
        num_classes: int = 1000,
        drop_path_rate: float = 0.0,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        plan, reading = _scaled(plan, reading or Reading()), reading or Reading()
        dims = tuple(plan.width * 2**i for i in range(len(plan.depths)))
        separate = plan.downsampling == "separate"
        outputs = tuple(EXPANSION * dim for dim in dims) if plan.block == "bottleneck" else dims
        between = [
            nn.Sequential(LayerNormFirst(before), nn.Conv2d(before, after, 2, 2)) if separate else nn.Identity()
            for before, after in pairwise(dims)
        ]
        self.downsample_layers = nn.ModuleList([_stem(plan, reading), *between])
        rates = iter(drop_path_ramp(drop_path_rate, sum(plan.depths)))
        self.stages, before = nn.ModuleList(), plan.width
        for i, (depth, dim, after) in enumerate(zip(plan.depths, dims, outputs, strict=True)):
            blocks = []
            for block in range(depth):
                strided = block == 0 and i > 0 and not separate
                start = before if block == 0 and not (separate and i) else after
                hidden = dim if plan.block == "bottleneck" else MLP_RATIO * dim
                widths = Widths(start, hidden, after)
                blocks.append(_block(widths, 2 if strided else 1, plan, reading, next(rates)))
            self.stages.append(nn.Sequential(*blocks))
            before = after
        self.norm = LayerNormLast(outputs[-1]) if separate else nn.Identity()
        self.dropout = nn.Dropout(drop_rate)
        self.apply(init_weights)
        self.head = make_head(outputs[-1], num_classes)
        self.num_features = outputs[-1]

    def forward_features(self, x_nchw: Tensor) -> Tensor:
        """(N, 3, H, W) -> the last map (N, C, H / 32, W / 32)."""
        for down, stage in zip(self.downsample_layers, self.stages, strict=True):
            x_nchw = stage(down(x_nchw))
        return x_nchw

    def forward(self, x_nchw: Tensor) -> Tensor:
        return self.head(self.dropout(self.norm(self.forward_features(x_nchw).mean((-2, -1)))))


def build(
    regime: str,
    step: int | str,
    *,
    num_classes: int = 1000,
    layer_scale_init_value: float | None = None,
    reading: Reading | None = None,
    drop_path_rate: float = 0.0,
    drop_rate: float = 0.0,
) -> nn.Module:
    """The network of a step of "tiny" or "base", by index or name; `layer_scale_init_value` replaces the reading's.

    Raises UserError for a regime or a step that does not exist.
    """
    reading = reading or Reading()
    if layer_scale_init_value is not None:
        reading = replace(reading, layer_scale=layer_scale_init_value)
    return RoadmapNet(
        design(regime, step), reading, num_classes=num_classes, drop_path_rate=drop_path_rate, drop_rate=drop_rate
    )


def build_named(
    name: str, *, num_classes: int = 1000, drop_path_rate: float = 0.0, drop_rate: float = 0.0
) -> nn.Module:
    """`build` from a model name such as "roadmap:tiny/7:layer_scale=1e-06"."""
    regime, step, reading = parse(name)
    return build(
        regime, step, num_classes=num_classes, reading=reading, drop_path_rate=drop_path_rate, drop_rate=drop_rate
    )


def _block(widths: Widths, stride: int, plan: Design, reading: Reading, rate: float) -> nn.Module:
    if plan.block == "moved_up":
        return MovedUp(widths.before, widths.after, stride, plan, reading, rate)
    return Bottleneck(widths, stride, plan, reading, rate)


def _stem(plan: Design, reading: Reading) -> nn.Sequential:
    width = plan.width
    if plan.stem == "resnet":
        conv = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        return nn.Sequential(conv, _norm(plan, width), _activation(plan), nn.MaxPool2d(3, 2, 1))
    last = plan.downsampling == "separate"
    layers: list[nn.Module] = [_norm(plan, width)] if reading.stem_norm or last else []
    if layers and not last and plan.activations == "all":
        layers.append(_activation(plan))
    return nn.Sequential(nn.Conv2d(3, width, 4, 4, bias=last or (reading.conv_bias and not layers)), *layers)


def _depthwise(channels: int, kernel: int, stride: int, *, bias: bool) -> nn.Module:
    if stride == 1 and bias:
        return DepthwiseConv(channels, kernel)
    return nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=bias)


def _norm(plan: Design, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if plan.norm == "batch" else LayerNormFirst(channels)


def _norm_last(plan: Design, channels: int) -> nn.Module:
    return BatchNormLast(channels) if plan.norm == "batch" else LayerNormLast(channels)


def _activation(plan: Design) -> nn.Module:
    return nn.ReLU() if plan.activation == "relu" else nn.GELU()


def _gamma(channels: int, reading: Reading) -> nn.Parameter | None:
    return nn.Parameter(torch.full((channels,), reading.layer_scale)) if reading.layer_scale > 0 else None


def _scaled(plan: Design, reading: Reading) -> Design:
    """A copy for small machines: fewer blocks, narrower, the same proportions as far as whole numbers allow."""
    if reading.width == reading.depth == 1:
        return plan
    width = max(WIDTH_GRID, round(plan.width * reading.width / WIDTH_GRID) * WIDTH_GRID)
    return replace(plan, width=width, depths=tuple(max(1, round(depth * reading.depth)) for depth in plan.depths))
