"""What a folder is, decided once: every layout, what two could be, what none is, and how quickly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convnext import api
from convnext.api import check
from convnext.commands.main import main
from convnext.errors import UserError
from convnext.tasks.look import look_at, require

RNG = np.random.default_rng(0)


def photograph(path: Path, side: int = 24) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)


def mask(path: Path, side: int = 24) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros((side, side), np.uint8)
    labels[4:12, 4:12] = 1
    Image.fromarray(labels).save(path)


def text(path: Path, content: str = "0 0.5 0.5 0.2 0.2\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def classes(root: Path) -> None:
    for i in range(4):
        photograph(root / ("rose", "tulip")[i % 2] / f"{i}.png")


def split_classes(root: Path) -> None:
    for part in ("train", "val"):
        classes(root / part)


def table(root: Path) -> None:
    classes(root)
    text(root / "labels.csv", "path,labels\nrose/0.png,red\n")


def masks(root: Path) -> None:
    for i in range(4):
        photograph(root / "images" / f"{i}.png")
        mask(root / "masks" / f"{i}.png")


def beside(root: Path) -> None:
    for part in ("train", "val"):
        photograph(root / part / "a.png")
        mask(root / f"{part}annot" / "a.png")


def misnamed(root: Path) -> None:
    """Masks whose names are no picture's: masks all the same, which their reader says is wrong."""
    for i in range(4):
        photograph(root / "images" / f"photo{i}.png")
        mask(root / "masks" / f"drawing{i}.png")


def coco(root: Path) -> None:
    for part in ("train", "valid"):
        photograph(root / part / "a.png")
        text(root / part / "_annotations.coco.json", '{"info": {}, "images": [], "annotations": [], "categories": []}')


def yolo(root: Path) -> None:
    for part in ("train", "valid"):
        photograph(root / part / "images" / "a.png")
        text(root / part / "labels" / "a.txt")
    text(root / "data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['car']\n")


def namesakes(root: Path) -> None:
    """Two classes of photographs that are called as pictures and masks are."""
    for i in range(4):
        photograph(root / "images" / f"{i}.png")
        photograph(root / "masks" / f"{i}.png")


def class_called_labels(root: Path) -> None:
    for name in ("labels", "parcels", "images"):
        for i in range(3):
            photograph(root / name / f"{name}{i}.png")


def class_with_json(root: Path) -> None:
    split_classes(root)
    text(root / "train" / "licence.json", '{"licence": "CC0"}')


def captions(root: Path) -> None:
    classes(root)
    text(root / "rose" / "0.txt", "a rose")


KNOWN: dict[str, tuple[Callable[[Path], None], str]] = {
    "classes": (classes, "classes"), "classes in a split": (split_classes, "classes"), "table": (table, "table"),
    "masks": (masks, "masks"), "masks beside": (beside, "masks"), "masks of other names": (misnamed, "masks"),
    "COCO": (coco, "coco"), "YOLO": (yolo, "yolo"), "classes called images and masks": (namesakes, "classes"),
    "a class called labels": (class_called_labels, "classes"), "JSON beside classes": (class_with_json, "classes"),
    "captions": (captions, "classes"),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_a_layout(tmp_path: Path, name: str) -> None:
    make, kind = KNOWN[name]
    make(tmp_path)
    assert look_at(tmp_path).kind == kind


def test_what_is_no_folder(tmp_path: Path) -> None:
    assert look_at().kind == "built-in"
    text(tmp_path / "instances.json")
    assert look_at(tmp_path / "instances.json").task == "detect"
    with pytest.raises(UserError, match="there is no folder"):
        look_at(tmp_path / "none")


def test_two_classes_called_images_and_masks_are_said_to_be_that(tmp_path: Path) -> None:
    namesakes(tmp_path)
    look = look_at(tmp_path)
    assert "look alike, so they are classes and not masks" in str(look)
    assert (
        look.others() == "it may also be read as pictures with masks (those of images are in masks) by --recipe segment"
    )
    require(look, "classify", "scratch")
    require(look, "segment", "segment")
    with pytest.raises(UserError, match="is for detection; use --recipe classify"):
        require(look, "detect", "coco/mask_rcnn/tiny")


@pytest.mark.parametrize("pattern", ["{}", "{}/train", "train/{}"])
def test_labels_that_are_not_understood_are_no_class(tmp_path: Path, pattern: str) -> None:
    """`convnext train` said "no images in the class 'labels'", and `check` listed every label file."""
    for i in range(3):
        photograph(tmp_path / pattern.format("images") / f"{i}.jpg")
        text(tmp_path / pattern.format("labels") / f"{i}.txt")
    text(tmp_path / "classes.txt", "car\n")
    with pytest.raises(UserError, match=r"pictures and \.txt files of their names, which may be labels in YOLO"):
        api.train(tmp_path)
    report = check(tmp_path)
    assert [problem.kind for problem in report.problems] == ["not understood"]
    assert "data.yaml" in str(report)


BOXES = {
    "images": [{"id": 1, "file_name": "rose/0.png", "width": 24, "height": 24}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9]}],
    "categories": [{"id": 1, "name": "bee"}],
}
SIGHTING = {"id": 1, "image_id": 1, "category_id": 1}


