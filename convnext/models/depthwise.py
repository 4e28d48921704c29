"""The 7x7 depthwise convolution, with a faster weight gradient for bf16 training on the CPU.

There the library's own weight gradient takes five to ten times as long as everything else about this layer, a quarter
of a training step (benchmarks/depthwise.py). It is a correlation of the input with the output's gradient; cut into
tiles of a few positions, it becomes one batched matrix product, of which the entries that belong to an offset are
added up. That does 3.4 times the arithmetic, at far more than 3.4 times the rate.

Shapes: N images, C channels, H x W positions, k the kernel's side.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

TILE = 7  # positions a side; the maps of 224-pixel networks are multiples of it
WHOLE = 8  # maps up to this side are one tile


class DepthwiseConv(nn.Conv2d):
    """A k x k convolution of each channel alone, same size in and out: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)

    def forward(self, x_nchw: Tensor) -> Tensor:
        if not _tiles_pay(x_nchw, self.weight):
            return super().forward(x_nchw)
        assert self.bias is not None
        return _Tiled.apply(x_nchw.bfloat16(), self.weight.bfloat16(), self.bias.bfloat16())


def weight_gradient(x_nchw: Tensor, gradient_nchw: Tensor, kernel_size: int) -> Tensor:
    """(N, C, H, W) input and gradient of the output -> (C, 1, k, k) in fp32."""
    _, channels, height, width = x_nchw.shape
    k, pad = kernel_size, kernel_size // 2
    tile = max(height, width) if max(height, width) <= WHOLE else TILE
    below, beside = -height % tile, -width % tile
    inputs = _cut(F.pad(x_nchw, (pad, beside + pad, pad, below + pad)), tile + 2 * pad, tile)
    gradients = _cut(F.pad(gradient_nchw, (0, beside, 0, below)), tile, tile)
    products = torch.bmm(
        gradients.transpose(1, 2), inputs
    )  # each position of a gradient tile with each of an input tile
    products = products.view(channels, tile, tile, tile + 2 * pad, tile + 2 * pad)
    total = torch.zeros(channels, k, k)
    for i in range(tile):
        for j in range(tile):
            total += products[:, i, j, i : i + k, j : j + k]
    return total[:, None]


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        into_x, into_weight, into_bias = ctx.needs_input_grad
        pad, channels = weight.shape[-1] // 2, len(weight)
        if not into_x:
            x_gradient = None
        else:  # asking for the bias's gradient here would compute the weight's after all
            x_gradient, _, _ = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, [1, 1], [pad, pad], [1, 1], False, [0, 0], channels, [True, False, False]
            )
        made = weight_gradient(x, gradient, weight.shape[-1]).to(weight.dtype) if into_weight else None
        return x_gradient, made, gradient.sum((0, 2, 3)) if into_bias else None


def _cut(map_nchw: Tensor, side: int, step: int) -> Tensor:
    """(N, C, H, W) -> (C, number of tiles, side * side), a tile every `step` positions."""
    tiles = map_nchw.unfold(2, side, step).unfold(3, side, step)
    return tiles.permute(1, 0, 2, 3, 4, 5).reshape(map_nchw.shape[1], -1, side * side)


def _tiles_pay(x: Tensor, weight: Tensor) -> bool:
    if x.device.type != "cpu" or not weight.requires_grad or not torch.is_grad_enabled():
        return False
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or weight.dtype is torch.float64:
        return False
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") is torch.bfloat16
    return x.dtype is weight.dtype is torch.bfloat16
