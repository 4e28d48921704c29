"""Released files on disk keep their protocol; others of their name do not get it; mistyped names are mended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from narrow import backbone_of, instance_of, not_none
from small_models import small

from convnext import UserError, create_model, from_pretrained
from convnext.catalog.releases import DETECTORS, RELEASES, SEGMENTERS, AnyRelease, DetectorRelease, Release
from convnext.pretrained import carried
from convnext.segmentation.model import build_segmenter
from convnext.weights.backbone import starting_point
from convnext.weights.checkpoint import find, open_checkpoint
from convnext.weights.released import holds, named_as

Weights = dict[str, torch.Tensor]


def thin(weights: Weights) -> Weights:
    """Tensors of the shapes, of one stored value each: a file of a few kilobytes."""
    return {name: torch.zeros((), device="cpu").expand(value.shape) for name, value in weights.items()}


def classifier(variant: str, classes: int = 1000) -> Weights:
    with torch.device("meta"):
        return thin(dict(create_model(variant, num_classes=classes).state_dict()))


def segmenter(variant: str, classes: int = 150) -> Weights:
    with torch.device("meta"):
        return thin(dict(build_segmenter(backbone_of(create_model(variant, out_norms=True)), classes).state_dict()))


def detector(variant: str, kind: str, classes: int = 80) -> Weights:
    from convnext.detection.model.rcnn import build_detector

    with torch.device("meta"):
        body = backbone_of(create_model(variant, out_norms=True))
        return thin(dict(build_detector(kind, body, classes).state_dict()))


def test_every_release_is_known_by_its_file_wherever_it_lies(tmp_path: Path) -> None:
    rows: tuple[AnyRelease, ...] = (*RELEASES, *DETECTORS, *SEGMENTERS)
    for row in rows:
        assert named_as(tmp_path / row.filename) is row
    assert named_as(tmp_path / "upernet_convnext_base_22k_640x640.safetensors") is SEGMENTERS[3]
    assert named_as(tmp_path / "model.safetensors") is None


def test_a_released_segmenter_on_disk_has_its_protocol(tmp_path: Path) -> None:
    """`upernet_convnext_base_22k_640x640.pth` was judged at 512 pixels."""
    path = tmp_path / "upernet_convnext_base_22k_640x640.pth"
    torch.save({"meta": {}, "state_dict": segmenter("convnext_base")}, path)
    opened = open_checkpoint(path)
    assert opened.release is SEGMENTERS[3]
    assert opened.source == str(path)
    assert starting_point(path).settings["image_size"] == 640
    assert carried(path)["licence"] == "MIT"
    assert '"size": 640' in carried(path)["preprocess"]


def test_a_released_classifier_on_disk_has_its_protocol(tmp_path: Path) -> None:
    path = tmp_path / "convnext_tiny_22k_1k_384.pth"
    torch.save({"model": classifier("convnext_tiny")}, path)
    model = from_pretrained(path)
    assert (model.info.preprocess["size"], model.info.preprocess["mode"]) == (384, "warp")
    assert instance_of(Release, model.info.release).tag == "in22k_ft_in1k_384"
    assert any("licence MIT" in note for note in not_none(model.info.load_report).notes)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("convnext_tiny_22k_1k_384", lambda: classifier("convnext_small")),
        ("convnext_tiny_22k_1k_384", lambda: classifier("convnext_tiny", 7)),
        ("convnext_tiny_22k_1k_384", lambda: segmenter("convnext_tiny")),
        ("upernet_convnext_base_22k_640x640", lambda: segmenter("convnext_base", 5)),
        ("upernet_convnext_base_22k_640x640", lambda: segmenter("convnext_tiny")),
        ("mask_rcnn_convnext_tiny_1k_3x", lambda: detector("convnext_tiny", "cascade_mask_rcnn")),
        ("mask_rcnn_convnext_tiny_1k_3x", lambda: {"fc.weight": torch.zeros(2, 2)}),
    ],
)
def test_a_name_alone_proves_nothing(name: str, weights: Callable[[], Weights], tmp_path: Path) -> None:
    torch.save({"model": weights()}, tmp_path / f"{name}.pth")
    opened = open_checkpoint(tmp_path / f"{name}.pth")
    assert opened.release is None
    assert any("but holds others" in note for note in opened.notes)


@pytest.mark.parametrize("row", [DETECTORS[0], DETECTORS[1]], ids=lambda row: row.stem)
def test_released_detectors_are_known_by_their_heads(row: DetectorRelease) -> None:
    kind = row.name.split("/")[1]
    assert holds(detector("convnext_tiny", kind), row)
    assert not holds(detector("convnext_tiny", kind, 79), row)


def test_our_own_file_of_a_released_name_says_what_it_is(tmp_path: Path) -> None:
    from convnext import save_weights

    path = save_weights(small(), tmp_path / "convnext_tiny_22k_1k_384.safetensors")
    assert open_checkpoint(path).release is None
    assert from_pretrained(path).info.preprocess["size"] == 224


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("cascade_mask_rcnn_convnext_base_22k_3", "cascade_mask_rcnn_convnext_base_22k_3x"),
        ("upernet_convnext_tiny_1k_512x51.pth", "upernet_convnext_tiny_1k_512x512"),
        ("ade20k/upernet/tinny", "ade20k/upernet/tiny"),
    ],
)
def test_a_mistyped_detector_or_segmenter_is_mended(text: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"neither a file nor released weights; did you mean '{meant}'"):
        find(text)
