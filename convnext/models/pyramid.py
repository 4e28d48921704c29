"""The feature pyramid: maps of every stage in one width, each informed by the coarser ones (Lin et al., 2017).

Shapes: N images, C channels, H x W positions, L levels (fine to coarse). Parameter names are mmdetection's, which the
released detectors have.
"""

from __future__ import annotations

from collections.abc import Sequence

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
        laterals = [lateral(x) for lateral, x in zip(self.lateral_convs, maps, strict=True)]
        for fine, coarse in zip(range(len(laterals) - 2, -1, -1), range(len(laterals) - 1, 0, -1), strict=True):
            above = F.interpolate(laterals[coarse], size=laterals[fine].shape[-2:], mode="nearest")
            laterals[fine] = laterals[fine] + above
        levels = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=True)]
        for _ in range(self.extra_levels):
            levels.append(F.max_pool2d(levels[-1], 1, stride=2))
        return levels
