"""Feature pyramids: maps of every stage in one width, each informed by the coarser ones (Lin et al., 2017).

FPN is the detectors'; the segmenter builds its own of `PyramidPooling` (Zhao et al., "PSPNet", 2017) and `top_down`.

Shapes: N images, C channels, H x W positions, L levels (fine to coarse). Parameter names are mmdetection's, which the
released detectors have.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvLayer


class FPN(nn.Module):
    """Lateral 1x1 convolutions, a nearest-neighbour path from coarse to fine, a 3x3 convolution on each level.

    Levels beyond the backbone's are the coarsest one, every second position of it (a max-pooling of 1).
    """

    def __init__(self, channels: Sequence[int], width: int = 256, levels: int = 5) -> None:
        super().__init__()
        self.extra_levels = levels - len(channels)
        self.lateral_convs = nn.ModuleList(ConvLayer(c, width, 1) for c in channels)
        self.fpn_convs = nn.ModuleList(ConvLayer(width, width, 3) for _ in channels)
        for layer in (*self.lateral_convs, *self.fpn_convs):
            nn.init.xavier_uniform_(layer.conv.weight)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The backbone's maps (N, C_i, H_i, W_i) -> L maps (N, width, H_i, W_i)."""
        laterals = top_down([lateral(x) for lateral, x in zip(self.lateral_convs, maps, strict=True)], "nearest")
        levels = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=True)]
        for _ in range(self.extra_levels):
            levels.append(F.max_pool2d(levels[-1], 1, stride=2))
        return levels


class PyramidPooling(nn.ModuleList):
    """A map beside its averages over 1, 4, 9 and 36 cells, each brought to `width` channels and back to its size."""

    scales = (1, 2, 3, 6)

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), ConvLayer(channels, width, 1, norm=True, relu=True))
            for scale in self.scales
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + 4 width, H, W)."""
        return torch.cat((x, *(resize(branch(x), x.shape[-2:]) for branch in self)), 1)


def top_down(laterals: Sequence[Tensor], mode: str) -> list[Tensor]:
    """Fine to coarse maps of one width -> each with all coarser ones added, interpolated by `mode`."""
    maps = list(laterals)
    for i in range(len(maps) - 1, 0, -1):
        maps[i - 1] = maps[i - 1] + resize(maps[i], maps[i - 1].shape[-2:], mode)
    return maps


def resize(x: Tensor, size: Sequence[int], mode: str = "bilinear") -> Tensor:
    """(N, C, H, W) -> (N, C, *size), by pixel centres (`align_corners=False`)."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode=mode, align_corners=None if mode == "nearest" else False)
