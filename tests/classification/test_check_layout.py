"""What the folder report says of splits, classes and their folders, and what a run says of the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from check_cases import kinds, only, picture
from fixture_types import MakePictures

from convnext.api import check
from convnext.classification.data import open_data, open_fold
from convnext.errors import UserError


def test_classes_that_differ_between_the_splits(pets: Path) -> None:
    (pets / "val/dog").rename(pets / "val/Dog")
    report = check(pets)
    assert not report.ok
    assert [(p.path, p.detail) for p in report.problems] == [
        ("dog", "in train, not in val"),
        ("Dog", "in val, not in train"),
    ]
    assert set(kinds(report)) == {"class in one split"}


def test_structure_that_cannot_be_trained_on(pets: Path, tmp_path: Path) -> None:
    shutil.rmtree(pets / "val")
    assert check(pets).ok  # a share of train is held out
    (pets / "train").rename(pets / "val")
    assert only(check(pets), "missing split").detail == "there is no train folder beside val"
    (pets / "val").rename(pets / "train")
    for path in (pets / "train/dog").iterdir():
        path.unlink()
    assert kinds(check(pets / "train"))["empty class"] == 1
    (pets / "train/dog").rmdir()
    assert only(check(pets / "train"), "one class").severity == "error"
    assert kinds(check(pets / "train/cat")) == {"no class folders": 1, "outside classes": 1}
    (pets / "bare" / "x").mkdir(parents=True)
    assert kinds(check(pets / "bare")) == {"empty class": 1, "no images": 1}
    (pets / "nothing").mkdir()
    assert only(check(pets / "nothing"), "no class folders").severity == "error"


def test_pictures_outside_the_classes_and_unused_folders_are_noted(pets: Path) -> None:
    picture(90).save(pets / "loose.png")
    picture(91).save(pets / "train/loose.png")
    (pets / "README.md").write_text("about")
    (pets / "extra" / "cat").mkdir(parents=True)
    (pets / "train/cat/notes.txt").write_text("x")
    report = check(pets)
    assert report.ok
    assert {(p.kind, p.path) for p in report.problems} == {
        ("outside classes", "loose.png"),
        ("outside classes", "train/loose.png"),
        ("unused folder", "extra"),
        ("not an image", "train/cat/notes.txt"),
    }


def test_names_that_differ_only_in_case(pets: Path) -> None:
    picture(92).save(pets / "train/cat/A.png")
    picture(93).save(pets / "train/cat/a.PNG")
    picture(94).save(pets / "train/cat/e\u0301.png")
    picture(95).save(pets / "train/cat/é.png")
    for split in ("train", "val"):
        (pets / split / "Cat").mkdir()
        picture(96 + len(split)).save(pets / split / "Cat" / "0.png")
    report = check(pets)
    assert kinds(report) == {"name twins": 4}
    twins = {problem.path for problem in report.problems}
    assert {"train/cat/a.PNG", "train/cat/é.png", "train/cat", "val/cat"} == twins


def test_uneven_classes_and_single_pictures(pets: Path) -> None:
    for j in range(41):
        picture(100 + j).save(pets / f"train/cat/more{j}.png")
    problem = only(check(pets), "imbalance")
    assert problem.severity == "warning"
    assert "'cat' has 45 images, 'dog' only 4" in problem.detail
    for j in range(1, 4):
        (pets / f"train/dog/{j}.png").unlink()
    assert kinds(check(pets / "train")) == {"imbalance": 1, "single image": 1}


def test_a_table_of_labels(pets: Path) -> None:
    rows = [
        "train/cat/0.png,cat;old,train",
        "train/dog/0.png,dog,train",
        "val/cat/0.png,cat,train",
        "gone.png,dog,train",
    ]
    (pets / "labels.csv").write_text("path,labels,split\n" + "\n".join(rows))
    report = check(pets)
    assert kinds(report) == {"missing split": 1, "missing": 1, "single image": 1}
    assert report.counts == {"train": {"cat": 2, "dog": 2, "old": 1}}
    assert "gone.png" in next(p.path for p in report.problems if p.kind == "missing")
    (pets / "labels.csv").write_text("path,cat,dog\ntrain/cat/0.png,maybe,1\n")
    assert "maybe" in only(check(pets), "bad table").detail


def test_a_test_split_needs_no_val_but_classes_that_are_learned(pictures: MakePictures) -> None:
    """`check` ended in a KeyError where `train` holds a share of train out."""
    root = pictures()
    (root / "val").rename(root / "test")
    report = check(root)
    assert report.ok
    assert set(report.counts) == {"train", "test"}
    (root / "test" / "class 0").rename(root / "test" / "class 9")
    assert [(p.kind, p.detail) for p in check(root).problems if p.path == "class 9"] == [
        ("test not judged", "class in one split: in test, not in train")
    ]


def test_folders_within_classes_are_named_by_check_and_by_the_note_of_a_run(pets: Path) -> None:
    (pets / "train" / "cat" / "images").mkdir()
    for path in (pets / "train" / "cat").glob("*.png"):
        path.rename(path.parent / "images" / path.name)
    assert check(pets).problems == []  # one folder in that of a class merges nothing
    assert "within classes" not in open_data(pets).note
    (pets / "train" / "cat" / "tabby").mkdir()
    (pets / "train" / "cat" / "images" / "0.png").rename(pets / "train" / "cat" / "tabby" / "0.png")
    problem = only(check(pets), "folders within classes")
    assert (problem.path, problem.severity) == ("train/cat", "warning")
    for text in (problem.detail, open_data(pets).note, open_data(pets / "train").note):
        assert "the folders within classes ('cat/images', 'cat/tabby') are no classes of their own" in text


def test_test_pictures_without_classes_stop_neither_check_nor_train(pets: Path) -> None:
    (pets / "test").mkdir()
    for i in range(3):
        picture(70 + i).save(pets / "test" / f"{i}.png")
    report = check(pets)
    assert report.ok
    assert [(p.severity, p.kind, p.path) for p in report.problems] == [("note", "no labels", "test")]
    assert "test" not in report.counts
    assert open_data(pets).note.endswith("no class folders, so they have no labels")


def test_folds_that_hold_the_classes_are_told_from_classes(tmp_path: Path) -> None:
    for i in range(12):
        place = tmp_path / f"fold{i % 3}" / ("cat", "dog")[i // 6]
        place.mkdir(parents=True, exist_ok=True)
        picture(i).save(place / f"{i}.png")
    said = "all hold folders of the same names ('cat', 'dog')"
    assert said in open_data(tmp_path).note
    assert any(said in p.detail for p in check(tmp_path).problems)
    (tmp_path / "fold0" / "cat").rename(tmp_path / "fold0" / "cow")
    assert said not in open_data(tmp_path).note


def test_what_a_mac_puts_into_archives_is_no_class(pets: Path) -> None:
    shutil.copytree(pets / "train", pets / "unpacked")
    (pets / "unpacked" / "__MACOSX" / "cat").mkdir(parents=True)
    (pets / "unpacked" / "__MACOSX" / "cat" / "._0.png").write_bytes(b"attributes")
    report = check(pets / "unpacked")
    assert report.ok
    assert [(p.kind, p.path) for p in report.problems] == [("unused folder", "__MACOSX")]
    opened = open_data(pets / "unpacked")
    assert opened.train.classes == ("cat", "dog")
    assert opened.note.endswith("; left out: __MACOSX (a Mac puts it into archives, and it holds no pictures)")
    assert "left out: __MACOSX" in open_fold(pets / "unpacked", 1, 2).note


def test_hidden_folders_of_pictures_are_noted(pets: Path) -> None:
    for name in (".hidden", ".git"):
        (pets / "train" / name).mkdir()
    picture(99).save(pets / "train" / ".hidden" / "0.png")
    report = check(pets)
    assert report.ok
    assert [(one.kind, one.path) for one in report.problems] == [("unused folder", "train/.hidden")]
    opened = open_data(pets)
    assert opened.train.classes == ("cat", "dog")
    assert opened.note.endswith("; left out: train/.hidden (its name begins with a dot)")


def test_train_leaves_out_the_folders_that_check_notes_and_says_so(pets: Path) -> None:
    assert "left out" not in open_data(pets).note
    shutil.copytree(pets / "train" / "cat", pets / "extra")
    (pets / "__MACOSX").mkdir()
    noted = [problem.path for problem in check(pets).problems if problem.kind == "unused folder"]
    said = open_data(pets).note.partition("; left out: ")[2]
    assert noted == ["__MACOSX", "extra"]
    assert [part.partition(" (")[0] for part in said.split("), ")] == noted


def test_pictures_without_folders_of_classes(pets: Path) -> None:
    flat = pets / "train" / "cat"
    report = check(flat)
    assert "left out: it lies in no class folder, and so do 3 others beside it" in str(report)
    lines = str(report).splitlines()
    assert lines[:2] == [f"{flat}: 0 images (0 all) in 0 classes", ""]
    assert not any(line.startswith("class ") for line in lines)
    with pytest.raises(UserError, match="no class folders; name a table of the 4 images in it by --labels, or put"):
        open_data(flat)
    for name in "ab":
        os.symlink(flat / "nowhere", flat / f"{name}.png")
    with pytest.raises(UserError, match=r"a\.png cannot be opened .*; check the path \(and 1 more; convnext check"):
        open_data(pets)
