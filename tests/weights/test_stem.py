"""The stem that pools: what it computes, what it costs, where its files go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Unpack

import pytest
import torch
from fixture_types import MakePictures
from narrow import backbone_of, instance_of
from safetensors.torch import save_file
from small_models import ModelOptions
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convnext import UserError, api
from convnext.catalog.variants import Arch
from convnext.models.convnext import Backbone
from convnext.pretrained import from_pretrained, load_weights, save_weights
from convnext.segmentation.model import Segmenter, build_segmenter
from convnext.weights.backbone import create_model

SMALL: ModelOptions = {"depths": (1, 1, 2, 1), "dims": (8, 8, 16, 16), "num_classes": 5}


@pytest.fixture
def pooled() -> Backbone:
    torch.manual_seed(0)
    return backbone_of(create_model("convnext_atto", **SMALL | {"stem": "pool"})).eval()


def test_it_is_resnets_with_layer_norm(pooled: Backbone) -> None:
    """conv 7 x 7 of stride 2, norm over channels, GELU, max-pooling of 3: on the maps that patches of 4 would leave."""
    stem = instance_of(nn.Sequential, pooled.get_submodule("downsample_layers.0"))
    conv, norm = instance_of(nn.Conv2d, stem[0]), instance_of(nn.LayerNorm, stem[1])
    x = torch.rand(2, 3, 64, 96)
    y = nn.functional.conv2d(x, conv.weight, conv.bias, stride=2, padding=3).permute(0, 2, 3, 1)
    y = nn.functional.gelu(nn.functional.layer_norm(y, (8,), norm.weight, norm.bias, 1e-6)).permute(0, 3, 1, 2)
    expected = nn.functional.max_pool2d(y, 3, 2, 1)
    torch.testing.assert_close(stem(x), expected)
    assert expected.shape[-2:] == (16, 24)
    assert pooled.strides == (4, 8, 16, 32)


@pytest.mark.parametrize("side", [32, 45, 64, 97])
@pytest.mark.parametrize("stride", [2, 4])
def test_its_cost_in_closed_form(side: int, stride: int) -> None:
    model = backbone_of(create_model("convnext_atto", **SMALL | {"stem": "pool", "patch_size": stride})).eval()
    assert model.arch.parameters(5) == sum(value.numel() for value in model.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, side, side))
    assert model.arch.multiply_adds(side, 5) == counter.get_total_flops() // 2


def test_a_file_of_it_is_opened_as_it_is(pooled: Backbone, tmp_path: Path) -> None:
    save_weights(pooled, tmp_path / "pooled.safetensors")
    again = from_pretrained(tmp_path / "pooled.safetensors")
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), pooled(x))
    assert backbone_of(again).arch.stem == "pool"


def test_weights_of_the_other_stem_are_refused(pooled: Backbone, tmp_path: Path) -> None:
    patches = create_model("convnext_atto", **SMALL)
    save_weights(pooled, tmp_path / "pooled.safetensors")
    save_weights(patches, tmp_path / "patches.safetensors")
    with pytest.raises(UserError, match=r"pooled.safetensors has a stem that pools and .* one of patches: .*stem=pool"):
        load_weights(patches, tmp_path / "pooled.safetensors")
    with pytest.raises(UserError, match=r"patches.safetensors has a stem of patches and .* that pools: .*stem=patch"):
        load_weights(pooled, tmp_path / "patches.safetensors")


def test_bare_weights_are_taken_where_they_are_the_networks_own_and_else_refused(
    pooled: Backbone, tmp_path: Path
) -> None:
    """Read as patches of 7, a checkpoint of a run answered otherwise: 66.7 % for 100, without a word."""
    other = create_model("convnext_atto", **SMALL | {"stem": "pool"})
    load_weights(other, pooled.state_dict())
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(other.eval()(x), pooled(x))
    save_file(pooled.state_dict(), tmp_path / "raw.safetensors")
    with pytest.raises(UserError, match=r"raw.safetensors has a stem of 7 x 7 and does not say whether it pools"):
        from_pretrained(tmp_path / "raw.safetensors")
    with pytest.raises(UserError, match=r"a stem of patches and the network one that pools"):
        load_weights(pooled, create_model("convnext_atto", **SMALL).state_dict())


def test_detectors_and_segmenters_have_one_and_refuse_the_other(tmp_path: Path) -> None:
    def upernet(**given: Unpack[ModelOptions]) -> Segmenter:
        torch.manual_seed(0)
        shape: ModelOptions = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16), "out_norms": True}
        return build_segmenter(backbone_of(create_model("convnext_atto", **shape | given)), 3, channels=8)

    pooled = upernet(stem="pool").eval()
    save_weights(pooled, tmp_path / "pooled.safetensors")
    again = from_pretrained(tmp_path / "pooled.safetensors").eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(x), pooled(x))
    with pytest.raises(UserError, match="a stem that pools and the network one of patches"):
        load_weights(upernet(patch_size=7), tmp_path / "pooled.safetensors")


@pytest.mark.parametrize("naming", ["timm", "torchvision", "transformers", "mmpretrain"])
def test_other_libraries_have_none(pooled: Backbone, naming: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{naming} has no ConvNeXt whose stem pools"):
        save_weights(pooled, tmp_path / "theirs.pth", naming=naming)
    assert not list(tmp_path.iterdir())


def test_what_it_cannot_be() -> None:
    with pytest.raises(UserError, match="patch_size 1 must be even"):
        Arch((1, 1, 1, 1), (8, 8, 8, 8), patch_size=1, stem="pool")
    with pytest.raises(UserError, match="isotropic"):
        create_model("convnext_isotropic_small", stem="pool")
    with pytest.raises(UserError, match="must be patch or pool"):
        create_model("convnext_atto", stem="swirl")


def test_a_run_of_it_goes_on_and_is_fine_tuned(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    data = pictures(size=32)
    settings = tiny | {"stem": "pool", "patch_size": 4, "image_size": 32}
    run = api.train(data, out=tmp_path / "run", settings=settings, report=False)
    log = run.path / "log.jsonl"
    log.write_text("".join(f"{line}\n" for line in log.read_text().splitlines() if '"end"' not in line))
    api.train(out=run.path, resume=True, report=False)
    model = run.path / "model.safetensors"
    assert json.loads((run.path / "recipe.json").read_text())["stem"] == "pool"
    tuned = api.train(
        data,
        "finetune",
        out=tmp_path / "tuned",
        report=False,
        settings={"weights": str(model), "steps": 2, "workers": 0, "image_size": 32},
    )
    assert backbone_of(from_pretrained(tuned.path / "model.safetensors")).arch.stem == "pool"


def test_the_start_that_ships_is_not_asked_for(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {name: value for name, value in tiny.items() if name not in ("model", "depths", "dims", "patch_size")}
    settings |= {"stem": "pool", "image_size": 32, "steps": 1}
    api.train(pictures(size=32), out=tmp_path / "run", settings=settings, report=False)
    assert "the weights that ship are of another network" in capsys.readouterr().out
