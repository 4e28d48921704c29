"""Annotation files: what is understood, what is left out and said, what is refused and how."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixture_types import MakeDense
from narrow import not_none
from PIL import Image

from convnext import UserError
from convnext.data.learned import LearnedBy, learned_from
from convnext.detection.data import open_detection, open_detection_for_judging, read_coco
from convnext.detection.transforms import MOST_OBJECTS, AxisAffine, transform_objects

Change = Callable[[dict[str, Any]], object]


def changed(root: Path, change: Change, split: str = "train2017") -> Path:
    """The annotation file of a split after a change to its content."""
    path = root / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_a_folder_in_cocos_layout(annotated: MakeDense) -> None:
    splits = open_detection(annotated())
    assert (len(splits.train), len(splits.val)) == (8, 4)
    assert splits.train.classes == ("box", "wedge")
    assert splits.train.category_ids == (3, 17)  # gaps in the ids are none in the labels
    assert splits.note.endswith("8 training and 4 validation images, 12 and 6 objects of 2 classes")
    sample = splits.train[1]
    assert sample.image.size == splits.train.sizes[1] == (64, 48)
    assert sample.objects.labels.tolist() == [0, 1]
    assert (sample.objects.boxes[:, 2:] > sample.objects.boxes[:, :2]).all()


def test_one_file_has_a_share_of_its_images_held_out(annotated: MakeDense) -> None:
    path = annotated() / "annotations" / "instances_train2017.json"
    splits = open_detection(path, val_fraction=0.25)
    assert (len(splits.train), len(splits.val)) == (6, 2)
    assert not set(splits.train.ids) & set(splits.val.ids)
    assert {row["image_id"] for row in splits.val.raw["annotations"]} <= set(splits.val.image_ids)


def test_a_folder_for_each_split_with_its_annotations_inside(annotated: MakeDense, tmp_path: Path) -> None:
    root = annotated()
    for split, name in (("train2017", "train"), ("val2017", "valid")):
        (tmp_path / "other").mkdir(exist_ok=True)
        (root / split).rename(tmp_path / "other" / name)
        file = root / "annotations" / f"instances_{split}.json"
        file.rename(tmp_path / "other" / name / "_annotations.coco.json")
    assert len(open_detection(tmp_path / "other").val) == 4


def test_images_without_objects_are_left_out_of_training_unless_wanted(annotated: MakeDense) -> None:
    root = annotated()

    def strip(content: dict[str, Any]) -> None:
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 101]

    changed(root, strip)
    changed(root, strip, "val2017")
    splits = open_detection(root)
    assert (len(splits.train), len(splits.val)) == (7, 4)  # judged on all the same
    assert "1 training images without objects left out" in splits.note
    assert len(open_detection(root, keep_empty=True).train) == 8


def test_a_validation_split_without_objects_is_refused(annotated: MakeDense) -> None:
    def make_crowds(content: dict[str, Any]) -> None:
        for row in content["annotations"]:
            row["iscrowd"] = 1

    root = annotated()
    changed(root, make_crowds, "val2017")
    with pytest.raises(UserError, match="no object to be judged on in 4 validation images"):
        open_detection(root)


def useless_box(content: dict[str, Any]) -> None:
    content["annotations"][0]["bbox"] = [5, 5, 0, 10]


def outside_box(content: dict[str, Any]) -> None:
    content["annotations"][0]["bbox"] = [500, 5, 20, 10]


def two_corners(content: dict[str, Any]) -> None:
    content["annotations"][0]["segmentation"] = [[1, 1, 5, 5]]


def equal_corners(content: dict[str, Any]) -> None:
    content["annotations"][0]["segmentation"] = [[5, 5, 5, 5, 5, 5]]


def outline_outside(content: dict[str, Any]) -> None:
    content["annotations"][0]["segmentation"] = [[-9, 5, -3, 5, -3, 9]]


def no_pixel(content: dict[str, Any]) -> None:
    content["annotations"][0]["segmentation"] = {"size": [64, 48], "counts": [64 * 48]}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (useless_box, "without an area"),
        (outside_box, "without an area"),
        (two_corners, "outlined by nothing"),
        (equal_corners, "outlined by nothing"),
        (outline_outside, "outlined by nothing"),
        (no_pixel, "outlined by nothing"),
    ],
)
def test_useless_objects_are_left_out_and_counted(annotated: MakeDense, change: Change, why: str) -> None:
    root = annotated()
    changed(root, change)
    splits = open_detection(root)
    assert sum(len(o.labels) for o in splits.train.objects) == 11
    assert f"train: 1 objects {why}" in splits.note
    assert splits.note.endswith("left out")


def test_what_cannot_be_learned_from_is_judged_all_the_same(annotated: MakeDense) -> None:
    """COCO's evaluation counts every object of the file; the note said that those of validation are left out."""
    root = annotated()
    changed(root, useless_box, "val2017")
    splits = open_detection(root)
    assert (sum(len(o.labels) for o in splits.val.objects), splits.val.judged) == (5, 6)
    assert "12 and 6 objects" in splits.note
    assert splits.note.endswith(
        "val: 1 objects without an area within their image, judged all the same, as COCO's evaluation does"
    )


