"""Which parameters decay, at what share of the rate they move, which are Muon's, and what one step does."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch import nn

from convnext.recipes.recipe import AdamW
from convnext.training.optim import (
    CombinedOptimizer,
    Optimiser,
    decays,
    is_head,
    make_optimiser,
    parameter_groups,
    set_lr,
)
from convnext.weights.backbone import create_model

LAYER_DECAY = AdamW(layer_decay=0.7)
DEPTHS = {"convnext_tiny": 9, "convnext_base": 27}  # blocks of stage 3
DEEPEST = {"convnext_tiny": 7, "convnext_base": 13}  # the head's group: 6 or 12 groups, and the stem's


def build(name: str) -> nn.Module:
    """The real depths with four channels: names and shapes' ranks are what matters here."""
    with torch.device("meta"):
        return create_model(name, dims=(4, 4, 4, 4), num_classes=5)


def layer_table(blocks: int, groups: int) -> dict[str, int]:
    """recipes_precisely sections 2 and 3, rule "layer": the start of a parameter's name -> its group."""
    table = {"downsample_layers.0.": 0, "stages.0.": 1, "downsample_layers.1.": 2, "stages.1.": 2}
    table |= {"downsample_layers.2.": 3, "downsample_layers.3.": groups, "stages.3.": groups}
    table |= {f"stages.2.{block}.": 3 + block // 3 for block in range(blocks)}
    return table | {"norm.": groups + 1, "head.": groups + 1}


def stage_table(head: int) -> dict[str, int]:
    """Section 3, rule "stage": stem and downsampling layers together, then one group a stage, the head far above."""
    table = {f"downsample_layers.{i}.": 0 for i in range(4)} | {f"stages.{i}.": i + 1 for i in range(4)}
    return table | {"norm.": head, "head.": head}


def scale_of(model: nn.Module, settings: AdamW) -> dict[str, float]:
    return {name: group.lr_scale for group in parameter_groups(model, settings) for name in group.names}


def expected_scales(model: nn.Module, table: dict[str, int], head: int, rate: float) -> dict[str, float]:
    found = {}
    for name, _ in model.named_parameters():
        (layer,) = [layer for start, layer in table.items() if name.startswith(start)]
        found[name] = rate ** (head - layer)
    return found


@pytest.mark.parametrize("rate", [0.7, 0.8, 1.0])
@pytest.mark.parametrize("name", DEPTHS)
def test_layer_decay_follows_the_table(name: str, rate: float) -> None:
    model, head = build(name), DEEPEST[name]
    expected = expected_scales(model, layer_table(DEPTHS[name], head - 1), head, rate)
    assert scale_of(model, AdamW(layer_decay=rate)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", DEPTHS)
def test_stage_decay_follows_the_table(name: str) -> None:
    model, head = build(name), DEEPEST[name]
    expected = expected_scales(model, stage_table(head), head, 0.9)
    assert scale_of(model, AdamW(layer_decay=0.9, layer_rule="stage")) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "stem", "stages"),
    [("convnext_tiny", 0.478, (0.531, 0.590, 0.656, 0.729)), ("convnext_base", 0.254, (0.282, 0.314, 0.349, 0.387))],
)
def test_stage_decay_gives_the_published_shares(name: str, stem: float, stages: tuple[float, ...]) -> None:
    scales = scale_of(build(name), AdamW(layer_decay=0.9, layer_rule="stage"))
    assert scales["downsample_layers.3.1.weight"] == pytest.approx(stem, abs=6e-4)
    assert [scales[f"stages.{i}.0.gamma"] for i in range(4)] == pytest.approx(stages, abs=6e-4)
    assert scales["head.weight"] == 1


def test_layer_decay_gives_the_published_shares() -> None:
    model = build("convnext_base")
    assert scale_of(model, AdamW(layer_decay=0.8))["downsample_layers.0.0.weight"] == pytest.approx(0.0550, abs=5e-5)
    assert scale_of(model, AdamW(layer_decay=0.7))["downsample_layers.0.0.weight"] == pytest.approx(0.00969, abs=5e-6)
    assert scale_of(model, AdamW(layer_decay=0.8))["stages.3.2.gamma"] == pytest.approx(0.8)


