"""Weights written in a peer's naming load into that peer, strictly, and come back bit for bit."""

from pathlib import Path
from typing import Any, TypeVar, Unpack

import pytest
import timm
import torch
import torchvision
from narrow import backbone_of
from safetensors.torch import load_file
from small_models import ModelOptions
from torch import nn
from transformers import ConvNextBackbone, ConvNextConfig, ConvNextForImageClassification, ConvNextModel

from convnext import create_model, load_weights, save_weights
from convnext.catalog.variants import VARIANTS
from convnext.models.convnext import Backbone
from convnext.weights.keymaps import WRITTEN, from_official, to_official

CLASSES = 10
M = TypeVar("M", bound=nn.Module)


def config(name: str) -> ConvNextConfig:
    arch = VARIANTS[name]
    options: dict[str, Any] = {"depths": list(arch.depths), "hidden_sizes": list(arch.dims), "num_labels": CLASSES}
    return ConvNextConfig(**options)


def fresh(name: str, **options: Unpack[ModelOptions]) -> Backbone:
    """A network of ours whose memory holds anything: whatever is not loaded shows."""
    classes: ModelOptions = {"num_classes": CLASSES}
    with torch.device("meta"):
        model = backbone_of(create_model(name, **classes | options))
    return model.to_empty(device="cpu")


def randomised(model: M, seed: int = 0) -> M:
    """Every value different, so that two swapped entries of one shape show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.uniform_(generator=generator)
    return model


def equal(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


CLASSIFIERS = [naming for naming, forms in WRITTEN.items() if forms[0] is not None]
DENSE = [naming for naming, forms in WRITTEN.items() if forms[1] is not None]


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("convnext_atto", ".safetensors"), ("convnext_atto", ".pth"), ("convnext_tiny", ".safetensors")],
)
@pytest.mark.parametrize("naming", CLASSIFIERS)
def test_round_trip_of_a_classifier_is_bit_exact(naming: str, name: str, suffix: str, tmp_path: Path) -> None:
    model = randomised(fresh(name))
    path = save_weights(model, tmp_path / f"model{suffix}", naming=naming)
    back = fresh(name)
    report = load_weights(back, path)
    assert report.ok
    assert report.naming == naming
    assert report.loaded == len(model.state_dict())
    assert equal(model, back)


NORMED = [naming for naming in DENSE if naming not in ("timm", "torchvision")]  # these two have no output norms


@pytest.mark.parametrize(("naming", "norms"), [(n, False) for n in DENSE] + [(n, True) for n in NORMED])
def test_round_trip_of_the_dense_form_is_bit_exact(naming: str, norms: bool, tmp_path: Path) -> None:
    options: ModelOptions = {"out_norms": norms, "features_only": not norms}
    model = randomised(fresh("convnext_atto", **options))
    back = fresh("convnext_atto", **options)
    assert load_weights(back, save_weights(model, tmp_path / "model.safetensors", naming=naming)).ok
    assert equal(model, back)


def test_round_trip_of_an_isotropic_model_is_bit_exact(tmp_path: Path) -> None:
    model = randomised(fresh("convnext_isotropic_small"))
    back = fresh("convnext_isotropic_small")
    assert load_weights(back, save_weights(model, tmp_path / "model.safetensors")).ok
    assert equal(model, back)


SHAPES = [
    (naming, name)
    for naming in CLASSIFIERS
    for name, arch in VARIANTS.items()
    if naming == "official" or not arch.isotropic
]


@pytest.mark.parametrize(("naming", "name"), SHAPES)
def test_every_size_translates_there_and_back(naming: str, name: str) -> None:
    with torch.device("meta"):
        model = backbone_of(create_model(name))
    ours = model.state_dict()
    theirs = from_official(ours, naming, model.arch, dense=False)
    assert len(theirs) == len(ours)
    back = to_official(theirs, "shapes")
    assert {k: v.shape for k, v in back.weights.items()} == {k: v.shape for k, v in ours.items()}
    assert back.naming.name == naming


def peers(name: str) -> dict[str, nn.Module]:
    with torch.device("meta"):
        made = {
            "timm": timm.create_model(name, num_classes=CLASSES),
            "transformers": ConvNextForImageClassification(config(name)),
        }
        if hasattr(torchvision.models, name):
            made["torchvision"] = torchvision.models.get_model(name, num_classes=CLASSES)
    return {naming: peer.to_empty(device="cpu") for naming, peer in made.items()}


@pytest.mark.parametrize("name", ["convnext_atto", "convnext_tiny"])
def test_written_files_load_strictly_into_the_peers(name: str, tmp_path: Path) -> None:
    model = randomised(fresh(name))
    for naming, peer in peers(name).items():
        written = load_file(save_weights(model, tmp_path / f"{naming}.safetensors", naming=naming))
        peer.load_state_dict(written, strict=True)
        back = fresh(name)
        assert load_weights(back, peer.state_dict()).ok
        assert equal(model, back)


def test_a_features_only_file_loads_strictly_into_timms(tmp_path: Path) -> None:
    model = randomised(fresh("convnext_atto", features_only=True))
    written = load_file(save_weights(model, tmp_path / "features.safetensors", naming="timm"))
    timm.create_model("convnext_atto", features_only=True).load_state_dict(written, strict=True)


def test_transformers_reads_a_written_folder(tmp_path: Path) -> None:
    model = randomised(fresh("convnext_atto"))
    save_weights(model, tmp_path / "model.safetensors", naming="transformers")
    config("convnext_atto").save_pretrained(tmp_path)
    peer = ConvNextForImageClassification.from_pretrained(tmp_path)
    assert torch.equal(peer.classifier.weight, model.get_parameter("head.weight"))
    assert torch.equal(peer.convnext.layernorm.bias, model.norm.bias)


def test_the_transformers_model_without_a_head_leaves_ours_fresh() -> None:
    peer = randomised(ConvNextModel(config("convnext_atto")))
    model = create_model("convnext_atto", num_classes=CLASSES)
    before = model.get_parameter("head.weight").clone()
    report = load_weights(model, peer.state_dict())
    assert report.ok
    assert report.head == "reinitialised"
    assert torch.equal(model.get_parameter("norm.weight"), peer.get_parameter("layernorm.weight"))
    assert torch.equal(model.get_parameter("head.weight"), before)


def test_the_transformers_backbone_under_a_classifiers_prefix_is_read() -> None:
    made = config("convnext_atto")
    made.out_features = ["stage4"]
    peer = randomised(ConvNextBackbone(made))
    model = fresh("convnext_atto", out_norms=True, out_indices=(3,))
    assert load_weights(model, {f"convnext.{key}": value for key, value in peer.state_dict().items()}).ok
    theirs = peer.get_parameter("hidden_states_norms.stage4.weight")
    assert torch.equal(model.get_parameter("norm3.weight"), theirs)
