"""A regressor as a file: round trips, other libraries' networks, and going on in another scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from narrow import not_none

from convnext import api, from_pretrained, load_weights, save_weights
from convnext.errors import UserError
from convnext.models.convnext import ConvNeXt
from convnext.regression.model import Regressor
from convnext.weights.backbone import create_model
from convnext.weights.info import ModelInfo, info_of, keep_info

SHAPE: dict[str, Any] = {"depths": (1, 1, 2, 1), "dims": (8, 8, 16, 16)}


def regressor(mean: list[float], std: list[float], seed: int = 0) -> Regressor:
    torch.manual_seed(seed)
    model = Regressor(create_model("convnext_atto", num_classes=len(mean), **SHAPE), mean, std)
    names = [f"number {k}" for k in range(len(mean))]
    keep_info(model, ModelInfo(classes=names))
    model.targets = tuple(names)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_what_comes_out_is_in_the_tables_units(images: torch.Tensor) -> None:
    model = regressor([100.0], [20.0])
    torch.testing.assert_close(model(images), model.network(images) * 20 + 100)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_there_and_back_bit_for_bit(suffix: str, images: torch.Tensor, tmp_path: Path) -> None:
    model = regressor([1000.0, -0.01], [250.0, 1e-3])
    again = from_pretrained(save_weights(model, tmp_path / f"model{suffix}"))
    assert isinstance(again, Regressor)
    assert torch.equal(again(images), model(images))
    assert again.info.classes == ["number 0", "number 1"]


@pytest.mark.parametrize("naming", ["timm", "transformers", "torchvision"])
def test_other_libraries_get_the_scale_in_the_head(naming: str, images: torch.Tensor, tmp_path: Path) -> None:
    model = regressor([100.0, 5.0], [20.0, 0.5])
    path = save_weights(model, tmp_path / f"{naming}.safetensors", naming=naming)
    again = from_pretrained(path)
    assert isinstance(again, Regressor)
    torch.testing.assert_close(again(images), model(images), rtol=1e-5, atol=1e-4)


def test_timms_own_network_says_the_same(images: torch.Tensor, tmp_path: Path) -> None:
    model = regressor([100.0], [20.0])
    path = save_weights(model, tmp_path / "timm.pth", naming="timm")
    theirs = timm.models.convnext.ConvNeXt(num_classes=1, depths=SHAPE["depths"], dims=SHAPE["dims"])
    theirs.load_state_dict(torch.load(path, weights_only=True))
    with torch.inference_mode():
        torch.testing.assert_close(theirs.eval()(images), model(images), rtol=1e-5, atol=1e-4)


def test_going_on_in_another_scale_the_numbers_stay(images: torch.Tensor, tmp_path: Path) -> None:
    first, second = regressor([100.0], [20.0]), regressor([40.0], [3.0], seed=1)
    report = load_weights(second, save_weights(first, tmp_path / "first.safetensors"))
    assert report.head == "loaded"
    assert second.target_mean.item() == 40
    torch.testing.assert_close(second(images), first(images), rtol=1e-5, atol=1e-4)


def test_a_head_of_other_numbers_or_of_classes_starts_fresh(images: torch.Tensor, tmp_path: Path) -> None:
    first, second = regressor([0.0, 0.0], [1.0, 1.0]), regressor([0.0, 0.0], [1.0, 1.0], seed=1)
    second.targets = ("price", "age")
    before = second.get_parameter("network.head.weight").clone()
    report = load_weights(second, save_weights(first, tmp_path / "first.safetensors"))
    assert "the head starts fresh: the file's is of other numbers" in report.notes
    assert torch.equal(second.get_parameter("network.head.weight"), before)
    classifier = create_model("convnext_atto", num_classes=2, **SHAPE)
    report = load_weights(second, save_weights(classifier, tmp_path / "classes.safetensors"))
    assert "the head starts fresh: the file's is no regressor's" in report.notes
    name = "stages.0.0.dwconv.weight"
    assert torch.equal(second.get_parameter(f"network.{name}"), classifier.get_parameter(name))


def test_a_regressors_network_goes_on_as_a_classifiers(tmp_path: Path) -> None:
    path = save_weights(regressor([0.0], [1.0]), tmp_path / "model.safetensors")
    for count in (5, 1):  # and of as many outputs
        classifier = create_model("convnext_atto", num_classes=count, weights=path, **SHAPE)
        assert isinstance(classifier, ConvNeXt)
        assert not_none(info_of(classifier).load_report).head == "reinitialised"


def test_a_damaged_scale_is_refused(tmp_path: Path) -> None:
    model = regressor([0.0, 1.0], [1.0, 2.0])
    state = {"model": {**model.network.state_dict(), "target_mean": torch.zeros(3), "target_std": torch.ones(3)}}
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(UserError, match=r"holds target_mean and target_std of \[3\] and \[3\] for a head of 2 outputs"):
        from_pretrained(tmp_path / "broken.pth")


def test_convert_writes_what_answers_alike(images: torch.Tensor, tmp_path: Path) -> None:
    path = save_weights(regressor([10.0], [2.0]), tmp_path / "model.safetensors", metadata={"classes": '["age"]'})
    for naming in ("timm", "official"):
        api.convert(path, tmp_path / f"{naming}.safetensors", naming=naming)
        again = from_pretrained(tmp_path / f"{naming}.safetensors")
        assert again.info.classes == ["age"]
        torch.testing.assert_close(again(images), from_pretrained(path)(images), rtol=1e-5, atol=1e-4)