@pytest.mark.parametrize("name", DEPTHS)
def test_every_depth_has_one_group_that_decays_and_one_that_does_not(name: str) -> None:
    groups = parameter_groups(build(name), LAYER_DECAY)
    assert [(group.layer, group.weight_decay > 0) for group in groups] == [
        (layer, decay) for layer in range(DEEPEST[name] + 1) for decay in (False, True)
    ]


@pytest.mark.parametrize("settings", [AdamW(), LAYER_DECAY, AdamW(layer_decay=0.9, layer_rule="stage")])
def test_every_parameter_is_in_exactly_one_group(settings: AdamW) -> None:
    model = build("convnext_tiny")
    names = [name for group in parameter_groups(model, settings) for name in group.names]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


def test_vectors_and_biases_do_not_decay_and_all_else_does() -> None:
    groups = parameter_groups(build("convnext_tiny"), AdamW(weight_decay=0.05))
    spared = {name for group in groups if group.weight_decay == 0 for name in group.names}
    decaying = {name for group in groups if group.weight_decay == 0.05 for name in group.names}
    assert {name.rsplit(".", 1)[1] for name in spared} == {"weight", "bias", "gamma"}
    assert "stages.0.0.norm.weight" in spared
    assert "downsample_layers.1.0.weight" in spared
    assert "norm.weight" in spared
    assert {name.rsplit(".", 1)[1] for name in decaying} == {"weight"}
    assert {"head.weight", "stages.0.0.dwconv.weight", "downsample_layers.0.0.weight"} <= decaying


def test_a_bias_is_spared_even_when_it_is_a_matrix() -> None:
    matrix = nn.Parameter(torch.zeros(2, 2))
    assert not decays("position.bias", matrix)
    assert decays("bias_table", matrix)
    assert not decays("gamma", nn.Parameter(torch.zeros(2)))


def test_without_layer_decay_everything_moves_at_the_full_rate() -> None:
    groups = parameter_groups(build("convnext_tiny"), AdamW())
    assert [(group.lr_scale, group.weight_decay) for group in groups] == [(1.0, 0.0), (1.0, 0.05)]


def test_a_baseline_without_layer_ids_is_one_depth() -> None:
    baseline = create_model("torchvision:resnet18", num_classes=3)
    assert not hasattr(baseline, "layer_id")
    groups = parameter_groups(baseline, LAYER_DECAY)
    assert [(group.layer, group.lr_scale, group.weight_decay) for group in groups] == [(0, 1.0, 0.0), (0, 1.0, 0.05)]


def test_frozen_parameters_are_left_out() -> None:
    model = build("convnext_tiny")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head."))
    groups = parameter_groups(model, LAYER_DECAY)
    assert [group.names for group in groups] == [("head.bias",), ("head.weight",)]
    assert {group.lr_scale for group in groups} == {1.0}


def test_set_lr_gives_each_group_its_share() -> None:
    model = create_model("convnext_atto", dims=(4, 4, 4, 4), num_classes=2)
    optimiser = make_optimiser(model, LAYER_DECAY)
    for lr in (1.0, 2e-3):  # shares are of the given rate, not of the one before
        set_lr(optimiser, lr)
        assert [group["lr"] for group in optimiser.param_groups] == pytest.approx(
            [lr * group.lr_scale for group in parameter_groups(model, LAYER_DECAY)], rel=1e-12
        )


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def learn(model: nn.Module, optimiser: Optimiser, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimiser.zero_grad()
        model(torch.randn(5, 3, generator=generator)).square().sum().backward()
        optimiser.step()


def test_the_fast_optimiser_does_what_the_plain_one_does() -> None:
    settings = AdamW(lr=0.01, weight_decay=0.3, betas=(0.8, 0.95), eps=1e-6)
    ours, plain = small(), small()
    vectors = [p for p in plain.parameters() if p.ndim == 1]
    matrices = [p for p in plain.parameters() if p.ndim > 1]
    groups = [{"params": vectors, "weight_decay": 0.0}, {"params": matrices, "weight_decay": 0.3}]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.95), eps=1e-6, fused=False, foreach=False)
    optimiser = make_optimiser(ours, settings)
    set_lr(optimiser, settings.lr)
    learn(ours, optimiser, 5)
    learn(plain, reference, 5)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-6, atol=1e-7)


