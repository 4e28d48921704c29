"""Each finding of the folder report, on a folder that has just that."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fixture_types import MakePictures
from picture_cases import png_that_claims
from PIL import Image

from convnext.api import check
from convnext.classification.data import open_data, open_fold
from convnext.data.duplicates import AHEAD, Facts, Picture, in_threads, repeated
from convnext.data.images import open_image
from convnext.data.report import ERRORS, NOTES, WARNINGS, FolderReport, Problem
from convnext.errors import UserError


def picture(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """Smooth and unlike any other, as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """train and val with two classes, nothing wrong with it."""
    for i, (split, name, count) in enumerate((s, n, c) for s, c in (("train", 4), ("val", 2)) for n in ("cat", "dog")):
        (tmp_path / split / name).mkdir(parents=True)
        for j in range(count):
            picture(10 * i + j).save(tmp_path / split / name / f"{j}.png")
    return tmp_path


def kinds(report: FolderReport) -> Counter[str]:
    return Counter(problem.kind for problem in report.problems)


def only(report: FolderReport, kind: str) -> Problem:
    assert kinds(report) == {kind: 1}, report.problems
    return report.problems[0]


def test_a_sound_folder(pets: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = check(pets, progress=lambda done, total: seen.append((done, total)))
    assert report.ok
    assert report.problems == []
    assert report.counts == {"train": {"cat": 4, "dog": 4}, "val": {"cat": 2, "dog": 2}}
    assert seen == [(i, 12) for i in range(1, 13)]
    text = str(report)
    assert "12 images (8 train, 4 val) in 2 classes" in text
    assert text.splitlines()[-1] == "fit to train on"


def test_a_folder_without_splits(pets: Path) -> None:
    report = check(str(pets / "train"))
    assert report.ok
    assert report.counts == {"all": {"cat": 4, "dog": 4}}


def test_kinds_are_listed_once_each() -> None:
    listed = (*ERRORS, *WARNINGS, *NOTES)
    assert len(set(listed)) == len(listed)
    assert {Problem(kind, "", "").severity for kind in ERRORS} == {"error"}
    assert {Problem(kind, "", "").severity for kind in WARNINGS} == {"warning"}
    assert {Problem(kind, "", "").severity for kind in NOTES} == {"note"}


def test_the_same_bytes_in_both_splits_are_a_leak(pets: Path) -> None:
    shutil.copy(pets / "train/cat/1.png", pets / "val/cat/copy.png")
    report = check(pets)
    assert only(report, "leak") == Problem("leak", "val/cat/copy.png", "same bytes as train/cat/1.png")
    assert report.ok  # it can be trained on; the figures could not be trusted
    assert "1 warning" in str(report)


def test_the_same_pixels_in_another_file_are_a_leak(pets: Path) -> None:
    with Image.open(pets / "train/cat/1.png") as image:
        image.save(pets / "val/cat/copy.bmp")
    assert only(check(pets), "leak").detail == "same pixels as train/cat/1.png"


@pytest.mark.parametrize("change", ["quality 50", "half", "double", "brighter"])
def test_a_changed_copy_in_the_other_split_looks_the_same(change: str, pets: Path) -> None:
    with Image.open(pets / "train/dog/2.png") as image:
        size = {"half": (16, 16), "double": (64, 64)}.get(change, image.size)
        copy = image.resize(size, Image.Resampling.BICUBIC)
    if change == "brighter":
        copy = Image.fromarray((np.asarray(copy) * 0.98 + 2).astype(np.uint8))
    copy.save(pets / "val/dog/copy.jpg", quality=50 if change == "quality 50" else 95)
    problem = only(check(pets), "looks the same")
    assert (problem.path, problem.detail) == ("val/dog/copy.jpg", "hardly differs from train/dog/2.png")


def test_flat_pictures_are_not_all_alike(pets: Path) -> None:
    Image.new("RGB", (32, 32), (200, 10, 10)).save(pets / "train/cat/flat.png")
    Image.new("RGB", (32, 32), (201, 10, 10)).save(pets / "val/cat/flat.png")
    assert check(pets).problems == []


def test_a_duplicate_within_a_split(pets: Path) -> None:
    for name in ("copy1", "copy2"):
        shutil.copy(pets / "train/cat/1.png", pets / f"train/cat/{name}.png")
    report = check(pets)
    assert kinds(report) == {"duplicate": 2}
    assert {problem.detail for problem in report.problems} == {"same bytes as train/cat/1.png"}
    alone = check(pets / "train")
    assert kinds(alone) == {"duplicate": 2}
    assert "one may be learnt from and the other measured on" in alone.problems[0].detail


def test_the_same_picture_under_two_labels(pets: Path) -> None:
    shutil.copy(pets / "train/cat/1.png", pets / "train/dog/copy.png")
    problem = only(check(pets), "conflicting labels")
    assert problem.path == "train/dog/copy.png"
    assert problem.detail == "same bytes as train/cat/1.png, but 'dog' instead of 'cat'"


def test_a_leak_under_another_label_is_both(pets: Path) -> None:
    shutil.copy(pets / "train/cat/1.png", pets / "val/dog/copy.png")
    assert kinds(check(pets)) == {"leak": 1, "conflicting labels": 1}


def test_many_copies_are_compared_quickly(pets: Path) -> None:
    pictures = [Picture("train", "cat", pets, f"{i}") for i in range(20_000)]
    facts = [Facts((), b"b", b"p", b"")] * len(pictures)
    assert len(list(repeated(pictures, facts))) == 19_999


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


def test_odd_pictures_are_noted_not_refused(pets: Path) -> None:
    folder = pets / "train/cat"
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1001).convert("CMYK").save(folder / "cmyk.jpg")
    picture(1002).convert("L").save(folder / "grey.png")
    Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64).save(folder / "deep.png")
    picture(1003).quantize(32).save(folder / "palette.png")
    picture(1004).convert("RGBA").save(folder / "alpha.png")
    picture(1005).save(folder / "turned.jpg", exif=exif)
    picture(1006).save(folder / "moving.gif", save_all=True, append_images=[picture(1007), picture(1008)])
    picture(1009).resize((1, 1)).save(folder / "dot.png")
    picture(1010).convert("1").save(folder / "bits.png")
    report = check(pets)
    assert report.ok
    found = {Path(problem.path).name: (problem.kind, problem.detail) for problem in report.problems}
    assert found == {
        "cmyk.jpg": ("odd mode", "CMYK"),
        "deep.png": ("odd mode", "more than 8 bits a pixel (scaled to 8)"),
        "palette.png": ("odd mode", "palette"),
        "alpha.png": ("odd mode", "transparency (dropped)"),
        "turned.jpg": ("odd mode", "EXIF orientation 6 (turned upright)"),
        "moving.gif": ("odd mode", found["moving.gif"][1]),
        "dot.png": ("tiny", "1 x 1 pixels"),
        "bits.png": ("odd mode", "1"),
        "": ("levels", found[""][1]),
    }
    assert "animated (the first frame is used)" in found["moving.gif"][1]


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


