"""The road from ResNet to ConvNeXt: costs of all 34 rows, and what its two ends are."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from narrow import instance_of
from torch import Tensor, nn
from torchvision.models import resnet50

from convnext import create_model, load_weights, save_weights
from convnext.errors import UserError
from convnext.models.roadmap import build
from convnext.paper import costs as bench
from convnext.recipes.roadmap import STEPS, Design, Reading, design, find_step, name_of, parse

# Multiply-adds in 10^9 and parameters, with norms on stem and shortcuts and without bias before the last step.
COUNTED = {
    "tiny": (
        (4.0892, 25_557_032), (4.0892, 25_557_032), (4.5259, 28_628_520), (4.4175, 28_622_184), (2.3495, 15_722_664),
        (5.2680, 33_761_032), (4.6444, 25_851_496), (4.0651, 25_625_512), (4.0973, 25_720_744), (4.1456, 25_863_592),
        (4.2100, 26_054_056), (4.2906, 26_292_136), (4.1456, 25_863_592), (4.1456, 25_863_592), (4.1456, 25_797_352),
        (4.1456, 25_797_352), (4.4555, 28_582_504),
    ),
    "base": (
        (15.0075, 64_673_832), (15.0075, 64_673_832), (14.5184, 83_066_332), (14.3762, 83_058_016),
        (7.2344, 42_585_556), (16.7639, 96_526_696), (15.6794, 83_700_200), (14.6270, 83_094_760),
        (14.6989, 83_369_192), (14.8066, 83_780_840), (14.9503, 84_329_704), (15.1300, 85_015_784),
        (14.8066, 83_780_840), (14.8066, 83_780_840), (14.8066, 83_600_360), (14.8066, 83_600_360),
        (15.3547, 88_573_416),
    ),
}  # fmt: skip
LISTED = Reading(stem_norm=True, conv_bias=False)
FAMILY = {"tiny": ("convnext_tiny", 28_589_128), "base": ("convnext_base", 88_591_464)}
SMALL = Reading(width=0.25, depth=0.3)
Rows = dict[tuple[str, int], dict[str, Any]]
M = TypeVar("M", bound=nn.Module)


@pytest.fixture(scope="module")
def rows() -> Rows:
    made = bench.roadmap_rows(reading=LISTED)
    return {(instance_of(str, row["regime"]), instance_of(int, row["step"])): row for row in made if "step" in row}


@pytest.mark.parametrize(("regime", "step"), [(r, i) for r in COUNTED for i in range(17)])
def test_multiply_adds_and_parameters_are_the_listed_ones(rows: Rows, regime: str, step: int) -> None:
    gmacs, parameters = COUNTED[regime][step]
    assert rows[regime, step]["GFLOPs (counted)"] == pytest.approx(gmacs, abs=0.005)
    assert rows[regime, step]["parameters"] == parameters


def test_all_but_the_two_misprints_agree_with_the_paper(rows: Rows) -> None:
    differing = {key for key, row in rows.items() if not row["agrees"]}
    assert differing == {("tiny", 15), ("tiny", 16)}
    assert all(rows[key]["note"] for key in differing)


@pytest.mark.parametrize("regime", STEPS)
def test_the_open_choices_cost_no_multiply_adds_and_few_parameters(regime: str) -> None:
    for step in (3, 7, 14):
        listed, ours = (bench.count(partial(build, regime, step, reading=reading)) for reading in (LISTED, Reading()))
        assert ours.multiply_adds == listed.multiply_adds
        assert abs(ours.parameters - listed.parameters) < 120_000


@pytest.mark.parametrize("regime", STEPS)
def test_the_last_step_is_the_familys_network(regime: str) -> None:
    name, parameters = FAMILY[regime]
    cost = bench.count(lambda: build(regime, 16, layer_scale_init_value=1e-6))
    assert cost.parameters == parameters
    with torch.device("meta"):
        ours, family = build(regime, 16, layer_scale_init_value=1e-6), create_model(name)
    assert {n: v.shape for n, v in ours.state_dict().items()} == {n: v.shape for n, v in family.state_dict().items()}


def test_the_last_steps_weights_load_into_the_family_and_give_the_same_logits() -> None:
    ours = scrambled(build("tiny", 16, layer_scale_init_value=1e-6)).eval()
    family = create_model("convnext_tiny").eval()
    assert load_weights(family, ours.state_dict()).ok
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(ours(image), family(image))


def test_the_first_step_is_torchvisions_resnet() -> None:
    ours, theirs = build("tiny", 0).eval(), scrambled(resnet50(weights=None)).eval()
    mine, wanted = ours.state_dict(), theirs.state_dict()
    assert [v.shape for v in mine.values()] == [v.shape for v in wanted.values()]  # the same layers in the same order
    ours.load_state_dict(dict(zip(mine, wanted.values(), strict=True)))
    image = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(image), theirs(image), rtol=1e-5, atol=1e-5)


def scrambled(model: M) -> M:
    """Weights away from their start, so that no layer hides behind a zero or a one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                draw = torch.rand(value.shape, generator=generator)
                fan_in = value[0].numel() if value.ndim > 1 else 1
                value.copy_(0.5 + draw if "var" in name or value.ndim == 1 else (draw - 0.5) * 3 / fan_in**0.5)
    return model


