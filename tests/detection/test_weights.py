"""Detectors as files: released naming, mmdetection's, a classifier's weights, other classes, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detector_cases import ARCH, CLASSES, drawn_weights
from narrow import backbone_of, instance_of, not_none
from small_models import ModelOptions

import convnext
from convnext import UserError, create_model
from convnext.catalog.class_lists import coco
from convnext.catalog.releases import DETECTORS, DetectorRelease, find_dense
from convnext.detection.model.rcnn import Detector, build_detector
from convnext.detection.weights import kind_of
from convnext.models.convnext import ConvNeXt
from convnext.pretrained import load_weights, save_weights
from convnext.recipes import RECIPES
from convnext.weights.info import info_of

Weights = dict[str, torch.Tensor]


def detector(kind: str = "mask_rcnn", classes: int = CLASSES) -> Detector:
    shape: ModelOptions = {"depths": ARCH.depths, "dims": ARCH.dims, "layer_scale_init_value": ARCH.layer_scale}
    backbone = create_model("convnext_atto", **shape | {"out_norms": True})  # which says of itself that it is custom
    return build_detector(kind, backbone_of(backbone), classes)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return drawn_weights(detector())


def same(model: Detector, weights: Weights) -> bool:
    return all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_the_container_of_the_released_files_loads_strictly(weights: Weights) -> None:
    model = detector()
    report = load_weights(model, {"state_dict": weights, "meta": {}})
    assert report.ok
    assert (report.head, report.loaded) == ("loaded", len(weights))
    assert same(model, weights)


def test_a_training_checkpoints_prefix_is_read_through(weights: Weights) -> None:
    model = detector()
    assert load_weights(model, {f"module.{name}": value for name, value in weights.items()}).ok
    assert same(model, weights)


def test_mmdetections_naming_and_back(weights: Weights, tmp_path: Path) -> None:
    model = detector()
    model.load_state_dict(weights)
    save_weights(model, tmp_path / "mm.pth", naming="mmdet")
    names = torch.load(tmp_path / "mm.pth", weights_only=True)["state_dict"].keys()
    assert "backbone.stages.0.0.depthwise_conv.weight" in names
    assert "roi_head.bbox_head.fc_cls.weight" in names
    other = detector()
    assert load_weights(other, tmp_path / "mm.pth").naming == "mmdet"
    assert same(other, weights)
    with pytest.raises(UserError, match="cannot be written in 'timm' naming"):
        save_weights(model, tmp_path / "timm.pth", naming="timm")


def test_a_file_says_what_it_holds(weights: Weights, tmp_path: Path) -> None:
    model = detector()
    model.load_state_dict(weights)
    path = save_weights(model, tmp_path / "ours.safetensors", metadata={"classes": '["a", "b", "c", "d", "e"]'})
    found = instance_of(Detector, convnext.from_pretrained(path))
    assert (found.kind, found.num_classes, info_of(found).classes) == ("mask_rcnn", CLASSES, list("abcde"))
    assert info_of(found).preprocess["size"] == 800
    assert same(found, weights)


def test_a_pth_has_the_container_of_the_released_files(weights: Weights, tmp_path: Path) -> None:
    model = detector()
    model.load_state_dict(weights)
    path = save_weights(model, tmp_path / "ours.pth", metadata={"classes": '["a", "b", "c", "d", "e"]', "metric": "1"})
    content = torch.load(path, weights_only=True)
    assert content.keys() == {"meta", "state_dict"}
    assert content["state_dict"].keys() == weights.keys()
    assert content["meta"]["CLASSES"] == tuple("abcde")
    assert content["meta"]["dataset_meta"]["classes"] == tuple("abcde")
    found = instance_of(Detector, convnext.from_pretrained(path))
    assert (found.kind, info_of(found).classes, info_of(found).metadata["metric"]) == ("mask_rcnn", list("abcde"), "1")
    assert same(found, weights)


def test_the_kind_is_read_from_the_names() -> None:
    with torch.device("meta"):
        models = [detector(kind, classes) for kind, classes in (("mask_rcnn", 3), ("cascade_mask_rcnn", 80))]
    assert [kind_of(m.state_dict()) for m in models] == [("mask_rcnn", 3), ("cascade_mask_rcnn", 80)]
    assert kind_of({"head.weight": torch.zeros(3)}) is None


def test_eighty_classes_without_names_are_cocos(tmp_path: Path) -> None:
    path = save_weights(detector(classes=80), tmp_path / "coco.safetensors")
    info = convnext.from_pretrained(path).info
    classes, ids = not_none(info.classes), not_none(info.category_ids)
    assert (classes[0], classes[-1]) == ("person", "toothbrush")
    assert (ids[0], ids[-1]) == (1, 90)


def test_a_classifiers_weights_go_into_the_backbone() -> None:
    classifier = ConvNeXt(ARCH, num_classes=10)
    model = detector()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = load_weights(model, classifier.state_dict())
    assert "pyramid and heads start fresh" in report.notes
    now = model.state_dict()
    assert torch.equal(now["backbone.stages.2.1.pwconv1.weight"], classifier.state_dict()["stages.2.1.pwconv1.weight"])
    assert all(torch.equal(now[name], before[name]) for name in now if not name.startswith("backbone."))


def test_other_classes_start_fresh_and_all_else_is_loaded(weights: Weights) -> None:
    model = detector(classes=2)
    report = load_weights(model, weights)
    assert report.ok
    assert report.head == "reinitialised"
    now = model.state_dict()
    fresh = {n for n in now if now[n].shape != weights[n].shape or not torch.equal(now[n], weights[n])}
    assert fresh == {
        f"roi_head.{head}.{part}"
        for head in ("bbox_head.fc_cls", "bbox_head.fc_reg", "mask_head.conv_logits")
        for part in ("weight", "bias")
    }


def test_what_is_left_over_or_missing_is_refused_and_nothing_is_changed(weights: Weights) -> None:
    model = detector()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lacking = {name: value for name, value in weights.items() if not name.startswith("rpn_head.rpn_cls")}
    with pytest.raises(UserError, match="2 missing: rpn_head"):
        load_weights(model, lacking)
    with pytest.raises(UserError, match="1 unexpected: roi_head"):
        load_weights(model, weights | {"roi_head.other": torch.zeros(1)})
    with pytest.raises(UserError, match="missing"):
        load_weights(detector("cascade_mask_rcnn"), weights)
    assert same(model, before)


def test_released_detectors_are_found_by_recipe_and_by_file() -> None:
    assert len(DETECTORS) == 7
    assert {row.name for row in DETECTORS} == {name for name in RECIPES if name.startswith("coco/")}
    row = instance_of(DetectorRelease, find_dense("cascade_mask_rcnn_convnext_base_22k_3x"))
    assert row is find_dense("coco/cascade_mask_rcnn/base_22k") is find_dense(row.filename)
    assert (row.box_ap, row.mask_ap, row.variant) == (54.0, 46.9, "convnext_base")
    assert row.url == "https://dl.fbaipublicfiles.com/convnext/coco/cascade_mask_rcnn_convnext_base_22k_3x.pth"
    assert find_dense("convnext_tiny") is None


def test_coco_has_eighty_classes_with_gaps() -> None:
    assert len(coco()) == 80
    assert [number for number, _ in coco()][10:12] == [11, 13]
