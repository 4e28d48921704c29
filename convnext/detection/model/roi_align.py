"""Regions of a pyramid as squares of one size (RoIAlign, He et al., "Mask R-CNN", 2017), as mmdetection reads them.

A region is read from the level that suits its size, aligned, with as many samples in a cell as it has positions
(sampling ratio 0). Bilinear interpolation and averaging are linear in the map and separate into rows and columns, so on
a CPU all regions are one sparse matrix times the maps; torchvision's backward pass there runs on one core.

Shapes: N images, C channels, R regions of all images, S side of the square, P positions of all levels and images.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...models.layers import at_least_fp32
from .boxes import area

FINEST_ROI = 56  # pixels: square root of the area up to which a region is read from the finest level


def levels_of(boxes: Tensor, levels: int) -> Tensor:
    """(R, 4) -> (R,) pyramid level that each region is read from: a step coarser for each doubling of its side."""
    side = area(boxes).sqrt()
    return (side / FINEST_ROI + 1e-6).log2().floor().clamp(0, levels - 1).long()


class Pooler:
    """The levels (N, C, H_l, W_l) that regions are read from, laid out once for all the heads that read them.

    `sparse`: by one sparse product instead of torchvision's operator; None: on a CPU.
    """

    def __init__(self, maps: Sequence[Tensor], strides: Sequence[int], *, sparse: bool | None = None) -> None:
        self.strides = tuple(strides)
        self.sparse = maps[0].device.type == "cpu" if sparse is None else sparse
        self.channels = maps[0].shape[1]
        if not self.sparse:
            self.maps = [at_least_fp32(m).contiguous() for m in maps]
            return
        self.flat = torch.cat([at_least_fp32(m).permute(0, 2, 3, 1).reshape(-1, self.channels) for m in maps])
        self.heights, self.widths = (torch.tensor([m.shape[axis] for m in maps]) for axis in (-2, -1))
        ends = (len(maps[0]) * self.heights * self.widths).cumsum(0)
        self.starts = torch.cat((torch.zeros(1, dtype=torch.long), ends[:-1]))

    def __call__(self, boxes: Sequence[Tensor], side: int) -> Tensor:
        """The boxes (R_n, 4) of each image in pixels -> (R, C, side, side)."""
        every = torch.cat(list(boxes))
        counts = torch.tensor([len(b) for b in boxes], device=every.device)
        image = torch.repeat_interleave(torch.arange(len(boxes), device=every.device), counts)
        level = levels_of(every, len(self.strides))
        return (self._by_product if self.sparse else self._by_level)(every, image, level, side)

    def _by_level(self, boxes: Tensor, image: Tensor, level: Tensor, side: int) -> Tensor:
        from torchvision.ops import roi_align

        regions = torch.cat((image[:, None].to(boxes), boxes), 1).to(self.maps[0].dtype)
        pooled = self.maps[0].new_zeros(len(regions), self.channels, side, side)
        for i, (features, stride) in enumerate(zip(self.maps, self.strides, strict=True)):
            chosen = (level == i).nonzero().flatten()
            if len(chosen):
                part = roi_align(features, regions[chosen], side, 1 / stride, 0, True)
                pooled = pooled.index_copy(0, chosen, part)
        return pooled

    def _by_product(self, boxes: Tensor, image: Tensor, level: Tensor, side: int) -> Tensor:
        height, width = self.heights[level], self.widths[level]
        stride = torch.tensor(self.strides)[level, None]
        scaled = boxes.detach().to(self.flat.dtype) / stride - 0.5  # positions' centres are whole numbers
        by_row, first_row = _axis(scaled[:, 1], scaled[:, 3], height, side)
        by_column, first_column = _axis(scaled[:, 0], scaled[:, 2], width, side)
        weights = by_row[:, :, None, :, None] * by_column[:, None, :, None, :]  # (R, S, S, rows, columns)
        used = weights != 0
        start = (self.starts[level] + image * height * width)[:, None, None]
        rows = (first_row[:, :, None] + torch.arange(by_row.shape[2])) * width[:, None, None] + start
        columns = first_column[:, :, None] + torch.arange(by_column.shape[2])
        position = (rows[:, :, None, :, None] + columns[:, None, :, None, :]).expand(used.shape)
        pooled = _SparseProduct.apply(self.flat, used.sum((3, 4)).flatten(), position[used], weights[used])
        return pooled.reshape(-1, side, side, self.channels).permute(0, 3, 1, 2)


def _axis(low: Tensor, high: Tensor, limit: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """What each of `cells` parts of an interval averages of a line of `limit` positions, for each of R regions.

    -> (R, cells, span) weights of successive positions, (R, cells) the first of them. A sample is interpolated between
    its two neighbours, counts 0 beyond one position from the line's ends, and is held at the ends before that.
    """
    size = (high - low) / cells
    samples = size.ceil().clamp(0)[:, None, None]
    number = torch.arange(max(1, int(samples.max()) if len(low) else 1))
    cell = torch.arange(cells)[:, None]
    place = low[:, None, None] + (cell + (number + 0.5) / samples.clamp(1)) * size[:, None, None]
    last = (limit - 1)[:, None, None]
    counts = (number < samples) & (place >= -1) & (place <= limit[:, None, None])
    place = torch.minimum(place.clamp(0), last.to(place))
    before = place.long()
    after = torch.minimum(before + 1, last)
    share = (place - before) * counts / samples.clamp(1)
    whole = counts / samples.clamp(1)
    first = torch.where(counts, before, last).amin(-1, keepdim=True)
    span = int((torch.where(counts, after, 0) - first).max().clamp(0)) + 1 if len(low) else 1
    weights = share.new_zeros(len(low), cells, span)
    weights.scatter_add_(2, (before - first).clamp(0, span - 1), whole - share)
    weights.scatter_add_(2, (after - first).clamp(0, span - 1), share)
    return weights, first[..., 0]


class _SparseProduct(torch.autograd.Function):
    """A matrix of few entries times (P, C); `counts` are its rows' entries, at the columns `position`."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, dense: Tensor, counts: Tensor, position: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(counts, position, values)
        ctx.height = len(dense)
        return _csr(counts, position, values, len(dense)) @ dense

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        counts, position, values = ctx.saved_tensors
        order = position.argsort(stable=True)
        row = torch.repeat_interleave(torch.arange(len(counts)), counts)
        entries = torch.bincount(position, minlength=ctx.height)
        return _csr(entries, row[order], values[order], len(counts)) @ gradient.contiguous(), None, None, None


def _csr(counts: Tensor, position: Tensor, values: Tensor, width: int) -> Tensor:
    pointers = torch.cat((torch.zeros(1, dtype=torch.long), counts.cumsum(0)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled")
        return torch.sparse_csr_tensor(pointers, position, values, (len(counts), width))
