"""PASCAL VOC's layout and its exports: what is known by its names, and what is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import MakeDense
from PIL import Image

from convnext import UserError
from convnext.commands.main import main
from convnext.detection.coco_files import is_coco
from convnext.detection.data import open_detection
from convnext.detection.voc import is_voc
from convnext.detection.yolo import is_yolo


def test_folders_are_known_by_their_names(annotated: MakeDense, tmp_path: Path) -> None:
    root = annotated()
    assert (is_coco(root), is_yolo(root), is_voc(root)) == (True, False, False)
    other = tmp_path / "classes"
    (other / "train" / "cat").mkdir(parents=True)
    (other / "train" / "labels.json").write_text('[["a.jpg", 1]]')  # of folders of classes; not COCO's
    (other / "params.yaml").write_text("train:\n  names: [a]\n")
    assert (is_coco(other), is_yolo(other), is_voc(other)) == (False, False, False)
    (other / "data.yaml").write_bytes(b"\xef\xbb\xbftrain: ../train/images\r\nval:\r\nnames: ['a']\r\n")
    assert is_yolo(other)
    assert is_yolo(other / "data.yaml")
    (other / "train" / "._a.xml").write_text("")
    assert not is_voc(other)
    (other / "train" / "a.xml").write_text("")
    assert is_voc(other)
    assert not any(known(tmp_path / "nowhere") for known in (is_coco, is_yolo, is_voc))


OBJECT = """<object><name>{}</name><difficult>{}</difficult>
<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


def picture(folder: Path, xml: Path, name: str, *objects: tuple[Any, ...], size: tuple[int, int] = (80, 40)) -> None:
    for place in (folder, xml):
        place.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(map(ord, f"{folder.name}{name}")))
    Image.fromarray(rng.integers(0, 255, (40, 80, 3), dtype=np.uint8)).save(folder / f"{name}.jpg")
    rows = "".join(OBJECT.format(*one) for one in objects)
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    (xml / f"{name}.xml").write_text(f"<annotation><filename>x.jpg</filename>{sides}{rows}</annotation>")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in "abcd":
        objects = [("dog", 0, 1, 1, 80, 40), ("cat", 1, 11, 11, 20, 20)]
        picture(root / "JPEGImages", root / "Annotations", name, *objects)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for split, names in (("train", "ab"), ("val", "c"), ("test", "dz"), ("trainval", "abc"), ("dog_train", "d")):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return root


def test_the_layout_of_the_challenge(voc: Path) -> None:
    splits = open_detection(voc.parents[1])
    assert splits.test is not None
    assert (len(splits.train), len(splits.val), len(splits.test)) == (2, 1, 1)
    assert splits.train.classes == ("cat", "dog")
    one = splits.train.objects[0]
    assert one.boxes.tolist() == [[0, 0, 80, 40]]  # pixels are counted from 1, and the last one is inside
    assert one.ignored.tolist() == [[10, 10, 20, 20]]  # difficult: not learned, and no background either
    assert splits.val.judged == 1  # nor right or wrong to find
    assert "2 objects marked as difficult" in splits.note
    assert "val: 1 difficult objects are judged as COCO's crowds are: what is found within one counts" in splits.note
    assert "1 of the 2 pictures that ImageSets/Main lists for test have no picture" in splits.note
    (voc / "ImageSets" / "Main" / "train.txt").unlink()
    assert len(open_detection(voc).train) == 2  # trainval, but for those that are judged


def test_pictures_and_xml_files_in_a_folder_for_each_split(tmp_path: Path) -> None:
    """Roboflow's export."""
    for split, names in (("train", "abc"), ("valid", "de")):
        for name in names:
            picture(tmp_path / split, tmp_path / split, name, ("dog", 0, 10, 10, 30, 30))
    splits = open_detection(tmp_path)
    assert (len(splits.train), len(splits.val), splits.train.classes) == (3, 2, ("dog",))
    assert splits.val.image(0).size == (80, 40)


def test_every_year_of_the_challenge_is_read(voc: Path) -> None:
    """Of 2007 beside 2012 only the first was, without a word."""
    other = voc.parent / "VOC2007"
    for name in "aef":
        picture(other / "JPEGImages", other / "Annotations", name, ("bird", 0, 1, 1, 80, 40))
    (other / "ImageSets" / "Main").mkdir(parents=True)
    for split, names in (("train", "a"), ("val", "ez")):
        (other / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    splits = open_detection(voc.parents[1])
    assert splits.test is not None
    assert (len(splits.train), len(splits.val), len(splits.test)) == (3, 2, 1)
    assert splits.train.classes == ("bird", "cat", "dog")
    assert "VOCdevkit/VOC2007/JPEGImages/a.jpg" in splits.train.ids
    assert "VOC2007: 1 of the 2 pictures that ImageSets/Main lists for val" in splits.note
    assert splits.train.image(0).size == (80, 40)


def test_pictures_without_an_xml_file_are_counted(tmp_path: Path) -> None:
    for name in "abcd":
        picture(tmp_path / "train", tmp_path / "train", name, ("dog", 0, 10, 10, 30, 30))
    for i in range(400):  # the first names of a listing are in no order
        (tmp_path / "train" / f"{i}.jpg").write_bytes((tmp_path / "train" / "a.jpg").read_bytes())
    assert is_voc(tmp_path)
    splits = open_detection(tmp_path)
    assert len(splits.train) + len(splits.val) == 4
    assert "400 of 404 pictures have no XML file, and are left out" in splits.note


def test_pictures_and_xml_files_in_two_folders_without_splits(tmp_path: Path) -> None:
    for name in "abcdefgh":
        picture(tmp_path / "images", tmp_path / "annotations", name, ("dog", 0, 10, 10, 30, 30), size=(0, 0))
    splits = open_detection(tmp_path)
    assert (len(splits.train), len(splits.val)) == (6, 2)
    assert not set(splits.train.ids) & set(splits.val.ids)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation>", "a.xml cannot be read as XML"),
        ("<annotation><object><name>dog</name></object></annotation>", "has an object without a name or a box"),
        ("<annotation><size><width>9</width><height>7</height></size></annotation>", "is for 9 x 7 pixels, a.jpg has"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "is no annotation of a picture"),
    ],
)
def test_a_bad_file_is_named(voc: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    (voc / "Annotations" / "a.xml").write_text(text)
    with pytest.raises(UserError, match=words):
        open_detection(voc)
    assert main(["check", str(voc)]) == 2
    assert words.split(" ", 1)[1] in capsys.readouterr().out


def test_check_reads_a_sound_folder(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(voc)]) == 0
    assert "fit to train on" in capsys.readouterr().out


def test_files_without_pictures(voc: Path) -> None:
    for path in (voc / "JPEGImages").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="no picture that is called as one of them"):
        open_detection(voc)


def test_names_with_a_dot_are_found_in_lists(voc: Path) -> None:
    for place, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        for name in "abcd":
            (voc / place / f"{name}.{suffix}").rename(voc / place / f"{name}.v1.{suffix}")
    for split, text in (("train", "a.v1\nb.v1.jpg\n"), ("val", "c.v1\n"), ("test", "JPEGImages/d.v1.xml\n")):
        (voc / "ImageSets" / "Main" / f"{split}.txt").write_text(text)
    splits = open_detection(voc)
    assert splits.test is not None
    assert (len(splits.train), len(splits.val), len(splits.test)) == (2, 1, 1)
    for path in (voc / "ImageSets" / "Main").iterdir():
        path.write_text("no.such\n")
    with pytest.raises(UserError, match="name not one picture that has an XML file"):
        open_detection(voc)
