"""YOLO's labels as COCO's annotations: boxes, outlines, the known layouts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext import UserError
from convnext.cli import main
from convnext.data.coco import open_detection
from convnext.data.yolo import import_yolo

YAML = "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n"


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    root = tmp_path / "yolo"
    for split in ("train", "val"):
        for part in ("images", "labels"):
            (root / part / split).mkdir(parents=True)
        for name in ("a", "b"):
            Image.new("RGB", (80, 40)).save(root / "images" / split / f"{name}.jpg")
        (root / "labels" / split / "a.txt").write_text("1 0.5 0.5 0.25 0.5\n\n0 0.1 0.1 0.5 0.1 0.5 0.9\n")
    (root / "data.yaml").write_text(YAML)
    return root


def test_boxes_and_outlines(yolo: Path) -> None:
    sentences = import_yolo(yolo)
    assert sentences[0].endswith("instances_train.json: 2 images, 2 objects of 2 classes")
    content = json.loads((yolo / "annotations" / "instances_train.json").read_text())
    box, outline = content["annotations"]
    assert (box["bbox"], box["category_id"], box["area"]) == ([30, 10, 20, 20], 1, 400)
    np.testing.assert_allclose(outline["bbox"], [8, 4, 32, 32])
    assert outline["area"] == pytest.approx(32 * 32 / 2)
    splits = open_detection(yolo)
    assert splits.train.classes == ("cat", "dog")
    assert (len(splits.train), len(splits.val)) == (1, 2)  # the picture without labels is not learned from


def test_the_layout_with_a_folder_for_each_split(yolo: Path) -> None:
    for split in ("train", "val"):
        (yolo / split).mkdir()
        for part in ("images", "labels"):
            (yolo / part / split).rename(yolo / split / part)
    (yolo / "data.yaml").write_text("train: ../train/images\nval: ../val/images\nnc: 2\nnames: ['cat', 'dog']\n")
    assert main(["import-yolo", str(yolo)]) == 0
    assert len(open_detection(yolo).val) == 2


def test_a_validation_folder_called_valid(yolo: Path) -> None:
    """Roboflow's export: its pictures were looked for in val/images."""
    for split, name in (("train", "train"), ("val", "valid")):
        (yolo / name).mkdir()
        for part in ("images", "labels"):
            (yolo / part / split).rename(yolo / name / part)
    (yolo / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: ['cat', 'dog']\n")
    import_yolo(yolo)
    assert open_detection(yolo).val.image(1).size == (80, 40)


def test_several_folders_and_lists_of_images(yolo: Path) -> None:
    (yolo / "val.txt").write_text("./images/val/a.jpg\n\n")
    settings = "train: [images/train, images/val]\nval: val.txt\nnames: ['cat', 'dog']\n"
    (yolo / "data.yaml").write_text(settings)
    import_yolo(yolo)
    content = json.loads((yolo / "annotations" / "instances_train.json").read_text())
    assert [row["file_name"] for row in content["images"]] == [
        f"images/{split}/{name}.jpg" for split in ("train", "val") for name in "ab"
    ]
    splits = open_detection(yolo, keep_empty=True)
    assert splits.train.image(3).size == (80, 40)
    assert splits.val.ids == ("images/val/a.jpg",)
    (yolo / "val.txt").write_text("./images/val/c.jpg\n")
    with pytest.raises(UserError, match="lists 1 images that do not exist"):
        import_yolo(yolo)


def test_annotations_elsewhere_name_pictures_where_they_are(yolo: Path, tmp_path: Path) -> None:
    import_yolo(yolo / "data.yaml", tmp_path / "out")
    assert not (yolo / "annotations").exists()
    assert open_detection(tmp_path / "out").train.image(0).size == (80, 40)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("5 0.5 0.5 0.1 0.1", "class 5 has no name"),
        ("1 0.5 0.5 0.1", "neither a box nor an outline"),
        ("1 0.5 0.5 0.1 x", "neither a box nor an outline"),
        ("1 0.5 0.5 0.1 nan", "neither a box nor an outline"),
        ("1.5 0.5 0.5 0.1 0.1", "neither a box nor an outline"),
        ("1 40 20 10 10", "is in pixels"),
    ],
)
def test_bad_labels_are_named_and_nothing_is_written(yolo: Path, labels: str, words: str) -> None:
    (yolo / "labels" / "val" / "b.txt").write_text(labels)
    with pytest.raises(UserError, match=words) as found:
        import_yolo(yolo)
    assert "b.txt, line 1" in str(found.value)
    assert not (yolo / "annotations").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: images/train\nnames: [a]\n", "names no images for val"),
        ("train: images/train\nval: images/val\n", "names no classes"),
        ("train: nowhere\nval: images/val\nnames: [a]\n", "names nowhere, which is not in"),
        ("- a list\n", "holds no settings"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_bad_settings(yolo: Path, text: str, words: str) -> None:
    (yolo / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        import_yolo(yolo)


def test_no_or_several_settings(yolo: Path) -> None:
    (yolo / "other.yaml").write_text(YAML)
    with pytest.raises(UserError, match="has several"):
        import_yolo(yolo)
    with pytest.raises(UserError, match="has none"):
        import_yolo(yolo / "images")
