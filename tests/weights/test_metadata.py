"""What checkpoints say of themselves: types and limits, and a refusal of whatever would be freshly made."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from detector_cases import ARCH
from narrow import instance_of, not_none
from PIL import Image
from small_models import small, state

import convnext
from convnext import create_model, from_pretrained, load_weights, save_weights
from convnext.api import convert
from convnext.classification.predict import Prediction
from convnext.data.preprocess import Preprocess
from convnext.detection.model.rcnn import build_detector
from convnext.errors import UserError
from convnext.models.convnext import ConvNeXt
from convnext.segmentation.model import build_segmenter
from convnext.weights.checkpoint import read, write
from convnext.weights.info import info_of
from convnext.weights.metadata import described

FIVE = json.dumps(["crack", "rust", "dent", "weld", "plain"])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def steady(num_classes: int = 5) -> ConvNeXt:
    """Weights small enough for answers that are neither 0 nor 1."""
    model = small(num_classes=num_classes)
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(0.2)
    return model


def tensors_in(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The entries of a file without a container, and its metadata."""
    values, metadata = read(path)
    return {name: instance_of(torch.Tensor, value) for name, value in values.items()}, metadata


def beheaded(path: Path) -> Path:
    save_weights(small(), path, metadata={"classes": FIVE})
    values, metadata = tensors_in(path)
    write({k: v for k, v in values.items() if not k.startswith("head.")}, path, naming="official", metadata=metadata)
    return path


def test_a_file_that_lost_its_head_answers_nothing_and_still_starts_training(tmp_path: Path, picture: Path) -> None:
    path = beheaded(tmp_path / "model.safetensors")
    for use in (
        lambda: convnext.predict(path, [picture]),
        lambda: convnext.evaluate(path, "digits"),
        lambda: convert(path, tmp_path / "other.pth"),
        lambda: from_pretrained(path),
    ):
        with pytest.raises(
            UserError, match=r"model\.safetensors says that it knows 5 classes and holds no head.*--weights"
        ):
            use()
    assert load_weights(small(1), path).head == "reinitialised"
    assert not_none(info_of(create_model(str(path))).load_report).head == "reinitialised"


@pytest.mark.parametrize(("kind", "entry"), [("detector", "roi_head.bbox_head.fc_cls.bias"),
                                            ("segmenter", "decode_head.conv_seg.weight")])  # fmt: skip
def test_a_detector_or_segmenter_that_lost_its_classes_is_no_bare_backbone(
    kind: str, entry: str, tmp_path: Path
) -> None:
    body = ConvNeXt(ARCH, out_norms=True)
    model = build_detector("mask_rcnn", body, 5) if kind == "detector" else build_segmenter(body, 5, 16)
    path = save_weights(model, tmp_path / "model.safetensors")
    values, metadata = tensors_in(path)
    write({name: value for name, value in values.items() if name != entry}, path, naming="official", metadata=metadata)
    with pytest.raises(UserError, match=f"says that it is a {kind} and lacks"):
        from_pretrained(path)


def test_a_head_of_another_size_than_described_answers_nothing(tmp_path: Path) -> None:
    path = save_weights(small(), tmp_path / "model.safetensors")
    values, metadata = tensors_in(path)
    other = values | {"head.weight": torch.zeros(3, 32), "head.bias": torch.zeros(3)}
    write(other, path, naming="official", metadata=metadata)
    with pytest.raises(UserError, match="knows 5 classes and holds a head for 3"):
        from_pretrained(path)


def test_a_baseline_whose_head_is_of_another_size_answers_nothing(tmp_path: Path) -> None:
    model = create_model("timm:test_resnet", num_classes=5)
    path = save_weights(model, tmp_path / "model.safetensors")
    metadata = read(path)[1] | {"arch": json.dumps({"num_classes": 7, "in_chans": 3})}
    write(dict(model.state_dict()), path, naming="official", metadata=metadata)
    with pytest.raises(UserError, match=r"answer at random; train from it"):
        from_pretrained(path)


