"""The faster weight gradient is the library's own, to rounding; whatever else the layer does is untouched."""

from __future__ import annotations

import pytest
import torch
from narrow import backbone_of, not_none
from small_models import ModelOptions
from torch import nn

from convnext.models.depthwise import DepthwiseConv, weight_gradient
from convnext.weights.backbone import create_model

SHAPES = [
    (2, 3, 28, 28),
    (3, 5, 14, 14),
    (2, 4, 7, 7),
    (5, 6, 3, 3),
    (4, 2, 1, 1),
    (2, 3, 8, 8),
    (2, 3, 9, 20),
    (1, 2, 5, 8),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel", [7, 3])
def test_the_weight_gradient_is_the_librarys(shape: tuple[int, int, int, int], kernel: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(shape[1], shape[1], kernel, padding=kernel // 2, groups=shape[1])
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    y = layer(x)
    gradient = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, layer.weight, gradient)
    torch.testing.assert_close(weight_gradient(x, gradient, kernel), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_under_autocast_it_is_as_close_to_fp32_as_the_librarys(shape: tuple[int, int, int, int]) -> None:
    torch.manual_seed(0)
    ours = DepthwiseConv(shape[1], 7)
    theirs = nn.Conv2d(shape[1], shape[1], 7, padding=3, groups=shape[1])
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(shape)

    def run(layer: nn.Module, bf16: bool) -> list[torch.Tensor]:
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = layer(leaf)
        out.float().square().sum().backward()
        found = [out.float().detach(), not_none(leaf.grad), *(not_none(p.grad) for p in layer.parameters())]
        layer.zero_grad(set_to_none=True)
        return found

    exact, fast, slow = run(theirs, bf16=False), run(ours, bf16=True), run(theirs, bf16=True)
    for e, f, s in zip(exact, fast, slow, strict=True):
        size = e.abs().max()
        assert (f - e).abs().max() / size <= (s - e).abs().max() / size + 4e-3


def test_in_fp32_the_layer_is_the_librarys_bit_for_bit() -> None:
    torch.manual_seed(0)
    ours, theirs = DepthwiseConv(4, 7), nn.Conv2d(4, 4, 7, padding=3, groups=4)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, 14, 14)
    for layer in (ours, theirs):
        layer(x).square().sum().backward()
    assert torch.equal(not_none(ours.weight.grad), not_none(theirs.weight.grad))


def test_a_frozen_weight_gets_no_gradient_and_the_input_does() -> None:
    layer = DepthwiseConv(4, 7).requires_grad_(False)
    x = torch.randn(2, 4, 7, 7, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).float().sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_network_learns_the_same_with_and_without_recomputing(checkpointing: bool) -> None:
    torch.manual_seed(0)
    options: ModelOptions = {"num_classes": 3, "depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16), "patch_size": 2}
    model = backbone_of(create_model("convnext_atto", **options))
    x = torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        model(x).float().square().sum().backward()
    before = {name: not_none(p.grad).clone() for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    model.set_grad_checkpointing(checkpointing)
    with torch.autocast("cpu", torch.bfloat16):
        model(x).float().square().sum().backward()
    for name, p in model.named_parameters():
        assert torch.equal(not_none(p.grad), before[name]), name
