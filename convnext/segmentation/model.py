"""UPerNet (Xiao et al., "Unified Perceptual Parsing for Scene Understanding", 2018) with an FCN as auxiliary head.

Shapes: N images, K classes, C channels, H x W positions. Definitions and parameter names are mmsegmentation's, which
the released models were trained with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..dense.model import DenseBackbone, DenseModel
from ..errors import UserError
from ..models.convnext import Backbone
from ..models.layers import ConvLayer
from ..models.pyramid import PyramidPooling, resize, top_down

DROPOUT = 0.1  # of whole channels, before the classifiers
AUXILIARY_WIDTH, AUXILIARY_MAP = 256, 2  # the auxiliary head reads the third map
HEAD_STD = 0.01


class DecodeHead(nn.Module):
    """Pyramid pooling on the coarsest map, a top-down path, all levels joined at the finest one."""

    def __init__(self, channels: Sequence[int], width: int, num_classes: int) -> None:
        super().__init__()
        levels = len(channels)
        self.psp_modules = PyramidPooling(channels[-1], width)
        pooled = channels[-1] + len(self.psp_modules) * width
        self.bottleneck = _layer(pooled, width, 3)
        self.lateral_convs = nn.ModuleList(_layer(c, width, 1) for c in channels[:-1])
        self.fpn_convs = nn.ModuleList(_layer(width, width, 3) for _ in channels[:-1])
        self.fpn_bottleneck = _layer(levels * width, width, 3)
        self.dropout = nn.Dropout2d(DROPOUT)
        self.conv_seg = _classifier(width, num_classes)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The backbone's maps (N, C_i, H_i, W_i) -> (N, K, H_0, W_0) logits."""
        return self.conv_seg(self.dropout(self.fpn_bottleneck(self._joined(maps))))

    def _joined(self, maps: Sequence[Tensor]) -> Tensor:
        """-> (N, L width, H_0, W_0); a function of its own, so that all else is given back before the last layers."""
        levels = [lateral(x) for lateral, x in zip(self.lateral_convs, maps, strict=False)]
        levels.append(self.bottleneck(self.psp_modules(maps[-1])))
        levels = top_down(levels, "bilinear")
        for i, conv in enumerate(self.fpn_convs):
            levels[i] = conv(levels[i])
        return _side_by_side(levels)


def _side_by_side(levels: Sequence[Tensor]) -> Tensor:
    """(N, C, H_i, W_i) each -> (N, L C, H_0, W_0). Without gradients one after the other into their place: all of them
    at full size beside the result would be the most memory that labelling a picture takes.
    """
    size = levels[0].shape[-2:]
    if torch.is_grad_enabled():
        return torch.cat([resize(level, size) for level in levels], 1)
    count, width = levels[0].shape[:2]
    layout = torch.contiguous_format if levels[0].is_contiguous() else torch.channels_last  # as the maps have it
    shape, like = (count, len(levels) * width, *size), levels[0]
    joined = torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)
    for place, level in zip(joined.split(width, 1), levels, strict=True):
        place.copy_(resize(level, size))
    return joined


class AuxiliaryHead(nn.Module):
    """A convolution and a classifier on one map: a second loss on the way, nothing at test time."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(_layer(channels, AUXILIARY_WIDTH, 3))
        self.dropout = nn.Dropout2d(DROPOUT)
        self.conv_seg = _classifier(AUXILIARY_WIDTH, num_classes)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """-> (N, K, H_2, W_2) logits."""
        return self.conv_seg(self.dropout(self.convs(maps[AUXILIARY_MAP])))


class Segmenter(DenseModel):
    """Images in; a class for every pixel out."""

    def __init__(
        self, backbone: DenseBackbone, decode_head: DecodeHead, auxiliary_head: AuxiliaryHead | None, num_classes: int
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone = cast(Backbone, backbone)  # a module, too
        self.decode_head, self.auxiliary_head = decode_head, auxiliary_head

    def forward(self, x_nchw: Tensor, *, coarse: bool = False) -> Tensor | tuple[Tensor, Tensor | None]:
        """(N, 3, H, W) -> (N, K, H, W) logits; while training, those and the auxiliary head's (None without one).

        `coarse` leaves logits at the positions of the heads' maps, as `loss.pixel_cross_entropy` takes them.
        """
        maps = self.backbone.features(x_nchw)
        main = self.decode_head(maps)
        auxiliary = self.auxiliary_head(maps) if self.training and self.auxiliary_head is not None else None
        if not coarse:
            main, auxiliary = (x if x is None else resize(x, x_nchw.shape[-2:]) for x in (main, auxiliary))
        return (main, auxiliary) if self.training else main


def build_segmenter(
    backbone: DenseBackbone, num_classes: int = 150, channels: int = 512, auxiliary: bool = True
) -> Segmenter:
    """A segmenter on a backbone of four maps, such as one with `out_norms`. Raises UserError for other maps."""
    if len(backbone.channels) != 4 or min(num_classes, channels) < 1:
        raise UserError(
            f"a segmenter needs four maps, a class and a channel; got {len(backbone.channels)} maps, "
            f"{num_classes} classes, {channels} channels"
        )
    second = AuxiliaryHead(backbone.channels[AUXILIARY_MAP], num_classes) if auxiliary else None
    return Segmenter(backbone, DecodeHead(backbone.channels, channels, num_classes), second, num_classes)


def _layer(before: int, after: int, side: int) -> ConvLayer:
    return ConvLayer(before, after, side, norm=True, relu=True)


def _classifier(channels: int, num_classes: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(layer.weight, std=HEAD_STD)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
