"""The small parts of the networks: LayerNorm in two layouts, stochastic depth, initialisation.

Shapes: N images, C channels, H x W positions. `_nchw` is channels first, `_nhwc` channels last.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LN_EPS = 1e-6  # official code; PyTorch's own default is 1e-5, so it must be passed everywhere
WINDOW = 1.0  # positions; 0.6 and 1.4 learn more slowly (docs/LOG.md)
INIT_STD = 0.02  # official code; the paper's Table 5 prints 0.2, a misprint


class LayerNormLast(nn.LayerNorm):
    """LayerNorm over the last axis of (..., C)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=LN_EPS)


class LayerNormFirst(nn.LayerNorm):
    """LayerNorm over the channel axis of (N, C, H, W), at each position."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=LN_EPS)

    def forward(self, x_nchw: Tensor) -> Tensor:
        y_nhwc = F.layer_norm(x_nchw.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return y_nhwc.permute(0, 3, 1, 2)


def at_least_fp32(x: Tensor) -> Tensor:
    """What autocast made narrower, as fp32; fp64 stays, so that a network of doubles is exact throughout."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class DropPath(nn.Module):
    """Stochastic depth: drops a sample's branch with probability `rate`, scales the kept ones by 1 / (1 - rate)."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * mask.div_(keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


class ConvLayer(nn.Sequential):
    """`conv`, perhaps with BatchNorm `bn` in place of a bias, perhaps with a ReLU: how the heads' layers are named.

    Initialised as mmcv does: normal, variance 2 / fan-out.
    """

    conv: nn.Conv2d

    def __init__(self, before: int, after: int, side: int, *, norm: bool = False, relu: bool = False) -> None:
        conv = nn.Conv2d(before, after, side, padding=side // 2, bias=not norm)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        parts: list[tuple[str, nn.Module]] = [("conv", conv)]
        parts += [("bn", nn.BatchNorm2d(after))] if norm else []
        parts += [("activation", nn.ReLU())] if relu else []
        super().__init__(OrderedDict(parts))


def drop_path_ramp(rate: float, blocks: int) -> list[float]:
    """Rate of each block of the whole network: 0 for the first, `rate` for the last, linear between."""
    return [rate * k / max(blocks - 1, 1) for k in range(blocks)]


def init_weights(module: nn.Module) -> None:
    """Normal with std 0.02 for every convolution and linear layer, biases zero (truncation at +-2 never bites)."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def init_fan_in(model: nn.Module) -> None:
    """Normal with variance 1 / fan-in for convolutions and linear layers but the head, biases zero.

    Depthwise kernels are drawn under a Gaussian window of `WINDOW` positions and brought back to the same size: large
    kernels that look around their centre first (Trockman, Willmott and Kolter, "Understanding the covariance structure
    of convolutional filters", 2022, found trained ones to).

    Not the paper's rule: 0.02 is close to 1 / sqrt(fan-in) at its widths, but an eighth of it at the 40 channels of the
    smallest size. There every block starts next to nothing, and a short run is over before it has grown. docs/LOG.md
    has what each of the two is worth.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and name != "head":
            nn.init.trunc_normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
                module.weight.mul_(_window(module.kernel_size[0]))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _window(side: int) -> torch.Tensor:
    """(side, side) Gaussian around the centre with a mean square of 1, which keeps a kernel's expected size."""
    distance = torch.arange(side) - side // 2
    window = torch.exp(-(distance[:, None] ** 2 + distance**2) / (2 * WINDOW**2))
    return window / window.square().mean().sqrt()


def make_head(channels: int, num_classes: int, init_scale: float = 1.0) -> nn.Module:
    """The classifier, or an identity for `num_classes=0`. The scale multiplies weight and bias (official code)."""
    if num_classes == 0:
        return nn.Identity()
    head = nn.Linear(channels, num_classes)
    init_weights(head)
    with torch.no_grad():
        head.weight.mul_(init_scale)
        head.bias.mul_(init_scale)
    return head
