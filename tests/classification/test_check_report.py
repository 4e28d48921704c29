"""The folder report as a whole: a sound folder, how findings are listed, printed and written as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from check_cases import kinds
from narrow import instance_of

from convnext.api import check
from convnext.data.report import ERRORS, NOTES, WARNINGS, FolderReport, Problem
from convnext.errors import UserError


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
    assert len(instance_of(list, report.to_dict()["problems"])) == 25


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