def test_a_name_for_each_class_is_needed(tmp_path: Path) -> None:
    path = save_weights(small(), tmp_path / "model.safetensors", metadata={"classes": json.dumps(["a", "b"])})
    with pytest.raises(UserError, match="names 2 classes and its network has 5"):
        from_pretrained(path)


def test_pictures_that_vanish_in_the_network_are_refused(tmp_path: Path) -> None:
    said = {"preprocess": json.dumps(Preprocess.for_size(24).to_dict())}
    path = save_weights(small(), tmp_path / "model.safetensors", metadata=said)
    with pytest.raises(UserError, match=r"shown pictures of 24 pixels.* 32"):
        from_pretrained(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(value: float, tmp_path: Path) -> None:
    weights = state()
    weights["stages.2.1.norm.bias"][3] = value
    torch.save(weights, tmp_path / "model.pth")
    for use in (from_pretrained, lambda path: load_weights(small(), path)):
        with pytest.raises(UserError, match=r"model\.pth holds values in stages\.2\.1\.norm\.bias that are no numbers"):
            use(tmp_path / "model.pth")


def test_answers_that_are_no_numbers_are_refused(tmp_path: Path, picture: Path) -> None:
    weights = state()
    weights["stages.2.1.dwconv.weight"].mul_(1e30)
    weights["stages.2.1.pwconv1.weight"].mul_(1e30)
    torch.save(weights, tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"model\.pth gives answers that are no numbers"):
        convnext.predict(tmp_path / "model.pth", [picture], precision="fp32")


@pytest.mark.parametrize(
    ("entry", "text", "says"),
    [
        ("arch", "[" * 100_000, "'arch' of FILE is not JSON"),
        ("arch", "9" * 5000, "'arch' of FILE is not JSON"),
        ("arch", '{"depths": [1e9, 1, 1, 1]}', "describes its network wrongly"),
        ("classes", "[1, 2]", "class names of FILE are not names"),
        ("classes", '{"a": 1}', "'classes' of FILE holds"),
        ("category_ids", '["a"]', "category ids of FILE are not numbers"),
        ("preprocess", "[]", "'preprocess' of FILE holds"),
        ("preprocess", '{"size": 1000000, "mode": "warp", "mean": [0, 0, 0], "std": [1, 1, 1], '
                       '"interpolation": "bicubic"}', r"size \(up to 4096\)"),
        ("preprocess", '{"size": 1000000, "longest": 5, "mean": [0, 0, 0], "std": [1, 1, 1]}', r"size \(up to 4096\)"),
        ("mask_coding", "{}", "mask coding cannot be used"),
        ("mask_coding", '{"classes": 5}', "mask coding cannot be used"),
        ("data", "[1]", "'data' of FILE holds"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_or_beyond_the_limits_is_refused(entry: str, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        described({"variant": "custom", entry: text}, "FILE")


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_classes", 10**9), ("num_classes", -1), ("num_classes", "5"), ("in_chans", 0), ("depths", 3), ("dims", [8]),
     ("patch_size", -4), ("isotropic", "no"), ("layer_scale", "nan"), ("out_indices", [9]), ("out_norms", 3)],
)  # fmt: skip
def test_a_network_is_described_within_limits(field: str, value: object, tmp_path: Path) -> None:
    path = save_weights(small(), tmp_path / "model.safetensors")
    arch = json.loads(read(path)[1]["arch"]) | {field: value}
    with pytest.raises(UserError, match=r"describes its network wrongly|entries? each"):
        described({"variant": "custom", "arch": json.dumps(arch)}, "FILE")


def test_a_checkpoint_of_before_keeps_its_meaning(tmp_path: Path) -> None:
    old = {"size": 224, "mode": "crop", "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    path = save_weights(small(), tmp_path / "model.safetensors", metadata={"preprocess": json.dumps(old)})
    found = Preprocess.from_dict(from_pretrained(path).info.preprocess)
    assert (found.crop, found.halves) == (0.875, "even")


@pytest.mark.parametrize("naming", ["official", "timm", "torchvision", "transformers", "mmpretrain"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_converted_file_answers_as_its_source(naming: str, suffix: str, tmp_path: Path, picture: Path) -> None:
    protocol = {"size": 40, "mode": "crop", "mean": [0.2] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "crop": 1}
    said = {"classes": FIVE, "preprocess": json.dumps(protocol), "task": "multi_label"}
    source = save_weights(steady(), tmp_path / "source.safetensors", metadata=said)
    target = tmp_path / f"target{suffix}"
    text = convert(source, target, naming=naming)
    assert ("config.json beside it" in text) == (naming in ("timm", "transformers"))
    answers = [convnext.predict(path, [picture], precision="fp32")[0] for path in (source, target)]
    before, after = (instance_of(Prediction, answer).top for answer in answers)
    assert before == after
    again = target.read_bytes()
    convert(source, target, naming=naming)
    assert target.read_bytes() == again


def test_what_is_carried_aside_is_nothing_to_the_libraries(tmp_path: Path) -> None:
    """A strict loader takes the file as it takes its own."""
    model = small()
    path = save_weights(model, tmp_path / "model.pth", naming="timm", metadata={"classes": FIVE})
    theirs = timm.create_model(
        "convnext_atto",
        depths=(1, 1, 2, 1),
        dims=(8, 16, 24, 32),
        num_classes=5,
        conv_mlp=False,
        checkpoint_path=str(path),
    ).eval()
    theirs.load_state_dict(torch.load(path, weights_only=True), strict=True)
    image = torch.randn(1, 3, 64, 64)
    assert torch.allclose(theirs(image), model.eval()(image), rtol=1e-3, atol=1e-2)
    assert from_pretrained(path).info.classes == json.loads(FIVE)


def test_a_file_is_not_converted_onto_itself(tmp_path: Path) -> None:
    path = save_weights(small(), tmp_path / "model.safetensors")
    before = path.read_bytes()
    (tmp_path / "link.safetensors").symlink_to(path)
    for target in (path, tmp_path / "link.safetensors"):
        with pytest.raises(UserError, match="would be overwritten"):
            convert(path, target, naming="timm")
    with pytest.raises(UserError, match="would be overwritten"):
        convert(tmp_path, path, naming="timm")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("naming", "says"), [("mmdet", "mmdet is for detectors and segmenters, and this network is a classifier")]
)
def test_a_naming_for_another_kind_is_refused_by_what_it_is_for(naming: str, says: str, tmp_path: Path) -> None:
    path = save_weights(small(), tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=re.escape(says)):
        convert(path, tmp_path / "other.pth", naming=naming)


def test_an_overlapping_stem_is_named() -> None:
    weights = timm.create_model("convnext_atto_ols", num_classes=3).state_dict()
    with pytest.raises(UserError, match="an overlapping stem"):
        load_weights(small(), weights)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda value: value.to_sparse(), "sparse or quantised"),
        (lambda value: value.to(torch.complex64), "as complex64"),
        (lambda value: value.sum(), "as a single number"),
        (lambda value: value.to("meta"), "without its values"),
    ],
)
def test_tensors_that_are_no_weights_are_named(
    change: Callable[[torch.Tensor], torch.Tensor], says: str, tmp_path: Path
) -> None:
    weights = state()
    weights["stages.1.0.norm.weight"] = change(weights["stages.1.0.norm.weight"])
    torch.save(weights, tmp_path / "model.pth")
    with pytest.raises(UserError, match=rf"holds stages\.1\.0\.norm\.weight .*{says}"):
        from_pretrained(tmp_path / "model.pth")


def test_keys_that_are_no_names_are_left_out_and_said(tmp_path: Path) -> None:
    torch.save(state() | {0: torch.ones(2), None: "text"}, tmp_path / "model.pth")
    assert "not tensors with names, not read: 0, None" in str(from_pretrained(tmp_path / "model.pth").info.load_report)