@pytest.mark.parametrize("regime", STEPS)
@pytest.mark.parametrize("step", range(17))
def test_every_step_learns_at_a_small_size(regime: str, step: int) -> None:
    torch.manual_seed(0)
    model = build(regime, step, num_classes=3, reading=SMALL, drop_path_rate=0.1)
    logits = model(torch.randn(4, 3, 32, 32))
    assert logits.shape == (4, 3)
    logits.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def outputs(step: int) -> Tensor:
    torch.manual_seed(0)
    model = scrambled(build("tiny", step, num_classes=3, reading=SMALL)).eval()
    return model(torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32))


@pytest.mark.parametrize("step", range(2, 17))
def test_every_step_changes_what_its_base_computes(step: int) -> None:
    base = STEPS["tiny"][step].base
    assert base is not None
    assert not torch.allclose(outputs(step), outputs(base))


def test_open_choices_change_the_network_where_they_apply() -> None:
    names = {
        option: set(build("tiny", step, reading=Reading(**SMALL.__dict__ | {option: value})).state_dict())
        ^ set(build("tiny", step, reading=SMALL).state_dict())
        for option, value, step in (("stem_norm", True, 7), ("shortcut_norm", False, 7), ("conv_bias", False, 14))
    }
    assert any(name.startswith("downsample_layers.0.1.") for name in names["stem_norm"])
    assert {name.split(".")[3] for name in names["shortcut_norm"]} == {"shortcut"}
    assert {name.rsplit(".", 1)[1] for name in names["conv_bias"]} == {"bias"}


def test_side_steps_are_left_again() -> None:
    assert design("tiny", "ReLU to GELU").kernel == 7
    assert design("base", "stage ratio") == Design(depths=(3, 3, 27, 3), width=84)
    assert [STEPS["tiny"][i].base for i in (8, 9, 10, 11)] == [7, 7, 7, 7]


def test_names_say_step_and_reading() -> None:
    reading = Reading(stem_norm=True, layer_scale=1e-6, width=0.25)
    name = name_of("tiny", "fewer norms", reading)
    assert name == "roadmap:tiny/14:stem_norm=True,layer_scale=1e-06,width=0.25"
    assert parse(name) == ("tiny", 14, reading)
    assert find_step("base", "16") == 16


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("roadmap:tiny", "names no step"),
        ("roadmap:small/3", "no regime 'small'"),
        ("roadmap:tiny/17", "0 to 16"),
        ("roadmap:tiny/fewer norm", "did you mean 'fewer norms'"),
        ("roadmap:tiny/3:stem=1", "leaves no 'stem' open"),
        ("roadmap:tiny/3:width=0", "must be positive"),
        ("roadmap:tiny/3:width=wide", "width='wide'"),
    ],
)
def test_mistakes_in_names_are_told(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        create_model(name)


def test_a_step_is_saved_and_built_again(tmp_path: Path) -> None:
    model = create_model("roadmap:tiny/13:width=0.1,depth=0.3,layer_scale=0.5", num_classes=4)
    save_weights(model, tmp_path / "step.safetensors")
    again = create_model(str(tmp_path / "step.safetensors"))
    assert again.variant == model.variant
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