def test_two_steps_by_hand() -> None:
    """Decay first, by lr * weight_decay of the weight; then the mean gradient over the root of its mean square."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    optimiser = make_optimiser(model, AdamW(lr=0.1, weight_decay=0.5, betas=(0.9, 0.99), eps=0.01))
    set_lr(optimiser, 0.1)
    weight, mean, square = 2.0, 0.0, 0.0
    for step, gradient in enumerate((3.0, -1.0), start=1):
        model.weight.grad = torch.full((1, 1), gradient)
        optimiser.step()
        weight *= 1 - 0.1 * 0.5
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        weight -= 0.1 * (mean / (1 - 0.9**step)) / (sqrt(square / (1 - 0.99**step)) + 0.01)
        assert model.weight.item() == pytest.approx(weight, rel=1e-6)


MUON = AdamW(lr=0.01, weight_decay=0.3, muon=4.0)


def test_muon_has_the_matrices_of_the_blocks_and_adamw_all_else() -> None:
    model = build("convnext_atto")
    groups = parameter_groups(model, MUON)
    moved = {name for group in groups if group.muon for name in group.names}
    assert moved == {
        name for name, _ in model.named_parameters() if name.endswith(("pwconv1.weight", "pwconv2.weight"))
    }
    assert {group.lr_scale for group in groups if group.muon} == {4.0}
    assert {group.lr_scale for group in groups if not group.muon} == {1.0}


def test_muon_keeps_the_shares_of_layer_decay() -> None:
    both = AdamW(layer_decay=0.7, muon=4.0)
    model = build("convnext_tiny")
    plain, scaled = scale_of(model, LAYER_DECAY), scale_of(model, both)
    assert scaled["stages.1.0.pwconv1.weight"] == pytest.approx(4 * plain["stages.1.0.pwconv1.weight"])
    assert scaled["stages.1.0.dwconv.weight"] == plain["stages.1.0.dwconv.weight"]


def test_a_baseline_of_kernels_alone_is_adamws() -> None:
    optimiser = make_optimiser(create_model("torchvision:resnet18", num_classes=3), MUON)
    assert isinstance(optimiser, torch.optim.AdamW)


def test_a_classifier_is_told_by_its_name() -> None:
    assert all(map(is_head, ("head.weight", "heads.head.bias", "fc.weight", "classifier.2.weight")))
    assert not any(map(is_head, ("stages.0.0.pwconv1.weight", "header.weight", "layer1.0.fc.weight")))


def test_a_muon_step_is_the_nearest_orthogonal_matrix_at_the_size_of_adamws() -> None:
    """Singular values of the step lie around 1 (Newton-Schulz leaves 0.5 to 1.5), times the rate and 0.2 sqrt(side)."""
    torch.manual_seed(0)
    model = nn.Linear(16, 32, bias=False)
    model.register_parameter("bias", nn.Parameter(torch.zeros(32)))
    before = model.weight.detach().clone()
    optimiser = make_optimiser(model, AdamW(lr=0.01, weight_decay=0.5, muon=2.0))
    set_lr(optimiser, 0.01)
    gradient = torch.randn(32, 16)
    model.weight.grad, model.bias.grad = gradient.clone(), torch.zeros(32)
    optimiser.step()
    step = before * (1 - 0.02 * 0.5) - model.weight.detach()
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    turned = left.T @ (step / (0.02 * 0.2 * sqrt(32))) @ right.T  # diagonal where the step keeps the singular vectors
    assert 0.5 < turned.diag().min() < turned.diag().max() < 1.5
    assert (turned - turned.diag().diag()).abs().max() < 0.1


def test_two_optimisers_continue_from_what_they_saved() -> None:
    straight, stopped = small(), small()
    whole, first = make_optimiser(straight, MUON), make_optimiser(stopped, MUON)
    assert isinstance(first, CombinedOptimizer)
    learn(straight, whole, 3)
    learn(stopped, first, 3)
    second = make_optimiser(stopped, MUON)
    second.load_state_dict(first.state_dict())
    learn(straight, whole, 2)
    learn(stopped, second, 2)
    for name, value in straight.state_dict().items():
        assert torch.equal(stopped.state_dict()[name], value), name
