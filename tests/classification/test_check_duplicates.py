"""Copies among the pictures of a folder: what counts as one, and what the folder report says of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from check_cases import kinds, only
from PIL import Image

from convnext.api import check
from convnext.data.duplicates import AHEAD, Facts, Picture, in_threads, repeated
from convnext.data.report import Problem


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


def test_memory_does_not_grow_with_what_is_not_looked_at_yet() -> None:
    begun: list[int] = []

    def things() -> Iterator[int]:
        for i in range(2000):
            begun.append(i)
            yield i

    for done, thing in enumerate(in_threads(lambda thing: thing, things())):
        assert thing == done
        assert len(begun) - done <= AHEAD + 1
