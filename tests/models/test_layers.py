"""Initialisation for short runs: each layer keeps the size of what passes through it."""

from __future__ import annotations

from math import exp

import pytest
import torch
from torch import nn

from convnext.models.layers import INIT_STD, init_fan_in
from convnext.weights.backbone import create_model


def test_fan_in_initialisation_has_the_variance_it_names_and_leaves_the_head() -> None:
    torch.manual_seed(0)
    model = create_model("convnext_atto", num_classes=10)
    head = model.get_parameter("head.weight").clone()
    init_fan_in(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and name != "head":
            fan_in = module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.1), name
            assert module.bias is not None
            assert not module.bias.any()
    assert torch.equal(model.get_parameter("head.weight"), head)


def test_the_papers_initialisation_starts_narrow_blocks_weakly_and_fan_in_does_not() -> None:
    torch.manual_seed(0)
    block = create_model("convnext_atto", layer_scale_init_value=1.0).get_submodule("stages.0.0")
    x = torch.randn(4, 40, 14, 14)
    weak = (block(x) - x).std()
    init_fan_in(block)
    assert weak < INIT_STD < 0.2 < (block(x) - x).std()


def test_fan_in_initialisation_gathers_depthwise_kernels_around_their_centre() -> None:
    torch.manual_seed(0)
    model = create_model("convnext_tiny")
    init_fan_in(model)
    kernels = torch.cat([m.weight.flatten(0, 1) for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1])
    power = kernels.square().mean(0)  # (7, 7): mean square at each position
    assert power.sum().item() == pytest.approx(1.0, rel=0.02)  # a kernel neither grows nor shrinks what it sees
    torch.testing.assert_close(power, power.T, rtol=0.1, atol=1e-4)
    assert (power[3, 4] / power[3, 3]).item() == pytest.approx(exp(-1), rel=0.1)  # the square of a window of width 1
    assert power[0].sum() < 1e-3
    other = [
        m.weight for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1 and m.kernel_size == (2, 2)
    ]
    assert (other[0][..., 0, 0].std() / other[0][..., 1, 1].std()).item() == pytest.approx(1, rel=0.05)