@pytest.mark.parametrize(("name", "content"), [
    ("package.json", '{"name": "flowers", "images": "rose/0.png"}'),
    ("info.json", '{"images": 8}'),
    ("train/info.json", '{"images": 8, "annotations": 0, "licence": "CC0"}'),
    ("train.json", json.dumps(BOXES | {"annotations": [SIGHTING]})),  # iNaturalist's: classes of pictures
    ("annotations/instances_train.json", json.dumps(BOXES | {"annotations": [SIGHTING]})),
    ("meta.xml", "<meta><licence>CC0</licence></meta>"),
    ("train/meta.xml", "<meta/>"),
])  # fmt: skip
@pytest.mark.parametrize("make", [classes, split_classes])
def test_a_stray_file_makes_classes_no_boxes(
    tmp_path: Path, make: Callable[[Path], None], name: str, content: str
) -> None:
    """`convnext train` took such a folder for detection and failed, and a classifier could not be asked for."""
    make(tmp_path)
    if make is split_classes or "train/" not in name:
        text(tmp_path / name, content)
    look = look_at(tmp_path)
    assert look.kind == "classes"
    require(look, "classify", "scratch")


def test_boxes_of_pictures_in_folders_of_classes_can_be_read_as_either(tmp_path: Path) -> None:
    classes(tmp_path)
    text(tmp_path / "boxes.json", json.dumps(BOXES))
    look = look_at(tmp_path)
    assert look.kind == "coco"
    assert "a folder of pictures for each class (its folders hold pictures) by --recipe classify" in look.others()
    require(look, "classify", "scratch")
    require(look, "detect", "detect")


def test_the_parts_of_other_layouts_are_no_classes(tmp_path: Path) -> None:
    for folder in ("train2017", "val2017", "test"):
        photograph(tmp_path / folder / "0.png")
    text(tmp_path / "annotations" / "instances_train2017.json", json.dumps(BOXES))
    with pytest.raises(UserError, match="scratch is for classification; use --recipe detect"):
        require(look_at(tmp_path), "classify", "scratch")


def test_a_folder_in_a_folder(tmp_path: Path) -> None:
    masks(tmp_path / "downloaded" / "streets")
    classes(tmp_path / "unpacked" / "flowers")
    for place, inner in (("downloaded", "streets"), ("unpacked", "flowers")):
        with pytest.raises(UserError, match=f"{inner} in it holds .*: pass that folder"):
            api.train(tmp_path / place)


@pytest.mark.parametrize(("make", "recipe", "said"), [
    (masks, "scratch", "pictures with masks .*scratch is for classification; use --recipe segment"),
    (masks, "coco/mask_rcnn/tiny", "is for detection; use --recipe segment"),
    (coco, "scratch", "objects in COCO's format .*use --recipe detect"),
    (yolo, "ade20k/upernet/tiny", "objects in YOLO's format .*is for segmentation; use --recipe detect"),
    (classes, "segment", "a folder of pictures for each class .*use --recipe classify"),
])  # fmt: skip
def test_a_recipe_of_another_task_is_refused(
    tmp_path: Path, make: Callable[[Path], None], recipe: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures with masks became a classifier "images against masks", and its 90 % were reported."""
    make(tmp_path / "data")
    with pytest.raises(UserError, match=said):
        api.train(tmp_path / "data", recipe, out=tmp_path / "run")
    assert main(["train", str(tmp_path / "data"), "--recipe", recipe, "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()


def test_many_files_are_looked_at_quickly(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(10_000):
            (tmp_path / name / f"{i}.jpg").touch()
    began = time.perf_counter()
    assert look_at(tmp_path).kind == "classes"
    assert time.perf_counter() - began < 0.5


SMALL: dict[str, Any] = {
    "model": "convnext_atto", "depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16), "image_size": 64, "batch_size": 2,
    "steps": 1, "workers": 0, "precision": "fp32",
}  # fmt: skip


@pytest.mark.parametrize(("kind", "task"), [("masked", "segment"), ("annotated", "detect"), ("pictures", "classify")])
def test_train_takes_the_task_from_the_folder_and_evaluate_agrees(
    kind: str, task: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures with masks became a classifier of "images against masks" where no recipe was named."""
    make = {name: request.getfixturevalue(name) for name in ("masked", "annotated", "pictures")}
    data = {name: make[name](name, train=6, val=3) for name in make}
    own = {"segment": {"segmentation.channels": 8}, "detect": {"detection.regions": 16}, "classify": {}}[task]
    api.train(data[kind], out=tmp_path / "run", settings=SMALL | own, report=False)
    assert f"by the recipe {task}" in capsys.readouterr().out.splitlines()[0]
    model = tmp_path / "run" / "model.safetensors"
    assert api.evaluate(model, data.pop(kind))
    for other in data.values():
        with pytest.raises(UserError, match=r"was trained for .* holds .*; judge it on labels of its own kind"):
            api.evaluate(model, other)
