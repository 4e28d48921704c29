"""The networks by themselves: sizes as counted, layer groups, drop path, forms of output, memory layout."""

from typing import Unpack

import pytest
import torch
from narrow import backbone_of, instance_of, not_none
from small_models import ModelOptions
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convnext import UserError, create_model
from convnext.catalog.variants import VARIANTS
from convnext.models.convnext import Block, ConvNeXt, ConvNeXtIsotropic
from convnext.models.layers import DropPath

SMALL: ModelOptions = {"depths": (1, 1, 4, 1), "dims": (8, 16, 24, 32), "num_classes": 5}


def small(**options: Unpack[ModelOptions]) -> ConvNeXt:
    """A network whose layer scale is large enough for a block to matter, so that a wrong block shows."""
    torch.manual_seed(0)
    model = instance_of(ConvNeXt, create_model("convnext_atto", **SMALL | options))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("gamma"):
                value.uniform_(0.2, 0.4)
    return model


def images(size: int = 32, count: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", VARIANTS)
def test_counted_parameters_and_multiply_adds_are_the_closed_form(name: str) -> None:
    with torch.device("meta"):
        model, x = create_model(name).eval(), torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        assert model(x).shape == (1, 1000)
    assert sum(p.numel() for p in model.parameters()) == VARIANTS[name].parameters()
    assert counter.get_total_flops() == 2 * VARIANTS[name].multiply_adds(224)


@pytest.mark.parametrize("options", [{"num_classes": 21841}, {"in_chans": 1, "patch_size": 2}, {"num_classes": 0}])
def test_counted_parameters_with_options(options: ModelOptions) -> None:
    with torch.device("meta"):
        model = backbone_of(create_model("convnext_tiny", **options))
    counted = sum(p.numel() for p in model.parameters())
    assert counted == model.arch.parameters(options.get("num_classes", 1000), options.get("in_chans", 3))


# recipes_precisely section 2, written out: parameter -> group for networks with `blocks` blocks in the third stage.
def layer_table(blocks: int) -> dict[str, int]:
    groups = -(-blocks // 3)
    table = {"downsample_layers.0.0.weight": 0, "downsample_layers.0.1.bias": 0, "stages.0.2.gamma": 1}
    table |= {"downsample_layers.1.0.weight": 2, "stages.1.0.dwconv.weight": 2, "downsample_layers.2.1.weight": 3}
    table |= {f"stages.2.{b}.pwconv1.weight": 3 + b // 3 for b in range(blocks)}
    table |= {"downsample_layers.3.1.bias": 3 + groups, "stages.3.2.norm.weight": 3 + groups}
    return table | {"norm.weight": 4 + groups, "head.weight": 4 + groups, "norm2.bias": 4 + groups}


HIERARCHICAL = [name for name, arch in VARIANTS.items() if not arch.isotropic]


@pytest.mark.parametrize("name", HIERARCHICAL)
def test_layer_ids_are_the_table(name: str) -> None:
    with torch.device("meta"):
        model = backbone_of(create_model(name))
    assert model.num_layer_ids == {6: 7, 8: 8, 9: 8, 27: 14}[VARIANTS[name].depths[2]]
    table = layer_table(VARIANTS[name].depths[2])
    assert {key: model.layer_id(key) for key in table} == table
    ids = {model.layer_id(key) for key, _ in model.named_parameters()}
    assert ids == set(range(model.num_layer_ids))


def test_layer_decay_scales_of_the_base_model() -> None:
    with torch.device("meta"):
        model = backbone_of(create_model("convnext_base"))
    last = model.num_layer_ids - 1
    assert 0.8 ** (last - model.layer_id("downsample_layers.0.0.weight")) == pytest.approx(0.0550, abs=5e-5)
    assert 0.8 ** (last - model.layer_id("stages.3.0.gamma")) == pytest.approx(0.8)
    assert 0.7 ** (last - model.layer_id("downsample_layers.0.0.weight")) == pytest.approx(0.00969, abs=5e-6)


@pytest.mark.parametrize(
    ("name", "scales"),
    [("convnext_tiny", (0.478, 0.531, 0.590, 0.656, 0.729)), ("convnext_small", (0.254, 0.282, 0.314, 0.349, 0.387))],
)
def test_stage_rule_gives_the_published_scales(name: str, scales: tuple[float, ...]) -> None:
    with torch.device("meta"):
        model = backbone_of(create_model(name))
    last = model.num_layer_ids - 1
    names = [
        "downsample_layers.{}.0.weight",
        "stages.0.0.gamma",
        "stages.1.0.gamma",
        "stages.2.8.gamma",
        "stages.3.0.gamma",
    ]
    for stage in range(4):
        assert model.layer_id(names[0].format(stage), "stage") == 0
    found = [0.9 ** (last - model.layer_id(key.format(0), "stage")) for key in names]
    assert found == pytest.approx(scales, abs=6e-4)
    assert model.layer_id("head.weight", "stage") == last


def test_isotropic_groups_are_stem_triples_head() -> None:
    with torch.device("meta"):
        model = instance_of(ConvNeXtIsotropic, create_model("convnext_isotropic_small"))
    assert model.num_layer_ids == 8
    assert [model.layer_id(f"blocks.{b}.norm.bias") for b in (0, 2, 3, 17)] == [1, 1, 2, 6]
    assert (model.layer_id("stem.weight"), model.layer_id("head.bias")) == (0, 7)


@pytest.mark.parametrize("name", ["convnext_tiny", "convnext_isotropic_small"])
def test_drop_path_rises_linearly_over_all_blocks(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, drop_path_rate=0.4)
    rates = [module.drop_path.rate for module in model.modules() if isinstance(module, Block)]
    assert rates == pytest.approx([0.4 * k / 17 for k in range(18)])


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    kept = DropPath(0.25).train()(torch.ones(4000, 2, 2, 2)).flatten(1)
    assert torch.allclose(kept.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert (kept == kept[:, :1]).all()
    assert kept.mean().item() == pytest.approx(1, abs=0.04)
    assert torch.equal(DropPath(0.9).eval()(torch.ones(3, 2)), torch.ones(3, 2))


def test_head_init_scale_multiplies_weight_and_bias() -> None:
    torch.manual_seed(0)
    scaled = create_model("convnext_atto", head_init_scale=0.001)
    torch.manual_seed(0)
    plain = create_model("convnext_atto")
    weight = plain.get_parameter("head.weight")
    assert torch.allclose(scaled.get_parameter("head.weight"), weight * 0.001)
    assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not plain.get_parameter("head.bias").any()


def test_layer_scale_zero_means_no_parameter() -> None:
    assert not any("gamma" in name for name, _ in small(layer_scale_init_value=0).named_parameters())
    model = create_model("convnext_atto", **SMALL | {"layer_scale_init_value": 0.5})
    gamma = model.get_parameter("stages.0.0.gamma")
    assert torch.equal(gamma, torch.full((8,), 0.5))
    with torch.device("meta"):
        scales = {
            size: any("gamma" in name for name, _ in create_model(f"convnext_isotropic_{size}").named_parameters())
            for size in ("small", "base", "large")
        }
    assert scales == {"small": False, "base": False, "large": True}


@pytest.mark.parametrize("channels", [1, 4])
def test_in_chans(channels: int) -> None:
    assert small(in_chans=channels)(images(channels=channels)).shape == (2, 5)


@pytest.mark.parametrize(("patch", "side"), [(1, 32), (2, 16), (4, 8)])
def test_patch_size_sets_the_maps(patch: int, side: int) -> None:
    model = small(patch_size=patch)
    maps = model.features(images())
    assert [m.shape[-1] for m in maps] == [side, side // 2, side // 4, side // 8]
    assert model.strides == tuple(patch * 2**i for i in range(4))


def test_features_only_returns_the_chosen_maps() -> None:
    model = small(features_only=True, out_indices=(1, 3))
    maps = model(images(64))
    assert [tuple(m.shape) for m in maps] == [(2, 16, 8, 8), (2, 32, 2, 2)]
    assert (model.channels, model.strides) == ((16, 32), (8, 32))
    assert [row["num_chs"] for row in model.feature_info] == [16, 32]
    assert not hasattr(model, "head")


def test_features_of_a_classifier_end_in_forward_features() -> None:
    model = small().eval()
    maps = model.features(images(64))
    assert len(maps) == 4
    assert torch.equal(maps[-1], model.forward_features(images(64)))


def test_out_norms_normalise_each_position() -> None:
    model = small(out_norms=True)
    names = {name for name, _ in model.named_parameters()}
    assert {f"norm{i}.weight" for i in range(4)} <= names
    assert not names & {"norm.weight", "head.weight"}
    for map_nchw in model(images(64)):
        assert torch.allclose(map_nchw.mean(1), torch.zeros(()), atol=1e-5)
    assert {n for n, _ in small(out_norms=True, out_indices=(2,)).named_parameters() if n.startswith("norm")} == {
        "norm2.weight",
        "norm2.bias",
    }


def test_isotropic_has_one_map_and_no_stem_norm() -> None:
    with torch.device("meta"):
        model = instance_of(ConvNeXtIsotropic, create_model("convnext_isotropic_small"))
        maps = model.features(torch.empty(1, 3, 224, 224))
    assert [tuple(m.shape) for m in maps] == [(1, 384, 14, 14)]
    assert isinstance(model.stem, nn.Conv2d)


def test_forward_head_and_reset_classifier() -> None:
    model = small().eval()
    last = model.forward_features(images())
    pooled = model.forward_head(last, pre_logits=True)
    assert pooled.shape == (2, 32)
    assert torch.equal(model.head(pooled), model(images()))
    model.reset_classifier(7)
    assert model(images()).shape == (2, 7)
    model.reset_classifier(0)
    assert torch.equal(model(images()), pooled)
    with pytest.raises(ValueError, match="no classifier"):
        small(features_only=True).reset_classifier(3)


def test_dropout_acts_in_training_only() -> None:
    model = small(drop_rate=0.5)
    assert not torch.equal(model(images()), model(images()))
    model.eval()
    assert torch.equal(model(images()), model(images()))


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    model(x).square().sum().backward()
    return {name: not_none(p.grad).clone() for name, p in model.named_parameters()}


def test_grad_checkpointing_gives_equal_gradients() -> None:
    model = small()
    plain = gradients(model, images())
    model.set_grad_checkpointing(True)
    calls: list[object] = []
    hook = model.get_submodule("stages.0.0").register_forward_pre_hook(lambda module, inputs: calls.append(module))
    again = gradients(model, images())
    hook.remove()
    assert len(calls) == 2  # forward, and once more in backward
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_channels_last_gives_the_same_numbers() -> None:
    model = small()
    x = images(64)
    plain, expected = gradients(model, x), model(x)
    model.to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    assert torch.allclose(model(x), expected, rtol=1e-5, atol=1e-6)
    assert model.forward_features(x).is_contiguous(memory_format=torch.channels_last)
    for name, value in gradients(model, x).items():
        assert torch.allclose(value, plain[name], rtol=1e-4, atol=1e-5), name


def test_wrong_out_indices_are_refused() -> None:
    with pytest.raises(ValueError, match="out_indices"):
        small(features_only=True, out_indices=(7,))


@pytest.mark.parametrize("indices", [(0, 9), (-1,), ()])
def test_maps_that_are_not_there_are_refused(indices: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="between 0 and 3"):
        create_model("convnext_atto", features_only=True, out_indices=indices)
    assert create_model("convnext_isotropic_small", features_only=True, depths=(1,), dims=(8,)).out_indices == (0,)
