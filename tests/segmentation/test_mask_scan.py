"""What a run on pictures with masks would stop at is found before it begins."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixture_types import MakeDense
from PIL import Image

from convnext import UserError
from convnext.segmentation import mask_scan
from convnext.segmentation.data import open_masks
from convnext.segmentation.mask_scan import require_one_size, require_sound, with_sound_test


def labelled(root: Path) -> Path:
    (root / "classes.txt").write_text("a\nb\nc\n")
    return root


def write(path: Path, value: int) -> None:
    """Replaces a mask by one of its size that holds one value."""
    Image.fromarray(np.full(np.array(Image.open(path)).shape, value, np.uint8)).save(path)


def test_a_sound_folder_is_looked_at_whole(masked: MakeDense) -> None:
    assert require_sound(open_masks(masked())) == []


@pytest.mark.fault
@pytest.mark.parametrize("split", ["train", "val"])
def test_bad_masks_are_named_together(masked: MakeDense, split: str) -> None:
    root = labelled(masked(train=6, val=6))
    for number in range(1, 6):
        write(root / "annotations" / split / f"{number:03d}.png", 9)
    with pytest.raises(UserError, match=r"001\.png holds the value 9.*\(and 4 more of 6; convnext check"):
        require_sound(open_masks(root))


@pytest.mark.fault
def test_sizes_are_compared_also_where_values_are_too_many(masked: MakeDense, monkeypatch: pytest.MonkeyPatch) -> None:
    root = labelled(masked())
    monkeypatch.setattr(mask_scan, "MOST_READ", {"training": 2, "validation": 100})
    write(root / "annotations" / "train" / "004.png", 9)
    assert require_sound(open_masks(root)) == [
        "6 training masks are too many to be read beforehand; convnext check reads them"
    ]
    Image.new("L", (5, 7)).save(root / "annotations" / "train" / "005.png")
    with pytest.raises(UserError, match=r"005\.png has 48 x 64 pixels, its mask .* has 5 x 7; make them agree"):
        require_sound(open_masks(root))


@pytest.mark.fault
@pytest.mark.parametrize("most", [2, 100])
@pytest.mark.parametrize(("split", "called"), [("train", "6 training"), ("val", "3 validation")])
def test_masks_that_label_nothing_are_refused(
    masked: MakeDense, split: str, called: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = labelled(masked())
    monkeypatch.setattr(mask_scan, "MOST_READ", {"training": most, "validation": most})
    for path in (root / "annotations" / split).iterdir():
        write(path, 255)
    with pytest.raises(UserError, match=f"none of the {called} masks of .* labels a pixel that counts"):
        require_sound(open_masks(root))


@pytest.mark.fault
def test_a_bad_test_mask_is_found_before_the_run_and_not_at_its_end(masked: MakeDense) -> None:
    root = labelled(masked())
    for part in ("images", "annotations"):
        shutil.copytree(root / part / "val", root / part / "test")
    assert with_sound_test(open_masks(root)).test is not None
    write(root / "annotations" / "test" / "001.png", 9)
    splits = with_sound_test(open_masks(root))
    assert splits.test is None
    assert re.search(r"the test split is not judged: .*test/001\.png holds the value 9", splits.note)
    require_sound(splits)


def test_a_turned_photo_may_have_either_size(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "photo.jpg", exif=turned)
    Image.new("RGB", (8, 6)).save(tmp_path / "plain.jpg")
    for size in ((8, 6), (6, 8)):
        Image.new("L", size).save(tmp_path / "mask.png")
        require_one_size(tmp_path / "photo.jpg", tmp_path / "mask.png")
    with pytest.raises(UserError, match="make them agree"):
        require_one_size(tmp_path / "plain.jpg", tmp_path / "mask.png")