def test_the_built_in_digits_are_counted() -> None:
    report = check("digits")
    assert report.ok
    assert report.total == 1797
    assert sum(report.counts["val"].values()) == 360


def test_the_report_is_plain_json_whatever_the_names(pets: Path) -> None:
    for i, name in enumerate(
        (b"line\nbreak.png", b"\xff.png", "späce é.png".encode(), b"-rf.png", b"x" * 250 + b".png")
    ):
        path = os.fsencode(pets / "train" / "cat") + b"/" + name
        with open(path, "wb") as handle:
            handle.write(b"bad" + bytes([i]))
    report = check(pets)
    assert kinds(report) == {"corrupt": 5}
    loaded = json.loads(json.dumps(report.to_dict(), ensure_ascii=False).encode())
    assert (loaded["ok"], loaded["images"]) == (False, 17)
    assert {row["severity"] for row in loaded["problems"]} == {"error"}
    assert "train/cat/line\\nbreak.png" in {row["path"] for row in loaded["problems"]}
    text = str(report)
    text.encode()
    assert text.splitlines()[-1] == "not fit to train on: 5 errors"


def test_long_lists_are_cut_in_print_only() -> None:
    problems = [Problem("tiny", f"{i}.png", "1 x 1 pixels") for i in range(25)]
    counts = {"all": {f"class{i:03}": i for i in range(100)}}
    report = FolderReport("big", counts, problems)
    text = str(report)
    assert "note: tiny (25)" in text
    assert "… and 15 more" in text
    assert text.count("class0") == 30
    assert "class099" in text
    assert "class000" in text
    assert len(report.to_dict()["problems"]) == 25


