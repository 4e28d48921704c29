"""Cross-entropy of every pixel from logits at fewer positions: interpolated, compared and differentiated band by band.

Interpolating 150 classes to every pixel of a picture, and keeping the result for the backward pass, is what training a
small segmenter spends most of its time and memory on. Here a band of rows is made, used and forgotten: bilinear
interpolation is a product with a matrix for each axis, and the gradient is known as soon as the loss is.

Shapes: N images, K classes, h x w positions, H x W pixels, B rows of a band.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BAND_VALUES = {"cpu": 2**20}  # logits of a band: 4 MiB, which a core's caches hold
DEFAULT_BAND_VALUES = 2**26


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits (N, K, h, w), brought to the size of labels (N, H, W) by pixel centres; -1 is left out.

    Summed over all pixels' number, the left out ones too, as mmsegmentation does (so a batch without any label costs
    0). Computed in fp32 or better, inside autocast too.
    """
    return _PixelCrossEntropy.apply(logits, labels) / labels.numel()


class _PixelCrossEntropy(torch.autograd.Function):
    """The sum over pixels; the gradient is made on the way, and only scaled in the backward pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
            x_nhwc = wide.permute(0, 2, 3, 1).contiguous()
            gradient = torch.zeros_like(x_nhwc) if ctx.needs_input_grad[0] else None
            total = _bands(x_nhwc, labels, gradient)
        if gradient is not None:
            ctx.save_for_backward(gradient.permute(0, 3, 1, 2).to(logits.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * scale.to(gradient.dtype), None


def _bands(x_nhwc: Tensor, labels: Tensor, gradient: Tensor | None) -> Tensor:
    """The loss summed over all pixels with a label; its gradient is added to `gradient`."""
    _, height, width, classes = x_nhwc.shape
    rows, columns = (_interpolation(a, b, x_nhwc) for a, b in zip((height, width), labels.shape[1:], strict=True))
    total = x_nhwc.new_zeros(())
    most = BAND_VALUES.get(x_nhwc.device.type, DEFAULT_BAND_VALUES)
    for band, used in _plan(rows, max(1, most // (labels.shape[2] * classes))):
        weights = rows[band, used]
        for n in range(len(x_nhwc)):
            part = weights @ x_nhwc[n, used].flatten(1)  # (B, w K)
            z = columns @ part.view(-1, width, classes)  # (B, W, K)
            label = labels[n, band, :, None]
            known, target = label >= 0, label.clamp(0)
            log_sum = z.logsumexp(-1, keepdim=True)
            total += ((log_sum - z.gather(-1, target)) * known).sum()
            if gradient is not None:
                slope = z.sub_(log_sum).exp_().scatter_add_(-1, target, z.new_full(target.shape, -1))
                by_column = (columns.t() @ slope.mul_(known)).flatten(1)  # (B, w K)
                gradient[n, used] += (weights.t() @ by_column).view(-1, width, classes)
    return total


def _interpolation(before: int, after: int, like: Tensor) -> Tensor:
    """(after, before) what each pixel along an axis takes of each position (`align_corners=False`)."""
    identity = torch.eye(before, dtype=like.dtype, device=like.device)[None]
    return F.interpolate(identity, size=after, mode="linear", align_corners=False)[0].t()


def _plan(rows: Tensor, step: int) -> Iterator[tuple[slice, slice]]:
    """Bands of at most `step` rows of pixels, and for each the rows of positions that it takes anything of."""
    first, last = rows.ne(0).int().argmax(1).tolist(), (rows.shape[1] - rows.flip(1).ne(0).int().argmax(1)).tolist()
    for start in range(0, len(rows), step):
        stop = min(start + step, len(rows))
        yield slice(start, stop), slice(min(first[start:stop]), max(last[start:stop]))
