"""YOLO's labels as COCO's annotations: boxes, outlines, the known layouts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext import UserError
from convnext.api import check
from convnext.commands.main import main
from convnext.data.learned import LearnedBy, learned_from
from convnext.detection.data import open_detection, open_detection_for_judging
from convnext.detection.yolo import import_yolo

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
    (yolo / "README.roboflow.txt").write_text("export")
    assert open_detection(yolo).val.image(1).size == (80, 40)  # read as it is, and after the import
    import_yolo(yolo)
    assert open_detection(yolo).val.image(1).size == (80, 40)


def test_several_folders_and_lists_of_images(yolo: Path) -> None:
    (yolo / "val.txt").write_text("./images/val/a.jpg\n\n")
    settings = "train: [images/train, images/val]\nval: val.txt\nnames: ['cat', 'dog']\n"
    (yolo / "data.yaml").write_text(settings)
    import_yolo(yolo)
    content = json.loads((yolo / "annotations" / "instances_train.json").read_text())
    assert [row["file_name"] for row in content["images"]] == [
        "images/train/a.jpg",
        "images/train/b.jpg",
        "images/val/b.jpg",
    ]  # what is judged on is not learned from
    splits = open_detection(yolo, keep_empty=True)
    assert splits.train.image(2).size == (80, 40)
    assert splits.val.ids == ("images/val/a.jpg",)
    (yolo / "val.txt").write_text("./images/val/c.jpg\n")
    with pytest.raises(UserError, match="lists 1 images that do not exist"):
        import_yolo(yolo)
    assert content == json.loads((yolo / "annotations" / "instances_train.json").read_text())


def test_annotations_that_were_mended_since_are_not_overwritten(yolo: Path, tmp_path: Path) -> None:
    import_yolo(yolo)
    import_yolo(yolo)  # the same again changes nothing
    mended = yolo / "annotations" / "instances_val.json"
    mended.write_text('{"precious": 1}')
    (yolo / "labels" / "train" / "a.txt").write_text("1 0.5 0.5 0.2 0.5\n")
    with pytest.raises(UserError, match=r"instances_train.json and .*instances_val.json would be lost.*--out"):
        import_yolo(yolo)
    assert mended.read_text() == '{"precious": 1}'
    import_yolo(yolo, tmp_path / "out")


def test_a_folder_is_learned_from_as_it_was_downloaded(yolo: Path) -> None:
    splits = open_detection(yolo)
    assert (splits.train.classes, splits.train.masks) == (("cat", "dog"), True)
    assert (len(splits.train), len(splits.val)) == (1, 2)
    np.testing.assert_allclose(splits.train.objects[0].boxes, [[30, 10, 50, 30], [8, 4, 40, 36]])
    assert splits.val.ids == ("images/val/a.jpg", "images/val/b.jpg")
    assert not (yolo / "annotations").exists()
    assert len(open_detection_for_judging(yolo / "data.yaml")[0]) == 2


def test_what_other_machines_leave(yolo: Path) -> None:
    """A byte order mark, Windows' line ends, macOS' hidden files, paths of the machine of the export."""
    (yolo / "images" / "train" / "._a.jpg").write_bytes(b"\0\5\x16\7")
    for path in (yolo / "labels").rglob("a.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    settings = (
        "path: /content/shapes\r\ntrain: /content/shapes/images/train\r\nval: ..\\images\\val\r\nnames: [cat, dog]\r\n"
    )
    (yolo / "data.yaml").write_bytes(b"\xef\xbb\xbf" + settings.encode())
    splits = open_detection(yolo)
    assert (len(splits.train), len(splits.val), splits.val.judged) == (1, 2, 2)


def test_without_validation_pictures_a_share_is_held_out(yolo: Path) -> None:
    for name in "cdefgh":
        Image.new("RGB", (80, 40)).save(yolo / "images" / "train" / f"{name}.jpg")
        (yolo / "labels" / "train" / f"{name}.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    (yolo / "labels" / "train" / "b.txt").write_text("")  # a picture of nothing
    (yolo / "data.yaml").write_text(
        "train: images/train\nval: images/train\nnames: [cat, dog]\n"
    )  # ultralytics' coco128
    splits = open_detection(yolo, keep_empty=True)
    assert (len(splits.train), len(splits.val)) == (6, 2)
    assert not set(splits.train.ids) & set(splits.val.ids)
    assert "names the training pictures for val as well" in splits.note
    (yolo / "data.yaml").write_text("train: images/train\nval: valid/images\nnames: [cat, dog]\n")
    assert len(open_detection(yolo, keep_empty=True).val) == 2


def test_a_file_that_names_no_validation_pictures_is_told_so(yolo: Path) -> None:
    (yolo / "data.yaml").write_text("train: images\nnames: [cat, dog]\n")
    said = "there is no validation split: 1 images are held out"
    assert said in open_detection(yolo / "data.yaml").note
    assert said in open_detection(yolo).note


def test_test_pictures_that_are_judged_on_before_the_end_are_no_test(yolo: Path) -> None:
    """They had chosen the weights, and a headline called them pictures that chose nothing."""
    (yolo / "data.yaml").write_text(YAML + "test: images/val\n")
    splits = open_detection(yolo)
    assert splits.test is None
    assert "the 2 pictures of test are those of val: nothing is kept for the end" in splits.note
    Image.new("RGB", (80, 40)).save(yolo / "images" / "c.jpg")
    (yolo / "labels" / "c.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    (yolo / "test.txt").write_text("images/c.jpg\nimages/val/a.jpg\n")
    (yolo / "data.yaml").write_text(YAML + "test: test.txt\n")
    splits = open_detection(yolo)
    assert splits.test is not None
    assert splits.test.ids == ("images/c.jpg",)
    assert "1 of the 2 pictures of test are in val as well and judged there alone" in splits.note


def test_pictures_of_another_split_are_not_missed(yolo: Path) -> None:
    """Each evaluation on val said that those learned from, in train, were not found."""
    for i, path in enumerate(sorted((yolo / "images").rglob("*.jpg"))):
        Image.new("RGB", (80, 40), (i * 60, 0, 0)).save(path)
    known = learned_from(open_detection(yolo).train)
    assert known is not None
    source, said = open_detection_for_judging(yolo, learned=LearnedBy(known))
    assert len(source) == 2
    assert "not found" not in said


def test_labels_that_are_nowhere_are_missed(yolo: Path) -> None:
    """Without a single label file all pictures counted as empty, and the import said it had succeeded."""
    (yolo / "labels" / "train" / "a.txt").unlink()
    with pytest.raises(UserError, match=r"not one of the 2 train pictures .* has labels: looked for .*labels/train/a"):
        open_detection(yolo)


POSE = "0 0.5 0.5 0.25 0.5 0.4 0.4 2 0.6 0.6 1\n"


def test_of_key_points_the_box_is_learned(yolo: Path) -> None:
    """The odd ones were read as an outline through centre, size, points and visibilities: a box of other extent."""
    for path in (yolo / "labels").rglob("a.txt"):
        path.write_text(POSE * 2)
    with pytest.raises(UserError, match=r"hold key points.* add kpt_shape: \[2, 3\] to .*data.yaml"):
        open_detection(yolo)
    (yolo / "data.yaml").write_text(YAML + "kpt_shape: [2, 3]\n")
    train = open_detection(yolo).train
    assert not train.masks
    np.testing.assert_allclose(train.objects[0].boxes, [[30, 10, 50, 30]] * 2)
    (yolo / "labels" / "train" / "a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.9")
    with pytest.raises(UserError, match="by kpt_shape it must be 5 or 11 numbers"):
        open_detection(yolo)


def test_turned_boxes_are_said_to_be_upright_ones(yolo: Path) -> None:
    for path in (yolo / "labels").rglob("a.txt"):
        path.write_text("0 0.1 0.1 0.5 0.1 0.5 0.9 0.1 0.9\n")
    assert "train: all outlines have four corners, as turned boxes have" in open_detection(yolo).note


def test_check_reads_what_training_reads(yolo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(yolo), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["counts"] == {"train": {"cat": 1, "dog": 1}, "val": {"cat": 1, "dog": 1}}
    assert {row["kind"] for row in report["problems"]} <= {"no object", "leak", "duplicate", "reading"}
    (yolo / "labels" / "val" / "b.txt").write_text("5 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1\n")
    (yolo / "images" / "train" / "b.jpg").write_bytes(b"no picture")
    assert main(["check", str(yolo)]) == 2
    out = capsys.readouterr().out
    for words in ("line 1: class 5 has no name", "line 2: '1 0.5 0.5 0.1' is neither a box", "b.jpg is not an image"):
        assert words in out


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
        ("train: images/train\nnames: [cat, dog]\n", "names no images for val; add val: and a folder, or train on"),
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


def test_check_names_files_and_lines_and_counts_background(yolo: Path) -> None:
    (yolo / "labels" / "train" / "a.txt").write_text("1 0.5 0.5 0.25 0.5\n\n0 0.5 0.5 0.01 0.5\n")
    (yolo / "labels" / "train" / "b.txt").touch()
    (yolo / "data.yaml").write_text(YAML + "test: images/tset\n")
    found = {(one.kind, one.path): one for one in check(yolo).problems}
    assert "its box is 0.8 x 20 pixels, and at least 1 a side" in found["no area", "labels/train/a.txt, line 3"].detail
    assert found["background", "train"].severity == "note"
    assert found["background", "train"].detail.startswith("1 pictures with an empty label file are background: not")
    assert ("no object", "images/train/b.jpg") not in found
    assert ("no object", "images/val/b.jpg") in found  # which has no label file
    assert "; mend path or test" in found["reading", "."].detail
    assert "train: 1 objects thinner than a pixel, left out" in open_detection(yolo).note
    import_yolo(yolo, yolo.parent)
    content = json.loads((yolo.parent / "annotations" / "instances_train.json").read_text())
    assert not {"background", "read_from"} & {key for rows in content.values() for row in rows for key in row}
