"""ConvNeXt and its isotropic form ("A ConvNet for the 2020s", Figure 4 and Tables 2 and 9).

Shapes: N images, C channels, H x W positions, K classes. `_nchw` is channels first, `_nhwc` channels last. Tensors are
kept in channels_last memory where the caller put them there; then every permute below is a view.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import pairwise
from math import ceil
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..catalog.variants import KERNEL_SIZE, MLP_RATIO, Arch
from ..errors import UserError
from .depthwise import DepthwiseConv
from .layers import DropPath, LayerNormFirst, LayerNormLast, drop_path_ramp, init_weights, make_head


class Block(nn.Module):
    """Depthwise 7x7, LayerNorm, widen, GELU, narrow; scaled, perhaps dropped, added back (paper Figure 4, right)."""

    def __init__(self, channels: int, drop_path: float = 0.0, layer_scale: float = 1e-6) -> None:
        super().__init__()
        self.dwconv = DepthwiseConv(channels, KERNEL_SIZE)
        self.norm = LayerNormLast(channels)
        self.pwconv1 = nn.Linear(channels, MLP_RATIO * channels)
        self.pwconv2 = nn.Linear(MLP_RATIO * channels, channels)
        # An initial value of 0 means "no such parameter", not "a parameter that starts at 0" (official code).
        self.gamma = nn.Parameter(torch.full((channels,), layer_scale)) if layer_scale > 0 else None
        self.drop_path = DropPath(drop_path)

    def forward(self, x_nchw: Tensor) -> Tensor:
        y_nhwc = self.dwconv(x_nchw).permute(0, 2, 3, 1)
        y_nhwc = self.pwconv2(F.gelu(self.pwconv1(self.norm(y_nhwc))))
        if self.gamma is not None:
            y_nhwc = self.gamma * y_nhwc
        return x_nchw + self.drop_path(y_nhwc.permute(0, 3, 1, 2))


class NetworkSettings(TypedDict, total=False):
    """What a network of the family is built with beside its `Arch`; a baseline takes the first four."""

    num_classes: int
    in_chans: int
    drop_path_rate: float
    drop_rate: float
    head_init_scale: float
    features_only: bool
    out_norms: bool
    out_indices: tuple[int, ...]


class Backbone(nn.Module, ABC):
    """What both forms share: maps in, pooled and classified out; or the maps themselves.

    `features_only` and `out_norms` leave out the final norm and the head, and `forward` returns the maps of
    `out_indices`; `out_norms` normalises each one, as the released detection and segmentation files expect.
    """

    variant: str = "custom"  # the name of its size, where it has one

    def __init__(
        self,
        arch: Arch,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_path_rate: float = 0.0,
        drop_rate: float = 0.0,
        head_init_scale: float = 1.0,
        features_only: bool = False,
        out_norms: bool = False,
        out_indices: Iterable[int] = (0, 1, 2, 3),
    ) -> None:
        super().__init__()
        self.arch, self.in_chans = arch, in_chans
        self.depths, self.dims = arch.depths, arch.dims
        self.num_features = arch.dims[-1]
        self.num_classes = num_classes
        self.dense = features_only or out_norms
        self.out_indices = _map_indices(arch, out_indices)
        self.dropout = nn.Dropout(drop_rate)
        self.grad_checkpointing = False
        if out_norms:
            for i in self.out_indices:
                self.add_module(f"norm{i}", LayerNormFirst(arch.dims[i]))
        elif not features_only:
            self.norm = LayerNormLast(self.num_features)
        self.out_norms = out_norms
        self._build(arch, in_chans, drop_path_ramp(drop_path_rate, sum(arch.depths)))
        self.apply(init_weights)
        if not self.dense:
            self.head = make_head(self.num_features, num_classes, head_init_scale)

    @abstractmethod
    def _build(self, arch: Arch, in_chans: int, drop_paths: list[float]) -> None:
        """Make the stem and the blocks."""

    @abstractmethod
    def maps(self, x_nchw: Tensor) -> list[Tensor]:
        """Every stage's output, fine to coarse."""

    @abstractmethod
    def layer_id(self, name: str, rule: str = "layer") -> int:
        """Depth group of a parameter for layer-wise rate decay: 0 is the stem, `num_layer_ids` - 1 the head."""

    @property
    @abstractmethod
    def num_layer_ids(self) -> int:
        """Number of depth groups."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each map that `features` returns."""
        return tuple(self.arch.dims[i] for i in self.out_indices)

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels per position of each map that `features` returns."""
        return tuple(self.arch.strides[i] for i in self.out_indices)

    @property
    def feature_info(self) -> list[dict[str, int | str]]:
        """One row a map, in timm's words."""
        rows = zip(self.out_indices, self.channels, self.strides, strict=True)
        return [{"num_chs": c, "reduction": s, "module": f"stages.{i}", "index": i} for i, c, s in rows]

    def features(self, x_nchw: Tensor) -> tuple[Tensor, ...]:
        """(N, in_chans, H, W) -> the maps of `out_indices`, each (N, C_i, H / s_i, W / s_i)."""
        maps = self.maps(x_nchw)
        if self.out_norms:
            return tuple(self.get_submodule(f"norm{i}")(maps[i]) for i in self.out_indices)
        return tuple(maps[i] for i in self.out_indices)

    def forward_features(self, x_nchw: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> the last map (N, C, h, w), before pooling and norm."""
        return self.maps(x_nchw)[-1]

    def forward_head(self, map_nchw: Tensor, pre_logits: bool = False) -> Tensor:
        """Last map -> (N, K) logits, or (N, C) normalised pooled features with `pre_logits`."""
        pooled = self.norm(map_nchw.mean((-2, -1)))
        return pooled if pre_logits else self.head(self.dropout(pooled))

    def forward(self, x_nchw: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.features(x_nchw) if self.dense else self.forward_head(self.forward_features(x_nchw))

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """A fresh head for `num_classes` (0: none), on the device and in the type of the norm before it."""
        if self.dense:
            raise ValueError("a features-only model has no classifier to reset")
        self.num_classes = num_classes
        self.head = make_head(self.num_features, num_classes).to(self.norm.weight)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass: less memory, about a third more time."""
        self.grad_checkpointing = enable

    def _run(self, blocks: nn.Module, x_nchw: Tensor) -> Tensor:
        if not (self.grad_checkpointing and torch.is_grad_enabled()):
            return blocks(x_nchw)
        for block in blocks.children():
            x_nchw = checkpoint(block, x_nchw, use_reentrant=False)
        return x_nchw


def _map_indices(arch: Arch, given: Iterable[int]) -> tuple[int, ...]:
    """Which maps to return, fine to coarse; an isotropic network has one, whatever the default asks for."""
    wanted, last = sorted(set(given)), len(arch.dims) - 1
    if arch.isotropic and wanted == [0, 1, 2, 3]:
        return (0,)
    if not wanted or wanted[0] < 0 or wanted[-1] > last:
        raise UserError(f"out_indices {tuple(wanted)} must name maps between 0 and {last}")
    return tuple(wanted)


class ConvNeXt(Backbone):
    """Four stages at strides 4, 8, 16, 32 (for a stem of 4), LayerNorm and a 2x2 convolution between them.

    `stem_patch` other than 4 is for small images: with 1, a 32-pixel image keeps maps of 32, 16, 8, 4 positions.
    """

    def _build(self, arch: Arch, in_chans: int, drop_paths: list[float]) -> None:
        dims, patch, kernel = arch.dims, arch.patch_size, arch.stem_kernel
        norm = LayerNormFirst(dims[0])
        if arch.stem == "pool":
            conv = nn.Conv2d(in_chans, dims[0], kernel, stride=patch // 2, padding=kernel // 2)
            stem = nn.Sequential(conv, norm, nn.GELU(), nn.MaxPool2d(3, stride=2, padding=1))
        else:
            stem = nn.Sequential(nn.Conv2d(in_chans, dims[0], kernel, stride=patch), norm)
        downs = [
            nn.Sequential(LayerNormFirst(before), nn.Conv2d(before, after, 2, stride=2))
            for before, after in pairwise(dims)
        ]
        self.downsample_layers = nn.ModuleList([stem, *downs])
        rates = iter(drop_paths)
        self.stages = nn.ModuleList(
            nn.Sequential(*[Block(dim, next(rates), arch.layer_scale) for _ in range(depth)])
            for depth, dim in zip(arch.depths, dims, strict=True)
        )

    def maps(self, x_nchw: Tensor) -> list[Tensor]:
        outputs = []
        for down, stage in zip(self.downsample_layers, self.stages, strict=True):
            x_nchw = self._run(stage, down(x_nchw))
            outputs.append(x_nchw)
        return outputs

    @property
    def num_layer_ids(self) -> int:
        return 5 + ceil(self.depths[2] / 3)

    def layer_id(self, name: str, rule: str = "layer") -> int:
        """Depth group of a parameter (official code: optim_factory.py; for dense models mmcv_custom/).

        "layer": the stem, stages 0 and 1, then groups of three blocks in stage 2; "stage": stem and every downsampling
        layer 0, then one group a stage. Whatever is not backbone belongs to the head's group, which in "stage" is as
        far up as in "layer" (as published), in "stage_clean" the next one after the last stage.
        """
        head = len(self.arch.depths) + 1 if rule == "stage_clean" else self.num_layer_ids - 1
        found = re.match(r"(downsample_layers|stages)\.(\d+)(?:\.(\d+))?", name)
        if not found:
            return head
        kind, stage, block = found[1], int(found[2]), int(found[3] or 0)
        if rule != "layer":
            return 0 if kind == "downsample_layers" else stage + 1
        if kind == "downsample_layers":
            return (0, 2, 3, head - 1)[stage]
        return (1, 2, 3 + block // 3, head - 1)[stage]


class ConvNeXtIsotropic(Backbone):
    """One resolution throughout: a 16 x 16 convolution without norm, then equal blocks (paper Table 2)."""

    def _build(self, arch: Arch, in_chans: int, drop_paths: list[float]) -> None:
        dim, patch = arch.dims[0], arch.patch_size
        self.stem = nn.Conv2d(in_chans, dim, patch, stride=patch)
        self.blocks = nn.Sequential(*[Block(dim, rate, arch.layer_scale) for rate in drop_paths])

    def maps(self, x_nchw: Tensor) -> list[Tensor]:
        return [self._run(self.blocks, self.stem(x_nchw))]

    @property
    def num_layer_ids(self) -> int:
        return 2 + ceil(self.depths[0] / 3)

    def layer_id(self, name: str, rule: str = "layer") -> int:
        """Stem 0, then groups of three blocks; the paper fine-tunes no isotropic model, so the grouping is ours."""
        if name.startswith("stem."):
            return 0
        if found := re.match(r"blocks\.(\d+)", name):
            return 1 if rule == "stage" else 1 + int(found[1]) // 3
        return self.num_layer_ids - 1
