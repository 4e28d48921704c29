"""Class names of other libraries' checkpoints, and where the well-known ones are assumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detector_cases import ARCH
from narrow import instance_of, not_none
from small_models import small
from torch import nn

import convnext
from convnext.api import convert
from convnext.catalog.class_lists import ade20k, coco, imagenet1k
from convnext.detection.model.rcnn import build_detector
from convnext.models.convnext import ConvNeXt
from convnext.segmentation.model import build_segmenter
from convnext.weights.class_names import fitting_names, names_in
from convnext.weights.keymaps import from_official

FIVE = ["crack", "rust", "dent", "weld", "plain"]


@pytest.mark.parametrize(
    ("kind", "meta"),
    [
        ("detector", {"dataset_meta": {"classes": tuple(FIVE), "palette": [[0, 0, 0]] * 5}}),
        ("segmenter", {"dataset_meta": {"CLASSES": FIVE}, "epoch": 12}),
        ("classifier", {"CLASSES": tuple(FIVE), "PALETTE": None}),
    ],
)
def test_names_in_openmmlabs_files(kind: str, meta: dict[str, Any], tmp_path: Path) -> None:
    body = ConvNeXt(ARCH, out_norms=True)
    made: dict[str, Callable[[], nn.Module]] = {
        "detector": lambda: build_detector("mask_rcnn", body, 5),
        "segmenter": lambda: build_segmenter(body, 5, 16),
    }
    model = made[kind]() if kind in made else small()
    torch.save({"meta": meta, "state_dict": model.state_dict()}, tmp_path / "best.pth")
    assert convnext.from_pretrained(tmp_path / "best.pth").info.classes == FIVE
    convert(tmp_path / "best.pth", tmp_path / "ours.safetensors")
    assert convnext.from_pretrained(tmp_path / "ours.safetensors").info.classes == FIVE


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"id2label": {str(i): name for i, name in enumerate(FIVE)}}, FIVE),
        ({"label_names": FIVE}, FIVE),
        ({"id2label": {str(i): f"LABEL_{i}" for i in range(5)}}, None),
        ({"id2label": {"0": "a"}}, None),
        ({"id2label": {"1": "a"}}, None),
        ({"architecture": "convnext_atto", "pretrained_cfg": {"labels": FIVE}}, FIVE),
        ({"architecture": "convnext_atto", "label_names": {str(i): name for i, name in enumerate(FIVE)}}, FIVE),
    ],
)
def test_names_in_the_config_of_a_folder(config: dict[str, object], expected: list[str] | None, tmp_path: Path) -> None:
    model = small()
    weights = from_official(dict(model.state_dict()), "transformers", model.arch, dense=False)
    torch.save(weights, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert convnext.from_pretrained(tmp_path).info.classes == expected


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_a_damaged_config_is_not_passed_over(text: str, tmp_path: Path) -> None:
    model = small()
    torch.save(dict(model.state_dict()), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(convnext.UserError, match=r"config\.json is damaged"):
        convnext.from_pretrained(tmp_path)


def test_well_known_names_are_in_our_spelling() -> None:
    known = [words for _, words in imagenet1k()], [name for _, name in coco()], [name for name, _ in ade20k()]
    for names in known:
        theirs = [f" {name.title()}" for name in names]
        theirs[3] = "another spelling"
        assert fitting_names(theirs, len(names)) == names
        other = [f"class {i}" for i in range(len(names))]
        assert fitting_names(other, len(names)) == other
        assert fitting_names(theirs, len(names) + 1) is None
    assert names_in({"meta": {"CLASSES": None}}) is None


def test_eighty_or_150_classes_of_other_names_are_not_cocos_or_ade20ks(tmp_path: Path) -> None:
    body = ConvNeXt(ARCH, out_norms=True)
    for model, count in ((build_detector("mask_rcnn", body, 80), 80), (build_segmenter(body, 150, 16), 150)):
        names = [f"part {i}" for i in range(count)]
        torch.save({"meta": {"CLASSES": names}, "state_dict": model.state_dict()}, tmp_path / "best.pth")
        found = convnext.from_pretrained(tmp_path / "best.pth")
        assert found.info.classes == names
        assert found.info.category_ids is None
        assert found.info.mask_coding is None
    torch.save(
        {"meta": {"CLASSES": [name for name, _ in ade20k()]}, "state_dict": model.state_dict()}, tmp_path / "best.pth"
    )
    found = convnext.from_pretrained(tmp_path / "best.pth")
    assert instance_of(tuple, not_none(found.info.mask_coding)["values"])[:2] == (1, 2)
