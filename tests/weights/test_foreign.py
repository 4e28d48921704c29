"""Folders of timm and transformers: pictures are shown as these libraries show them, other networks are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import timm
import torch
from narrow import instance_of
from PIL import Image
from small_models import small
from timm.data import create_transform, resolve_data_config
from timm.models import save_for_hf
from torch import nn
from torchvision.models import ConvNeXt_Base_Weights, ConvNeXt_Small_Weights, ConvNeXt_Tiny_Weights
from transformers import ConvNextBackbone, ConvNextConfig, ConvNextForImageClassification
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

import convnext
from convnext.classification.predict import Prediction
from convnext.data.preprocess import Preprocess
from convnext.errors import UserError
from convnext.weights.keymaps import from_official

SHAPE: dict[str, Any] = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32), "num_classes": 5}
CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
M = TypeVar("M", bound=nn.Module)
SIDES = ((96, 96), (97, 64), (64, 131), (300, 41), (33, 33), (500, 375), (255, 254), (120, 77), (20, 19), (111, 112))


def pictures() -> list[Image.Image]:
    """Of all kinds of sizes: a smooth gradient under noise, so that a shift by a pixel and another filter show."""
    rng = np.random.default_rng(0)
    made = []
    for width, height in SIDES:
        slope = np.add.outer(np.linspace(0, 150, height), np.linspace(0, 50, width))[..., None] * (1, 0.5, 0.8)
        made.append(Image.fromarray((slope + rng.integers(0, 55, (height, width, 3))).astype(np.uint8)))
    return made


def lively(model: M) -> M:
    torch.manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(std=0.2)
    return model.eval()


def timm_folder(folder: Path, data: dict[str, Any] | None = None, **options: Any) -> nn.Module:
    model = lively(timm.create_model("convnext_atto", **SHAPE | options))
    save_for_hf(model, str(folder), safe_serialization=True, data_config=data or {})
    return model


@pytest.mark.parametrize(
    "data",
    [
        {},
        CLIP | {"input_size": (3, 96, 96), "crop_pct": 1.0},
        {"input_size": (3, 64, 64), "crop_pct": 0.95, "interpolation": "bilinear"},
        {"input_size": (3, 72, 72), "crop_pct": 0.9, "crop_mode": "squash", "interpolation": "lanczos"},
        {"input_size": (3, 80, 80), "crop_pct": 1.0, "crop_mode": "squash"},
        {"input_size": (3, 384, 384), "crop_pct": 0.96},
    ],
    ids=lambda data: "-".join(map(str, (*data.get("input_size", "?"), data.get("crop_pct"), data.get("crop_mode")))),
)
def test_a_folder_of_timm_is_shown_pictures_as_timm_shows_them(data: dict[str, Any], tmp_path: Path) -> None:
    theirs = timm_folder(tmp_path / "folder", data)
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    transform = create_transform(**resolve_data_config(pretrained_cfg=config["pretrained_cfg"]))
    ours = convnext.from_pretrained(tmp_path / "folder")
    preprocess = Preprocess.from_dict(ours.info.preprocess)
    for picture in pictures():
        expected = transform(picture)
        assert torch.allclose(preprocess(picture), expected, atol=1e-6)
        with torch.inference_mode():
            assert torch.allclose(ours(expected[None]), theirs(expected[None]), atol=1e-4, rtol=1e-4)
    convnext.convert(tmp_path / "folder", tmp_path / "ours.safetensors", naming="official")
    assert Preprocess.from_dict(convnext.from_pretrained(tmp_path / "ours.safetensors").info.preprocess) == preprocess


def test_predictions_for_a_folder_of_timm_are_timms(tmp_path: Path) -> None:
    theirs = timm_folder(tmp_path / "folder", CLIP | {"input_size": (3, 96, 96), "crop_pct": 1.0})
    transform = create_transform(
        input_size=(3, 96, 96), crop_pct=1.0, interpolation="bicubic", mean=CLIP["mean"], std=CLIP["std"]
    )
    for i, picture in enumerate(pictures()):
        picture.save(tmp_path / f"{i}.png")
        with torch.inference_mode():
            expected = theirs(transform(picture)[None]).softmax(1)[0]
        [answer] = convnext.predict(tmp_path / "folder", [tmp_path / f"{i}.png"], precision="fp32")
        assert {int(name): value for name, value in instance_of(Prediction, answer).top} == pytest.approx(
            dict(enumerate(expected.tolist())), abs=1e-4
        )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"act_layer": "gelu_tanh"}, "act_layer 'gelu_tanh'"),
        ({"act_layer": "relu"}, "act_layer 'relu'"),
        ({"norm_eps": 1e-5}, "norm_eps 1e-05"),
        ({"global_pool": "max"}, "global_pool 'max'"),
        ({"global_pool": "avgmax"}, "global_pool 'avgmax'"),
        ({"output_stride": 16}, "output_stride 16"),
    ],
)
def test_another_network_in_a_folder_of_timm_is_refused(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    timm_folder(tmp_path, **options)
    with pytest.raises(UserError, match=rf"config\.json says {says}"):
        convnext.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"crop_mode": "border"}, "crop_mode 'border'"),
        ({"input_size": (3, 64, 96)}, "square"),
        ({"interpolation": ["bicubic"]}, "interpolation"),
    ],
)
def test_a_protocol_that_is_not_known_is_refused(data: dict[str, Any], says: str, tmp_path: Path) -> None:
    timm_folder(tmp_path, data)
    with pytest.raises(UserError, match=says):
        convnext.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["test_convnext", "test_convnext2", "convnext_xxlarge"])
def test_timms_networks_of_another_activation_or_epsilon_are_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": name}))
    torch.save(small().state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=rf"timm's {name}, which has norm_eps"):
        convnext.from_pretrained(tmp_path)
    if name.startswith("test"):  # the file alone: by its shape
        torch.save(timm.create_model(name).state_dict(), tmp_path / "alone.pth")
        with pytest.raises(UserError, match=rf"shape of timm's {name}"):
            convnext.from_pretrained(tmp_path / "alone.pth")


def test_the_maps_that_a_folder_asks_for_are_returned(tmp_path: Path) -> None:
    theirs = lively(timm.create_model("convnext_atto", features_only=True, out_indices=(1, 3), **SHAPE))
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    config = {"architecture": "convnext_atto", "model_args": {"features_only": True, "out_indices": [1, 3]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours = convnext.from_pretrained(tmp_path)
    picture = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        for mine, expected in zip(ours(picture), theirs(picture), strict=True):
            assert torch.allclose(mine, expected, atol=1e-4)


def hf_folder(folder: Path, processor: dict[str, Any] | None = None, **options: Any) -> ConvNextForImageClassification:
    shape: dict[str, Any] = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32], "num_labels": 5}
    model = lively(ConvNextForImageClassification(ConvNextConfig(**shape | options)))
    model.save_pretrained(folder)
    if processor is not None:
        ConvNextImageProcessorPil(**processor).save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": {"shortest_edge": 96}, "crop_pct": 0.95, "image_mean": CLIP["mean"], "image_std": CLIP["std"]},
        {"size": {"shortest_edge": 65}, "crop_pct": 0.8, "resample": 2},
        {"size": {"shortest_edge": 64}, "crop_pct": 1.0, "do_normalize": False},
        {"size": {"shortest_edge": 64}, "rescale_factor": 1 / 127.5},
    ],
    ids=str,
)
def test_a_folder_of_transformers_is_shown_pictures_as_transformers_shows_them(
    options: dict[str, Any], tmp_path: Path
) -> None:
    theirs = hf_folder(tmp_path, options)
    processor = ConvNextImageProcessorPil(**options)
    ours = convnext.from_pretrained(tmp_path)
    preprocess = Preprocess.from_dict(ours.info.preprocess)
    for picture in pictures():
        expected = processor(picture, return_tensors="pt")["pixel_values"]
        assert torch.allclose(preprocess(picture), expected[0], atol=2e-6)
        with torch.inference_mode():
            assert torch.allclose(ours(expected), theirs(expected).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"hidden_act": "relu"}, "hidden_act 'relu'"), ({"hidden_act": "gelu_new"}, "hidden_act"),
     ({"layer_norm_eps": 1e-3}, "layer_norm_eps 0.001")],
)  # fmt: skip
def test_another_network_in_a_folder_of_transformers_is_refused(
    options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    hf_folder(tmp_path, **options)
    with pytest.raises(UserError, match=rf"config\.json says {says}"):
        convnext.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("processor", "says"),
    [
        ({"do_resize": False}, "do_resize false"),
        ({"image_processor_type": "CLIPImageProcessor"}, "image_processor_type 'CLIPImageProcessor'"),
        ({"size": {"height": 64, "width": 96}}, "square"),
        ({"size": {"longest_edge": 64}}, "square"),
        ({"size": 64, "do_center_crop": True, "crop_size": {"height": 48, "width": 48}}, "crop_size"),
        ({"size": 100_000}, "up to 4096"),
        ({"size": 64, "crop_pct": 1.5}, "cannot be used"),
        ({"size": 64, "resample": 9}, "interpolation"),
        ({"image_std": [0, 0, 0]}, "cannot be used"),
        ({"size": 64, "resample": [3]}, "interpolation"),
        ({"size": 64, "do_center_crop": True, "crop_size": [64]}, "crop_size"),
        ({"size": {"height": [64], "width": [64]}}, "number of pixels"),
        ({"rescale_factor": 10**400}, "must be numbers"),
    ],
)
def test_a_processor_that_is_not_known_is_refused(processor: dict[str, Any], says: str, tmp_path: Path) -> None:
    hf_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.raises(UserError, match=says):
        convnext.from_pretrained(tmp_path)


def test_the_released_classifiers_processor_of_old_is_read(tmp_path: Path) -> None:
    hf_folder(tmp_path)
    old: dict[str, Any] = {"crop_pct": 0.875, "do_normalize": True, "do_resize": True, "resample": 3, "size": 224}
    old |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    old["feature_extractor_type"] = "ConvNextFeatureExtractor"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    found = Preprocess.from_dict(convnext.from_pretrained(tmp_path).info.preprocess)
    assert found == Preprocess(224, "crop", halves="first")


def test_a_backbone_of_transformers_returns_the_maps_it_was_made_with(tmp_path: Path) -> None:
    options: dict[str, Any] = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32]}
    options["out_features"] = ["stage2", "stage4"]
    lively(ConvNextBackbone(ConvNextConfig(**options))).save_pretrained(tmp_path)
    assert convnext.from_pretrained(tmp_path).out_indices == (1, 3)


@pytest.mark.parametrize(
    ("size", "weights"),
    [("tiny", ConvNeXt_Tiny_Weights), ("small", ConvNeXt_Small_Weights), ("base", ConvNeXt_Base_Weights)],
)
def test_torchvisions_released_files_are_shown_pictures_as_torchvision_shows_them(
    size: str,
    weights: type[ConvNeXt_Tiny_Weights] | type[ConvNeXt_Small_Weights] | type[ConvNeXt_Base_Weights],
    tmp_path: Path,
) -> None:
    model = small()
    theirs = weights.DEFAULT
    path = tmp_path / theirs.url.rpartition("/")[2]
    torch.save(from_official(dict(model.state_dict()), "torchvision", model.arch, dense=False), path)
    preprocess = Preprocess.from_dict(convnext.from_pretrained(path).info.preprocess)
    transform = theirs.transforms(antialias=True)
    for picture in pictures():
        assert torch.allclose(preprocess(picture), transform(picture), atol=1e-6)


def test_a_folder_in_parts_is_put_together(tmp_path: Path) -> None:
    model = small()
    weights = dict(model.state_dict())
    halves = [dict(list(weights.items())[i::2]) for i in range(2)]
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    for name, half in zip(names, halves, strict=True):
        torch.save(half, tmp_path / name)
    listed = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": listed}))
    back = convnext.from_pretrained(tmp_path)
    assert all(torch.equal(value, weights[name]) for name, value in back.state_dict().items())
    (tmp_path / names[1]).unlink()
    with pytest.raises(UserError, match=r"no file .*00002-of-00002"):
        convnext.from_pretrained(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.bin"}}))
    with pytest.raises(UserError, match="lists no files"):
        convnext.from_pretrained(tmp_path)


def test_maps_without_end_are_refused(tmp_path: Path) -> None:
    timm_folder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_args": {"out_indices": [float("inf")]}}))
    with pytest.raises(UserError, match="out_indices"):
        convnext.from_pretrained(tmp_path)