def test_one_bad_polygon_does_not_cost_the_others(annotated: MakeDense) -> None:
    root = annotated()

    def add(content: dict[str, Any]) -> None:
        content["annotations"][0]["segmentation"].append([1, 1, 5, 5])

    source = read_coco(changed(root, add))
    assert len(source.objects[0].outlines[0].polygons) == 1
    assert source.notes == ()


def test_outlines_that_stick_out_a_little_are_kept(annotated: MakeDense) -> None:
    root = annotated()
    outline = [-5.5, -4, 70, -4, 30, 80]
    source = read_coco(changed(root, lambda content: content["annotations"][0].update(segmentation=[outline])))
    assert source.objects[0].outlines[0].polygons[0].ravel().tolist() == outline
    assert source.notes == ()


def test_crowds_are_not_learned_from_but_judged_by(annotated: MakeDense) -> None:
    root = annotated()
    changed(root, lambda content: content["annotations"][0].update(iscrowd=1))
    source = open_detection(root).train
    assert sum(len(o.labels) for o in source.objects) == 11
    assert (
        sum(
            not_none(row["iscrowd"])
            for row in read_coco(root / "annotations" / "instances_train2017.json").raw["annotations"]
        )
        == 1
    )


def test_of_a_very_full_image_the_largest_objects_are_learned_from(annotated: MakeDense) -> None:
    root = annotated()

    def fill(content: dict[str, Any]) -> None:
        row = content["annotations"][0]
        for k in range(10_000):
            content["annotations"].append({**row, "id": 1000 + k, "bbox": [1, 1, 2 + k % 20, 3], "segmentation": []})

    (objects, *_) = read_coco(changed(root, fill)).objects
    assert len(objects.labels) == 10_001
    target = transform_objects(objects, AxisAffine(), (64, 48), masks=False)
    assert len(target["boxes"]) == len(target["labels"]) == MOST_OBJECTS
    assert (target["boxes"][:, 2] - target["boxes"][:, 0]).min() > 20
    assert len(target["ignored"]) == 10_001 - MOST_OBJECTS  # they were background, and so unlearned
    few = transform_objects(
        objects, AxisAffine((4.0, 4.0), (-60.0, 0.0)), (200, 200), masks=False
    )  # the crop leaves those that reach x = 15
    assert len(few["boxes"]) + len(few.get("ignored", ())) < 7000


def rle(content: dict[str, Any], size: list[int], counts: list[int]) -> None:
    content["annotations"][0]["segmentation"] = {"size": size, "counts": counts}