def test_the_name_is_printed_unless_the_message_begins_with_it() -> None:
    problems = [
        Problem("class in one split", "a", "in train, not in val"),
        Problem("no images", "val", "no class holds an image"),
        Problem("corrupt", "cat/1.png", "/data/cat/1.png is not an image"),
        Problem("missing split", ".", "no val"),
    ]
    lines = str(FolderReport("d", {}, problems)).splitlines()
    for expected in (
        "  a: in train, not in val",
        "  val: no class holds an image",
        "  /data/cat/1.png is not an image",
        "  no val",
    ):
        assert expected in lines


def test_only_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        check(tmp_path / "none")
    (tmp_path / "file.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match="not a folder"):
        check(tmp_path / "file.zip")


def test_pictures_that_are_left_out_for_their_suffix_are_a_warning(pets: Path) -> None:
    for path in sorted(pets.rglob("*.png"))[:3]:
        path.rename(path.with_suffix(".heic"))
    report = check(pets)
    (warning,) = (problem for problem in report.problems if problem.kind == "left out")
    assert warning.severity == "warning"
    assert warning.detail.startswith("3 of 12 files are left out: 3 .heic; convert .heic to JPEG or PNG")
    assert kinds(report) == {"left out": 1, "not an image": 3}


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".jp2", ".JFIF"])
def test_other_names_of_jpeg_are_pictures(suffix: str, pets: Path) -> None:
    for i, path in enumerate(sorted(pets.rglob("*.png"))):
        picture(i).save(path.with_suffix(suffix), "JPEG2000" if suffix == ".jp2" else "JPEG")
        path.unlink()
    report = check(pets)
    assert report.ok
    assert report.total == 12


def test_unusable_pictures_are_told_as_they_are_found(pets: Path) -> None:
    (pets / "train/cat/0.png").write_bytes(b"")
    events: list[str] = []
    check(pets, progress=lambda done, total: events.append(str(done)), tell=lambda found: events.append(found.kind))
    assert events == ["empty", *map(str, range(1, 13))]


def test_memory_does_not_grow_with_what_is_not_looked_at_yet() -> None:
    begun: list[int] = []
    things = (begun.append(i) or i for i in range(2000))  # type: ignore[func-returns-value]
    for done, thing in enumerate(in_threads(lambda thing: thing, things)):
        assert thing == done
        assert len(begun) - done <= AHEAD + 1


def test_a_picture_too_long_to_be_resized_is_one_finding_among_the_others(pets: Path) -> None:
    (pets / "train/cat/strip.png").write_bytes(png_that_claims(89_478_485, 1))
    report = check(pets)
    assert "strip.png claims 89,478,485 x 1 pixels" in only(report, "bomb").detail
    assert report.total == 13


def test_a_png_whose_pixels_are_damaged_is_not_taken_for_a_sound_one(pets: Path) -> None:
    path = pets / "train/cat/0.png"
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"IDAT") + 40] ^= 255
    path.write_bytes(whole)
    assert only(check(pets), "truncated").path == "train/cat/0.png"


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


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"a\.zip is not an image that can be read; unpack it first"):
        open_image(tmp_path / "a.zip")
