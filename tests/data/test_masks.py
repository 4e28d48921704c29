"""Pictures and masks find each other in every known layout; what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext import UserError
from convnext.data.images import BadImage
from convnext.data.labelled import fingerprint
from convnext.data.mask_coding import IGNORED
from convnext.data.masks import SegmentationSplits, open_masks, open_masks_for_judging


def rearranged(root: Path, pattern: str) -> Path:
    """images/train/x -> what `pattern` says of part and split."""
    part_names = pattern.split("|")
    for part, name in zip(("images", "annotations"), part_names, strict=True):
        for split in ("train", "val"):
            target = root / name.format(split=split)
            target.parent.mkdir(parents=True, exist_ok=True)
            (root / part / split).rename(target)
        if not any((root / part).iterdir()):
            (root / part).rmdir()
    return root


@pytest.mark.parametrize(
    "pattern",
    ["images/{split}|masks/{split}", "{split}/images|{split}/labels", "{split}|{split}annot", "{split}|{split}_masks",
     "img/{split}|labels/{split}"],
)  # fmt: skip
def test_layouts(masked: Callable[..., Path], pattern: str) -> None:
    splits = open_masks(rearranged(masked(), pattern))
    assert (len(splits.train), len(splits.val)) == (6, 3)
    sample = splits.train[0]
    assert sample.image.size[::-1] == sample.labels.shape
    assert splits.train.classes == ("0", "1", "2")
    assert "6 training and 3 validation images, 3 classes" in splits.note


def held_out_of_training(flat: Path, splits: SegmentationSplits) -> list[str]:
    """The splits for which just those pictures are judged that they name, by one who learned from `splits.train`."""
    learned = {"val_fraction": 0.34, "trained_on": fingerprint(splits.train)}
    expected = {
        "val": splits.val.ids,
        "train": splits.train.ids,
        "all": tuple(sorted(splits.train.ids + splits.val.ids)),
    }
    found = {name: open_masks_for_judging(flat, name, **learned) for name in expected}
    assert "the 2 images of" in found["val"][1]
    assert "held out of its training" in found["val"][1]
    others, note = open_masks_for_judging(flat, "val", val_fraction=0.34, trained_on="another set")
    assert (len(others), note) == (6, f"all 6 images of {flat}")
    return [name for name, (source, _) in found.items() if source.ids == expected[name]]


def test_without_a_split_a_share_is_held_out(masked: Callable[..., Path], tmp_path: Path) -> None:
    root, flat = masked(), tmp_path / "flat"
    flat.mkdir()
    for part in ("images", "annotations"):
        (root / part / "train").rename(flat / part)
    splits = open_masks(flat, val_fraction=0.34)
    assert (len(splits.train), len(splits.val)) == (4, 2)
    assert not set(splits.train.ids) & set(splits.val.ids)
    assert "2 of 6 images are held out" in splits.note
    assert held_out_of_training(flat, splits) == ["val", "train", "all"]
    with pytest.raises(UserError, match="must lie between"):
        open_masks(flat, val_fraction=1.5)


def test_masks_with_an_ending_and_in_folders(masked: Callable[..., Path]) -> None:
    root = masked()
    for part, ending in (("images", ""), ("annotations", "_mask")):
        for path in list((root / part / "train").iterdir()):
            target = root / part / "train" / "town" / f"{path.stem}{ending}{path.suffix}"
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
    assert open_masks(root).train.ids[0] == "town/000.png"


def test_classes_come_from_a_file_or_from_the_values(masked: Callable[..., Path], tmp_path: Path) -> None:
    root = masked()
    assert open_masks(root, ignore=(2,)).train.classes == ("0", "1")
    assert (open_masks(root, ignore=(2,)).train[0].labels == IGNORED).any()
    (root / "classes.txt").write_text("ground\ndisc\nsquare\n")
    assert open_masks(root).train.classes == ("ground", "disc", "square")
    own = tmp_path / "own.txt"
    own.write_text("a\nb\nc\n")
    assert open_masks(root, classes=own).train.classes == ("a", "b", "c")


def test_ade20ks_layout_has_its_classes(masked: Callable[..., Path]) -> None:
    root = masked()
    for part in ("images", "annotations"):
        (root / part / "train").rename(root / part / "training")
        (root / part / "val").rename(root / part / "validation")
    (root / "objectInfo150.txt").write_text("Idx\n")
    splits = open_masks(root)
    assert splits.train.classes[:2] == ("wall", "building")
    assert len(splits.train.classes) == 150
    values = np.array(Image.open(splits.train.masks[0]).convert("L"))
    assert (splits.train[0].labels == np.where(np.isin(values, (0, 255)), IGNORED, values.astype(int) - 1)).all()


def remove_mask(root: Path) -> None:
    (root / "annotations" / "train" / "000.png").unlink()


def double_image(root: Path) -> None:
    Image.new("RGB", (8, 8)).save(root / "images" / "train" / "000.jpg")


def remove_val(root: Path) -> None:
    for part in ("images", "annotations"):
        for path in (root / part / "val").iterdir():
            path.unlink()
        (root / part / "val").rmdir()


def remove_masks(root: Path) -> None:
    (root / "annotations").rename(root / "elsewhere")


def remove_some_masks(root: Path) -> None:
    (root / "annotations" / "val").rename(root / "elsewhere")


def stray(value: int, kind: type = np.uint8) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        values = np.array(Image.open(root / "annotations" / "train" / "003.png")).astype(kind)
        values[0, 0] = value
        Image.fromarray(values).save(root / "annotations" / "train" / "003.png")

    return change


def empty_images(root: Path) -> None:
    for path in (root / "images" / "train").iterdir():
        path.unlink()


def colour_masks(root: Path) -> None:
    for path in (root / "annotations" / "train").iterdir():
        pixels = np.repeat(np.array(Image.open(path))[..., None], 3, 2) * np.array([1, 2, 3], np.uint8)
        Image.fromarray(pixels).save(path)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (remove_mask, "1 of the 6 images of .* have no mask of their name in .*: .*000.png"),
        (double_image, "have one name but for the suffix"),
        (remove_val, "training images but none to be judged on"),
        (remove_masks, "images/train has no masks: looked for annotations, masks, .* beside it; add a folder"),
        (remove_some_masks, "images/val has no masks; put them beside it"),
        (stray(77), r"hold the values 0, 1, 2, 77, too few of 0 to 77 to be classes; 77 for one is in .*003\.png: put"),
        (stray(4000, np.uint16), r"too few of 0 to 4000 to be classes; 4000 .*003\.png: put classes\.txt"),
        (empty_images, "holds no images; add some"),
        (colour_masks, "no palette says what its colours mean"),
    ],
)
def test_unfit_folders_are_explained(masked: Callable[..., Path], change: Callable[[Path], None], words: str) -> None:
    root = masked()
    change(root)
    with pytest.raises(UserError, match=words):
        open_masks(root)


@pytest.mark.fault
def test_a_mask_of_another_size_is_named(masked: Callable[..., Path]) -> None:
    root = masked()
    Image.new("L", (5, 7)).save(root / "annotations" / "train" / "001.png")
    with pytest.raises(BadImage, match=r"001\.png has 48 x 64 pixels, its mask .* has 5 x 7"):
        open_masks(root).train[1]


def test_16_bit_masks_have_a_void_of_their_own(masked: Callable[..., Path]) -> None:
    """65,536 classes were made of it."""
    root = masked()
    stray(65535, np.uint16)(root)
    splits = open_masks(root)
    assert splits.train.classes == ("0", "1", "2")
    assert splits.train[3].labels[0, 0] == IGNORED


@pytest.mark.fault
def test_splits_that_are_not_there(masked: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="has no test split; choose --split train or --split val"):
        open_masks_for_judging(masked(), "test")
    with pytest.raises(UserError, match="there is no folder"):
        open_masks("nowhere")


def test_a_turned_photo_outlined_as_stored_is_read_as_stored(masked: Callable[..., Path]) -> None:
    root = masked()
    path = root / "images" / "train" / "000.png"
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(path).save(path.with_suffix(".jpg"), exif=turned)
    path.unlink()
    sample = open_masks(root).train[0]
    assert sample.image.size[::-1] == sample.labels.shape


def test_black_and_white_masks_are_background_and_foreground(masked: Callable[..., Path]) -> None:
    root = masked()
    for path in (root / "annotations").rglob("*.png"):
        Image.fromarray(np.where(np.asarray(Image.open(path)) == 1, 255, 0).astype(np.uint8)).save(path)
    splits = open_masks(root)
    assert splits.train.classes == ("background", "foreground")
    assert set(np.unique(splits.val[0].labels)) == {0, 1}
    with pytest.raises(UserError, match="hold no class"):
        open_masks(root, ignore=(0,))
