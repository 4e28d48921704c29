"""Loading what people have: containers, prefixes, averages, other heads, channels and patch sizes, other networks."""

import argparse
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from narrow import backbone_of
from small_models import ModelOptions, Weights, prefixed, same, small, state

from convnext import create_model, load_weights, save_weights
from convnext.errors import UserError
from convnext.weights.adapt import adapt_channels, resample_patch
from convnext.weights.keymaps import from_official

CONTAINERS: dict[str, tuple[str, Callable[[Weights], Mapping[str, Any]]]] = {
    "flat": ("", lambda w: w),
    "official release": ("model", lambda w: {"model": w}),
    "official training": ("model", lambda w: {"model": w, "optimizer": {"state": {}}, "epoch": 3, "scaler": {},
                                              "args": argparse.Namespace(lr=4e-3, data_path="/data")}),
    "timm training": ("state_dict", lambda w: {"epoch": 1, "arch": "convnext_atto", "state_dict": w, "version": 2,
                                               "args": argparse.Namespace(model="convnext_atto"), "metric": 71.5}),
    "mm": ("state_dict", lambda w: {"meta": {"epoch": 1, "CLASSES": ("cat", "dog")}, "state_dict": w, "optimizer": {}}),
    "fastai": ("model", lambda w: {"model": OrderedDict(w), "opt": {}}),
    "lightning": ("state_dict", lambda w: {"state_dict": prefixed(w, "model."), "pytorch-lightning_version": "2.0"}),
    "data parallel": ("model", lambda w: {"model": prefixed(w, "module.")}),
    "compiled data parallel": ("model", lambda w: {"model": prefixed(w, "module._orig_mod.")}),
    "compiled": ("", lambda w: prefixed(w, "_orig_mod.")),
    "a part": ("", lambda w: prefixed(w, "encoder.model.")),
    "backbone": ("", lambda w: prefixed(w, "backbone.")),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_container_is_opened_from_a_file(kind: str, tmp_path: Path) -> None:
    entry, wrap = CONTAINERS[kind]
    weights = state()
    torch.save(wrap(weights), tmp_path / "checkpoint.pth.tar")
    model = small(1)
    report = load_weights(model, tmp_path / "checkpoint.pth.tar")
    assert report.ok
    assert (report.entry, report.loaded, report.head) == (entry, len(weights), "loaded")
    assert same(model, weights)


AVERAGED: dict[str, Callable[[Weights, Weights], Mapping[str, Any]]] = {
    "official": lambda raw, ema: {"model": raw, "model_ema": ema},
    "timm": lambda raw, ema: {"state_dict": raw, "state_dict_ema": ema},
    "torchvision": lambda raw, ema: {"model": raw,
                                     "model_ema": prefixed(ema, "module.") | {"n_averaged": torch.ones(1)}},
    # mmengine writes the average under state_dict, and the raw weights under ema_state_dict.
    "mmengine": lambda raw, ema: {"meta": {}, "state_dict": ema,
                                  "ema_state_dict": prefixed(raw, "module.") | {"steps": torch.tensor(7)}},
    "mmcv 1": lambda raw, ema: {"state_dict": raw | {f"ema_{k.replace('.', '_')}": v for k, v in ema.items()}},
}  # fmt: skip


@pytest.mark.parametrize("kind", AVERAGED)
def test_the_average_is_taken_when_asked_and_the_report_says_so(kind: str) -> None:
    raw, ema = state(0), state(1)
    container = AVERAGED[kind](raw, ema)
    model = small(2)
    averaged = load_weights(model, container, ema=True)
    assert same(model, ema)
    plain = load_weights(model, container, ema=False)
    assert same(model, raw)
    assert averaged.ok
    assert plain.ok
    assert averaged.entry != plain.entry
    load_weights(model, container)
    assert same(model, ema if kind == "mmengine" else raw)


def test_an_average_that_is_not_there_is_not_made_up() -> None:
    with pytest.raises(UserError, match="no averaged weights"):
        load_weights(small(), {"model": state()}, ema=True)
    with pytest.raises(UserError, match="only averaged weights"):
        load_weights(small(), {"model_ema": state()}, ema=False)


def test_a_note_tells_of_an_unused_average() -> None:
    assert "ema=True" in str(load_weights(small(), {"model": state(), "model_ema": state(1)}))


def test_mmpretrain_names_are_the_documented_ones() -> None:
    names = set(from_official(state(), "mmpretrain", small().arch, dense=False))
    assert {
        "backbone.downsample_layers.0.0.weight",
        "backbone.downsample_layers.1.1.bias",
        "backbone.stages.2.1.gamma",
        "backbone.stages.2.1.depthwise_conv.weight",
        "backbone.stages.2.1.norm.bias",
        "backbone.stages.2.1.pointwise_conv1.weight",
        "backbone.norm3.weight",
        "head.fc.bias",
    } <= names


def test_mmpretrain_with_convolutions_for_pointwise_layers() -> None:
    theirs = from_official(state(), "mmpretrain", small().arch, dense=False)
    theirs = {k: v[:, :, None, None] if "pointwise" in k and v.ndim == 2 else v for k, v in theirs.items()}
    model = small(1)
    assert load_weights(model, {"state_dict": theirs}).naming == "mmpretrain"
    assert same(model, state())


def test_a_detectors_file_fills_the_dense_backbone_and_the_rest_is_named() -> None:
    dense = state(out_norms=True)
    for naming, wrap in (("official", "backbone."), ("mmdet/mmseg", "")):
        backbone = dense if naming == "official" else from_official(dense, "mmdet", small().arch, dense=True)
        file = {"state_dict": prefixed(backbone, wrap) | {"rpn_head.rpn_cls.weight": torch.zeros(3)}}
        model = small(1, out_norms=True)
        report = load_weights(model, file)
        assert report.ok
        assert report.naming == naming
        assert "rpn_head.rpn_cls.weight" in str(report)
        assert same(model, dense)


def test_a_classifiers_file_starts_a_dense_backbone() -> None:
    model = small(1, out_norms=True)
    norm2 = model.get_parameter("norm2.weight").clone()
    report = load_weights(model, state())
    assert report.ok
    assert report.head == "none"
    assert "output norms start fresh" in str(report)
    assert "final norm left out" in str(report)
    assert torch.equal(model.get_parameter("norm2.weight"), norm2)
    assert torch.equal(model.get_parameter("stages.2.1.gamma"), state()["stages.2.1.gamma"])


def test_another_class_count_keeps_the_backbone_and_says_so() -> None:
    model = small(1, num_classes=3)
    head = model.get_parameter("head.weight").clone()
    report = load_weights(model, state())
    assert report.ok
    assert report.head == "reinitialised"
    assert "the file's is for 5 classes" in str(report)
    assert torch.equal(model.get_parameter("head.weight"), head)
    assert torch.equal(model.norm.weight, state()["norm.weight"])


def test_head_can_be_dropped() -> None:
    model = small(1)
    head = model.get_parameter("head.weight").clone()
    assert load_weights(model, state(), head="drop").head == "reinitialised"
    assert torch.equal(model.get_parameter("head.weight"), head)


def test_a_bigger_head_is_cut_to_rows() -> None:
    model = small(1, num_classes=2)
    report = load_weights(model, state(), rows=[4, 1])
    assert report.head == "cut to rows"
    assert torch.equal(model.get_parameter("head.weight"), state()["head.weight"][[4, 1]])
    assert torch.equal(model.get_parameter("head.bias"), state()["head.bias"][[4, 1]])


@pytest.mark.parametrize(("rows", "says"), [([0, 1, 2], "3 rows"), ([0, 5], "row 5"), ([-1, 0], "row -1")])
def test_wrong_rows_are_refused(rows: list[int], says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_weights(small(num_classes=2), state(), rows=rows)
    with pytest.raises(UserError, match="rows="):
        load_weights(small(num_classes=2), state(), head="rows")


def test_a_model_without_a_head_takes_a_file_with_one() -> None:
    model = small(1, num_classes=0)
    assert load_weights(model, state()).head == "none"
    assert torch.equal(model.norm.weight, state()["norm.weight"])


def test_stem_for_one_channel_sums_and_keeps_the_response_to_grey() -> None:
    model = small(1, in_chans=1)
    report = load_weights(model, state())
    assert "from 3 to 1 channels" in str(report)
    grey = torch.randn(2, 1, 32, 32)
    assert torch.allclose(model(grey), small()(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_stem_for_more_channels_repeats_and_scales(channels: int) -> None:
    kernel = torch.randn(8, 3, 4, 4)
    adapted = adapt_channels(kernel, channels)
    assert adapted.shape == (8, channels, 4, 4)
    assert torch.allclose(adapted[:, channels - 1], kernel[:, (channels - 1) % 3] * 3 / channels)
    if channels % 3 == 0:
        assert torch.allclose(adapted.sum(1), kernel.sum(1), atol=1e-5)


@pytest.mark.parametrize("patch", [1, 2, 3, 8])
def test_stem_for_another_patch_keeps_the_response_to_a_flat_image(patch: int) -> None:
    model = small(1, patch_size=patch)
    assert "stem resampled from 4 x 4" in str(load_weights(model, state()))
    flat = torch.ones(1, 3, 48, 48)
    found, expected = (network.get_submodule("downsample_layers.0.0")(flat) for network in (model, small()))
    assert torch.allclose(found[..., 0, 0], expected[..., 0, 0], rtol=1e-4, atol=1e-4)


def test_resampling_to_a_half_adds_neighbours() -> None:
    kernel = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert resample_patch(kernel, 2).flatten().tolist() == [10.0, 18.0, 42.0, 50.0]


def test_nothing_is_dropped_silently_and_a_refused_load_changes_nothing() -> None:
    file = state()
    del file["stages.1.0.gamma"]
    file["extra.weight"] = torch.zeros(2)
    file["stages.2.0.norm.bias"] = torch.zeros(7)
    model = small(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        UserError, match=r"1 missing: stages.1.0.gamma.*1 unexpected: extra.weight.*stages.2.0.norm.bias"
    ):
        load_weights(model, file)
    assert same(model, before)
    report = load_weights(model, file, strict=False)
    assert not report.ok
    assert (report.missing, report.unexpected) == (("stages.1.0.gamma",), ("extra.weight",))
    assert report.mismatched == (("stages.2.0.norm.bias", (7,), (24,)),)
    assert torch.equal(model.norm.weight, file["norm.weight"])


def test_a_long_list_is_cut_and_counted() -> None:
    with pytest.raises(UserError, match=r"missing: .* and \d+ more"):
        load_weights(small(depths=(1, 1, 3, 1)), state())


def test_a_file_of_another_size_is_refused() -> None:
    with pytest.raises(UserError, match="of another shape"):
        load_weights(small(dims=(8, 16, 24, 40)), state())


FOREIGN = {
    "ConvNeXt-V2": state() | {"stages.0.0.grn.gamma": torch.zeros(1, 1, 1, 32)},
    "ConvNeXt-V2 ": {"stem.0.weight": torch.zeros(1), "stages.0.blocks.0.mlp.grn.weight": torch.zeros(1)},
    "ConvNeXt-V2  ": {"convnextv2.encoder.stages.0.layers.0.grn.weight": torch.zeros(1)},
    "DINOv3": state() | {"norms.3.weight": torch.zeros(32)},
    "DINOv3 ": {"model.stages.0.layers.0.depthwise_conv.weight": torch.zeros(1)},
    "ResNet": {"conv1.weight": torch.zeros(1), "layer1.0.conv1.weight": torch.zeros(1)},
    "vision transformer": {"cls_token": torch.zeros(1), "blocks.0.attn.qkv.weight": torch.zeros(1)},
    "Swin": {"layers.0.blocks.0.attn.relative_position_bias_table": torch.zeros(1)},
    "holds no ConvNeXt": {"fc.weight": torch.zeros(1)},
    "several networks": prefixed(state(), "student.") | prefixed(state(), "teacher."),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_another_architecture_is_refused_by_name(what: str) -> None:
    with pytest.raises(UserError, match=what.strip()):
        load_weights(small(), FOREIGN[what])


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("resnet18", "ResNet"), ("vit_tiny_patch16_224", "vision transformer"),
        ("swin_tiny_patch4_window7_224", "Swin"),
        ("efficientnet_b0", "EfficientNet"), ("densenet121", "DenseNet"), ("convnextv2_atto", "ConvNeXt-V2"),
        ("convnext_tiny_hnf", "normalises before pooling"),
    ],
)  # fmt: skip
def test_real_networks_of_other_kinds_are_recognised(name: str, what: str) -> None:
    with torch.device("meta"):
        weights = timm.create_model(name).state_dict()
    with pytest.raises(UserError, match=what):
        load_weights(small(), weights)


@pytest.mark.parametrize(("naming", "options", "says"), [
    ("torchvision", {"layer_scale_init_value": 0}, "always have a layer scale"),
    ("timm", {"out_norms": True}, "no place for norm0"),
    ("torchvision", {"out_norms": True}, "no place for norm0"),
    ("mmpretrain", {"out_norms": True}, "mmdet or mmseg"),
    ("mmdet", {}, "mmpretrain"),
    ("keras", {}, "known: official, timm"),
])  # fmt: skip
def test_what_a_naming_cannot_hold_is_refused(naming: str, options: ModelOptions, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        save_weights(small(**options), tmp_path / "model.safetensors", naming=naming)
    assert not list(tmp_path.iterdir())


def test_isotropic_models_have_the_official_naming_only(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = create_model("convnext_isotropic_small")
    with pytest.raises(UserError, match=r"no isotropic ConvNeXt"):
        save_weights(model, tmp_path / "model.safetensors", naming="timm")


def test_half_precision_files_are_widened() -> None:
    model = small(1)
    load_weights(model, {name: value.half() for name, value in state().items()})
    assert model.get_parameter("head.weight").dtype is torch.float32
    assert torch.equal(model.get_parameter("head.weight"), state()["head.weight"].half().float())


def test_a_timm_file_of_a_small_size_stores_convolutions() -> None:
    with torch.device("meta"):
        atto, tiny = (backbone_of(create_model(f"convnext_{size}")) for size in ("atto", "tiny"))
    key = "stages.0.blocks.0.mlp.fc1.weight"
    assert from_official(atto.state_dict(), "timm", atto.arch, dense=False)[key].shape == (160, 40, 1, 1)
    assert from_official(tiny.state_dict(), "timm", tiny.arch, dense=False)[key].shape == (384, 96)