REFUSED: dict[str, tuple[Change, str]] = {
    "no annotations": (lambda c: c.update(annotations=[]), "has no annotations"),
    "no categories": (lambda c: c.pop("categories"), "has no categories"),
    "an entry that is none": (lambda c: c["images"].append("x"), "an entry of images is x, not an object"),
    "no size": (lambda c: c["images"][0].pop("width"), "image 100 lacks width"),
    "an id twice": (lambda c: c["images"].append(c["images"][0]), "image ids twice"),
    "a class twice": (lambda c: c["categories"].append({"id": 99, "name": "box"}), "category names twice"),
    "an unknown image": (lambda c: c["annotations"][0].update(image_id=5), "of image 5, which the file does not list"),
    "an unknown class": (lambda c: c["annotations"][0].update(category_id=5), "of category 5, which the file does not"),
    "a box of three": (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "four numbers"),
    "a box of words": (lambda c: c["annotations"][0].update(bbox=["a"] * 4), "four numbers"),
    "a box without end": (lambda c: c["annotations"][0].update(bbox=[0, 0, float("inf"), 2]), "four numbers"),
    "runs of another size": (lambda c: rle(c, [10, 10], [100]), "run lengths for"),
    "runs that end early": (lambda c: rle(c, [64, 48], [100]), "run lengths for 100 pixels"),
    "an outline without end": (
        lambda c: c["annotations"][0].update(segmentation=[[1e12, 1e12, -1e12, 5, 7, 1e12]]),
        r"reaches to -1e\+12, far outside its image of 48 x 64",
    ),
    "a number that no float holds": (
        lambda c: c["annotations"][0].update(segmentation=[[10**400, 1, 2, 3, 4, 5]]),
        "neither polygons nor",
    ),
    "a picture beyond all bounds": (
        lambda c: c["images"][0].update(width=20_000, height=20_000),
        "more than the 200,000,000 of the largest that are read; mend it or export it again$",
    ),
    "an outline of words": (lambda c: c["annotations"][0].update(segmentation=["abc"]), "neither polygons nor"),
    "a missing picture": (lambda c: c["images"][0].update(file_name="no.png"), "1 of the 8 images of"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_contradictions_are_refused_in_a_sentence(annotated: MakeDense, case: str) -> None:
    change, words = REFUSED[case]
    root = annotated()
    path = changed(root, change)
    with pytest.raises(UserError, match=words) as found:
        open_detection(root)
    assert str(path) in str(found.value)
    assert "\n" not in str(found.value)


def test_what_is_not_json_and_what_is_not_there(annotated: MakeDense, tmp_path: Path) -> None:
    root = annotated()
    (root / "annotations" / "instances_val2017.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        open_detection(root)
    (root / "annotations" / "instances_val2017.json").unlink()
    splits = open_detection(root)  # as for one file: a share is held out
    assert (len(splits.train), len(splits.val)) == (6, 2)
    assert "there is no validation split: 2 images are held out" in splits.note
    (root / "annotations" / "instances_train2017.json").rename(root / "annotations" / "instances_val2017.json")
    with pytest.raises(UserError, match="no COCO annotations for train"):
        open_detection(root)
    with pytest.raises(UserError, match="there is no folder"):
        open_detection(tmp_path / "nothing")


def test_objects_of_classes_that_are_not_learned_are_refused(annotated: MakeDense) -> None:
    root = annotated()
    changed(root, lambda content: content["categories"][1].update(name="third"), "val2017")
    with pytest.raises(UserError, match=r"objects of classes that .* does not list: 'third'"):
        open_detection(root)


def test_a_validation_split_of_fewer_classes_is_matched_by_name(annotated: MakeDense) -> None:
    root = annotated()

    def fewer(content: dict[str, Any]) -> None:
        content["categories"] = [{"id": 0, "name": "wedge"}]
        content["annotations"] = [
            row | {"category_id": 0} for row in content["annotations"] if row["category_id"] == 17
        ]

    changed(root, fewer, "val2017")
    val = open_detection(root).val
    assert (val.classes, val.category_ids, val.judged) == (("box", "wedge"), (3, 17), 2)
    assert {row["category_id"] for row in val.raw["annotations"]} == {17}
    assert {int(label) for one in val.objects for label in one.labels} == {1}


def test_the_category_that_roboflow_puts_above_all_others_is_no_class(annotated: MakeDense) -> None:
    root = annotated()

    def above(content: dict[str, Any]) -> None:
        content["categories"] = [
            {"id": 0, "name": "shapes", "supercategory": "none"},
            *(row | {"supercategory": "shapes"} for row in content["categories"]),
        ]

    changed(root, above)
    changed(root, above, "val2017")
    assert open_detection(root).train.classes == ("box", "wedge")


def test_names_that_windows_wrote(annotated: MakeDense) -> None:
    root = annotated()
    for row in ("train2017", "val2017"):
        changed(root, lambda c: [i.update(file_name="sub\\" + i["file_name"]) for i in c["images"]], row)
        (root / row / "sub").mkdir()
        for path in (root / row).glob("*.png"):
            path.rename(root / row / "sub" / path.name)
    assert open_detection(root).train[0].image.size == (48, 64)


def test_a_test_split_is_for_the_end_alone(annotated: MakeDense) -> None:
    root = annotated()
    content = (root / "annotations" / "instances_val2017.json").read_text()
    (root / "val2017").rename(root / "test2017")
    (root / "annotations" / "instances_val2017.json").rename(root / "annotations" / "instances_test2017.json")
    splits = open_detection(root)
    assert (len(splits.train), len(splits.val)) == (6, 2)
    assert splits.test is not None
    assert splits.test.judged == 6
    assert "4 test images for the end" in splits.note
    assert len(open_detection_for_judging(root, "test")[0]) == 4
    (root / "annotations" / "instances_test2018.json").write_text(content)  # several: which one is not known
    splits = open_detection(root)
    assert splits.test is None
    assert "the test split is not judged: " in splits.note


def test_a_broken_train_split_does_not_keep_the_others_from_being_judged(annotated: MakeDense) -> None:
    """An image without a file name in train ended the evaluation of val with a KeyError."""
    root = annotated()
    splits = open_detection(root)
    changed(root, lambda c: c["images"][0].pop("file_name"))
    changed(root, lambda c: c["images"][1].update(file_name=["a\\b"]))
    source, _ = open_detection_for_judging(root, learned=LearnedBy(learned_from(splits.train, splits.train)))
    assert len(source) == 4


def test_why_there_is_nothing_to_learn_from(annotated: MakeDense) -> None:
    root = annotated()
    changed(root, lambda c: [row.update(iscrowd=1) for row in c["annotations"]])
    with pytest.raises(UserError, match="in 8 training images; 12 objects marked as crowds; annotate some"):
        open_detection(root)
    changed(root, lambda c: [row.update(iscrowd=0, area=0) for row in c["annotations"]])
    with pytest.raises(UserError, match="; 12 objects without an area within their image; annotate some"):
        open_detection(root)
    changed(root, lambda c: [row.update(area=9, segmentation=[[]]) for row in c["annotations"]])
    train = open_detection(root).train  # an outline of nothing at all: the box is what there is
    assert (sum(len(o.labels) for o in train.objects), train.masks) == (12, False)


def test_an_annotation_file_of_no_split(annotated: MakeDense) -> None:
    root = annotated()
    (root / "annotations" / "instances_val2017.json").unlink()
    (root / "annotations" / "instances_train2017.json").rename(root / "annotations" / "instances_default.json")
    (root / "train2017").rename(root / "images")
    assert len(open_detection(root).val) == 2


def test_a_picture_of_another_size_than_annotated_is_named(annotated: MakeDense) -> None:
    root = annotated()
    Image.new("RGB", (10, 10)).save(root / "train2017" / "000.png")
    with pytest.raises(UserError, match=r"1 of the 8 images of .* 000\.png has 10 x 10 pixels, not 48 x 64; export"):
        open_detection(root)  # before anything is learned
    (root / "train2017" / "000.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"000\.png is empty"):
        open_detection(root)


def test_a_picture_that_shrank_in_the_meantime_is_named(annotated: MakeDense) -> None:
    root = annotated()
    train = open_detection(root).train
    Image.new("RGB", (10, 10)).save(root / "train2017" / "000.png")
    with pytest.raises(UserError, match="10 x 10 pixels, its annotations are for 48 x 64"):
        train[0]


def test_a_turned_photo_annotated_as_stored_is_read_as_stored(annotated: MakeDense) -> None:
    root = annotated()
    path = root / "train2017" / "000.png"
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(path).save(path, exif=turned)
    assert open_detection(root).train[0].image.size == (48, 64)
