"""Pictures and masks find each other in every known layout; what does not fit is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fixture_types import MakeDense
from PIL import Image

from convnext import UserError
from convnext.api import check
from convnext.data.images import BadImage
from convnext.data.learned import LearnedBy
from convnext.data.splits import fingerprint
from convnext.segmentation.data import SegmentationSplits, open_masks, open_masks_for_judging
from convnext.segmentation.mask_coding import IGNORED, MaskCoding
from convnext.segmentation.mask_layouts import is_masked


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
def test_layouts(masked: MakeDense, pattern: str) -> None:
    splits = open_masks(rearranged(masked(), pattern))
    assert (len(splits.train), len(splits.val)) == (6, 3)
    sample = splits.train[0]
    assert sample.image.size[::-1] == sample.labels.shape
    assert splits.train.classes == ("0", "1", "2")
    assert "6 training and 3 validation images, 3 classes" in splits.note


def held_out_of_training(flat: Path, splits: SegmentationSplits) -> list[str]:
    """The splits for which just those pictures are judged that they name, by one who learned from `splits.train`."""
    judged = partial(open_masks_for_judging, flat, learned=LearnedBy(None, fingerprint(splits.train), 0.34))
    expected = {
        "val": splits.val.ids,
        "train": splits.train.ids,
        "all": tuple(sorted(splits.train.ids + splits.val.ids)),
    }
    found = {name: judged(name) for name in expected}
    assert "the 2 images of" in found["val"][1]
    assert "held out of its training" in found["val"][1]
    others, note = open_masks_for_judging(flat, "val", learned=LearnedBy(None, "another set", 0.34))
    assert len(others) == 6
    assert note.startswith(f"all 6 images of {flat}; the model's file does not name")
    return [name for name, (source, _) in found.items() if source.ids == expected[name]]


def test_without_a_split_a_share_is_held_out(masked: MakeDense, tmp_path: Path) -> None:
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


def test_masks_with_an_ending_and_in_folders(masked: MakeDense) -> None:
    root = masked()
    for part, ending in (("images", ""), ("annotations", "_mask")):
        for path in list((root / part / "train").iterdir()):
            target = root / part / "train" / "town" / f"{path.stem}{ending}{path.suffix}"
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
    assert open_masks(root).train.ids[0] == "town/000.png"


def test_classes_come_from_a_file_or_from_the_values(masked: MakeDense, tmp_path: Path) -> None:
    root = masked()
    assert open_masks(root, ignore=(2,)).train.classes == ("0", "1")
    assert (open_masks(root, ignore=(2,)).train[0].labels == IGNORED).any()
    (root / "classes.txt").write_text("ground\ndisc\nsquare\n")
    assert open_masks(root).train.classes == ("ground", "disc", "square")
    own = tmp_path / "own.txt"
    own.write_text("a\nb\nc\n")
    assert open_masks(root, classes=own).train.classes == ("a", "b", "c")


def test_ade20ks_layout_has_its_classes(masked: MakeDense) -> None:
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


def rename_masks(root: Path) -> None:
    for path in (root / "annotations" / "train").iterdir():
        path.rename(path.with_stem(f"outline of {path.stem}"))


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


def stray(value: int, kind: type[np.generic] = np.uint8) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        values: np.ndarray = np.array(Image.open(root / "annotations" / "train" / "003.png")).astype(kind)
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
        (rename_masks, "none of the 6 images of .* has a mask of its name in .*train: '000.png', .*; give masks"),
        (double_image, "have one name but for the suffix"),
        (remove_masks, "images/train has no masks: looked for annotations, masks, .* beside it; add a folder"),
        (remove_some_masks, "images/val has no masks; put them beside it"),
        (stray(77), r"hold the values 0, 1, 2, 77, too few of 0 to 77 to be classes; 77 .*003\.png: put"),
        (stray(4000, np.uint16), r"too few of 0 to 4000 to be classes; 4000 .*003\.png: put classes\.txt"),
        (empty_images, "holds no images; add some"),
    ],
)
def test_unfit_folders_are_explained(masked: MakeDense, change: Callable[[Path], None], words: str) -> None:
    root = masked()
    change(root)
    with pytest.raises(UserError, match=words):
        open_masks(root)


@pytest.mark.fault
def test_a_mask_of_another_size_is_named(masked: MakeDense) -> None:
    root = masked()
    Image.new("L", (5, 7)).save(root / "annotations" / "train" / "001.png")
    with pytest.raises(BadImage, match=r"001\.png has 48 x 64 pixels, its mask .* has 5 x 7"):
        open_masks(root).train[1]


def test_16_bit_masks_have_a_void_of_their_own(masked: MakeDense) -> None:
    """65,536 classes were made of it."""
    root = masked()
    stray(65535, np.uint16)(root)
    splits = open_masks(root)
    assert splits.train.classes == ("0", "1", "2")
    assert splits.train[3].labels[0, 0] == IGNORED


@pytest.mark.fault
def test_splits_that_are_not_there(masked: MakeDense) -> None:
    with pytest.raises(UserError, match="has no test split; choose --split train or --split val"):
        open_masks_for_judging(masked(), "test")
    with pytest.raises(UserError, match="there is no folder"):
        open_masks("nowhere")


def test_a_turned_photo_outlined_as_stored_is_read_as_stored(masked: MakeDense) -> None:
    root = masked()
    path = root / "images" / "train" / "000.png"
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(path).save(path.with_suffix(".jpg"), exif=turned)
    path.unlink()
    sample = open_masks(root).train[0]
    assert sample.image.size[::-1] == sample.labels.shape


def test_black_and_white_masks_are_background_and_foreground(masked: MakeDense) -> None:
    root = masked()
    black_and_white(root)
    splits = open_masks(root)
    assert splits.train.classes == ("background", "foreground")
    assert set(np.unique(splits.val[0].labels)) == {0, 1}
    with pytest.raises(UserError, match="hold no class"):
        open_masks(root, ignore=(0,))


def test_a_value_in_one_of_601_masks_is_a_class(many: Path) -> None:
    """Of 601 masks, 200 were looked at: training stopped in its first epoch."""
    splits = open_masks(many)
    assert splits.train.classes == splits.val.classes == ("0", "1", "2")
    assert "3 classes (the values found in 601 masks" in splits.note


def test_classes_of_the_validation_masks_alone_are_classes(masked: MakeDense) -> None:
    root = masked()
    path = root / "annotations" / "val" / "000.png"
    values = np.array(Image.open(path))
    values[0] = 3
    Image.fromarray(values).save(path)
    assert open_masks(root).val.classes == ("0", "1", "2", "3")


def test_images_without_a_mask_are_left_out_and_counted(masked: MakeDense) -> None:
    root = masked()
    (root / "annotations" / "train" / "000.png").unlink()
    splits = open_masks(root)
    assert splits.train.ids == ("001.png", "002.png", "003.png", "004.png", "005.png")
    assert splits.note.endswith("; 1 image has no mask and is left out")


def test_a_test_split_chooses_nothing(masked: MakeDense) -> None:
    """It decided which weights are the best, where there was no val."""
    root = masked()
    for part in ("images", "annotations"):
        (root / part / "val").rename(root / part / "test")
    splits = open_masks(root, val_fraction=0.34)
    assert splits.test is not None
    assert (len(splits.train), len(splits.val), len(splits.test)) == (4, 2, 3)
    assert "2 of 6 images are held out, 3 test images for the end" in splits.note
    judged = partial(open_masks_for_judging, root, learned=LearnedBy(None, fingerprint(splits.train), 0.34))
    assert judged("val")[0].ids == splits.val.ids
    assert judged("train")[0].ids == splits.train.ids
    assert judged("test")[0].ids == splits.test.ids
    with pytest.raises(UserError, match="has no val split; choose --split train or --split test"):
        open_masks_for_judging(root, "val", learned=LearnedBy(None, "another set"))


def test_three_splits(masked: MakeDense) -> None:
    root = masked()
    for part in ("images", "annotations"):
        (root / part / "test").mkdir()
        (root / part / "train" / "000.png").rename(root / part / "test" / "000.png")
    splits = open_masks(root)
    assert splits.test is not None
    assert (len(splits.train), len(splits.val), len(splits.test)) == (5, 3, 1)


def test_test_images_without_masks_stop_no_run(masked: MakeDense) -> None:
    root = masked()
    for part in ("images", "annotations"):
        shutil.copytree(root / part / "val", root / part / "test")
    for path in (root / "annotations" / "test").iterdir():
        path.rename(path.with_name(f"other{path.name}"))
    splits = open_masks(root)
    assert (len(splits.train), len(splits.val), splits.test) == (6, 3, None)
    assert "the test split is not judged: none of the 3 images" in splits.note


def test_training_images_alone_are_split(masked: MakeDense) -> None:
    root = masked()
    remove_val(root)
    splits = open_masks(root)
    assert (len(splits.train), len(splits.val)) == (5, 1)


def voc(masked: MakeDense, root: Path) -> Path:
    """JPEGImages holds more pictures than have masks; palette files; lists of the names."""
    given = masked()
    images, masks, lists = root / "JPEGImages", root / "SegmentationClass", root / "ImageSets" / "Segmentation"
    for folder in (images, masks, lists, root / "Annotations"):
        folder.mkdir(parents=True)
    for split in ("train", "val"):
        names = []
        for path in sorted((given / "images" / split).iterdir()):
            names.append(f"2007_{split}{path.stem}")
            Image.open(path).save(images / f"{names[-1]}.jpg")
            mask = Image.open(given / "annotations" / split / path.name).convert("P")
            mask.putpalette([value for i in range(256) for value in (i, 255 - i, 0)])
            mask.save(masks / f"{names[-1]}.png")
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
    for name in ("boxes_only", "other"):
        Image.new("RGB", (9, 9)).save(images / f"{name}.jpg")
    return root


@pytest.mark.parametrize("place", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_pascal_voc(masked: MakeDense, tmp_path: Path, place: str) -> None:
    voc(masked, tmp_path / "voc" / place)
    root = tmp_path / "voc"
    assert is_masked(root)
    splits = open_masks(root)
    assert (len(splits.train), len(splits.val)) == (6, 3)
    assert splits.train.classes[:3] == ("background", "aeroplane", "bicycle")
    assert len(splits.train.classes) == 21
    assert set(np.unique(splits.train[0].labels)) == {IGNORED, 0, 1, 2}
    assert check(root).ok
    assert len(open_masks_for_judging(root, "val")[0]) == 3


def test_pascal_vocs_layout_with_other_classes(masked: MakeDense, tmp_path: Path) -> None:
    root = voc(masked, tmp_path / "voc")
    lists = root / "ImageSets" / "Segmentation"
    (lists / "val.txt").unlink()
    (lists / "train.txt").rename(lists / "default.txt")
    (root / "labelmap.txt").write_text("ground\ndisc\nsquare\n")
    splits = open_masks(root)
    assert (len(splits.train), len(splits.val)) == (5, 1)
    assert splits.train.classes == ("ground", "disc", "square")
    (lists / "default.txt").write_text("2007_train000\nnowhere\n")
    with pytest.raises(UserError, match=r"default.txt names 1 images that are not there: 'nowhere'"):
        open_masks(root)


def test_roboflows_semantic_masks(masked: MakeDense, tmp_path: Path) -> None:
    given, root = masked(), tmp_path / "roboflow"
    for split, name in (("train", "train"), ("val", "valid")):
        (root / name).mkdir(parents=True)
        for path in (given / "images" / split).iterdir():
            Image.open(path).save(root / name / f"{path.stem}_png.rf.0a1b2c.jpg")
        for path in (given / "annotations" / split).iterdir():
            path.rename(root / name / f"{path.stem}_png.rf.0a1b2c_mask.png")
        (root / name / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, disc\n2, square\n")
    assert is_masked(root)
    splits = open_masks(root)
    assert (len(splits.train), len(splits.val)) == (6, 3)
    assert splits.train.classes == ("background", "disc", "square")
    assert check(root).ok


@pytest.mark.parametrize(
    ("image", "mask"),
    [("{}", "{}-mask"), ("{}", "{}_SEG"), ("image_{}", "mask_{}"), ("{}_sat", "{}_mask"), ("{}", "{}_segmentation"),
     ("{}_leftImg8bit", "{}_gtFine_labelIds")],
)  # fmt: skip
@pytest.mark.parametrize("layout", ["Images|Masks", "train|train_masks", "train_images|train_masks"])
def test_names_of_masks(masked: MakeDense, tmp_path: Path, image: str, mask: str, layout: str) -> None:
    given, root = masked(), tmp_path / "own"
    for part, folder, name in zip(("images", "annotations"), layout.split("|"), (image, mask), strict=True):
        (root / folder).mkdir(parents=True)
        for path in (given / part / "train").iterdir():
            path.rename(root / folder / (name.format(path.stem) + ".PNG"))
    assert len(open_masks(root).train) == 5


def blurred(root: Path) -> None:
    """Black and white masks as JPEG files."""
    for path in list((root / "annotations").rglob("*.png")):
        Image.fromarray(np.where(np.asarray(Image.open(path)) == 1, 255, 0).astype(np.uint8)).save(
            path.with_suffix(".jpg"), quality=60
        )
        path.unlink()


def test_blurred_black_and_white_is_cut_in_the_middle(masked: MakeDense) -> None:
    root = masked()
    sharp = [np.asarray(Image.open(path)) == 1 for path in sorted((root / "annotations" / "train").iterdir())]
    blurred(root)
    splits = open_masks(root)
    assert splits.train.classes == ("background", "foreground")
    assert "a value from 128 on is foreground" in splits.note
    for i, expected in enumerate(sharp):
        assert (splits.train[i].labels != expected).mean() < 0.01
    assert MaskCoding.from_dict(json.loads(json.dumps(splits.train.coding.to_dict()))) == splits.train.coding


def lossy(root: Path) -> None:
    for path in list((root / "annotations").rglob("*.png")):
        values = np.asarray(Image.open(path)).astype(np.uint8)
        Image.fromarray(np.where(values == 255, 0, values * 60)).save(path.with_suffix(".jpg"))
        path.unlink()


def photographs(mode: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for path in (root / "annotations").rglob("*.png"):
            height, width = np.asarray(Image.open(path)).shape
            rng = np.random.default_rng(0)
            Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode).save(path)

    return change


def one_in_colour(root: Path) -> None:
    Image.new("RGB", (48, 64), (9, 8, 7)).save(root / "annotations" / "train" / "003.png")


def cut_outs(root: Path) -> None:
    for path in (root / "annotations").rglob("*.png"):
        values = np.asarray(Image.open(path))
        Image.fromarray(np.dstack([np.zeros((*values.shape, 3), np.uint8), (values == 1) * np.uint8(255)])).save(path)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (one_in_colour, r"000.png holds one value a pixel, .*003\.png holds colours; masks need to be of one kind"),
        (lossy, "are JPEG files, which blur the values of classes .*: export them again as PNG"),
        (photographs("RGB"), "colours, as a photograph does; a mask has one for each class: check which folder"),
        (photographs("L"), "different values, as a photograph .* check which folder holds the masks"),
        (cut_outs, "hold the value 0 alone, so there is nothing to tell apart"),
    ],
)
def test_what_is_no_mask(masked: MakeDense, change: Callable[[Path], None], words: str) -> None:
    root = masked()
    change(root)
    with pytest.raises(UserError, match=words):
        open_masks(root)
    assert not check(root).ok


def test_colours_without_a_list_of_classes_are_classes(masked: MakeDense) -> None:
    root = masked()
    colour_masks(root)
    for path in (root / "annotations" / "val").iterdir():  # saved as RGB, though all black
        Image.new("RGB", Image.open(path).convert("L").size).save(path)
    splits = open_masks(root)
    assert splits.train.classes == ("#000000", "#010203", "#020406", "#fffefd")
    assert set(np.unique(splits.train[0].labels)) == {0, 1, 2, 3}
    assert check(root).ok


def black_and_white(root: Path) -> None:
    for path in (root / "annotations").rglob("*.png"):
        Image.fromarray(np.where(np.asarray(Image.open(path)) == 1, 255, 0).astype(np.uint8)).save(path)


@pytest.mark.parametrize("change", [black_and_white, blurred])
def test_black_and_white_masks_of_a_list_of_two_classes(masked: MakeDense, change: Callable[[Path], None]) -> None:
    """255 was taken for the void, so that there was nothing but background."""
    root = masked()
    (root / "classes.txt").write_text("background\ndisc\n")
    change(root)
    assert open_masks(root).train.classes == ("background", "disc")
    assert check(root).counts["train"] == {"background": 6, "disc": 6}


def test_jpeg_masks_of_a_list_of_classes(masked: MakeDense) -> None:
    root = masked()
    lossy(root)
    (root / "classes.txt").write_text("\n".join(map(str, range(255))))
    with pytest.raises(BadImage, match="is a JPEG file, which blurs the values of classes"):
        open_masks(root).train[0]
    assert not check(root).ok


def test_masks_of_all_splits_in_one_folder(masked: MakeDense) -> None:
    root = masked()
    for split in ("train", "val"):
        for i, path in enumerate(sorted((root / "annotations" / split).iterdir())):
            path.rename(root / "annotations" / f"{split}{i}.png")
        for i, path in enumerate(sorted((root / "images" / split).iterdir())):
            path.rename(path.with_stem(f"{split}{i}"))
        (root / "annotations" / split).rmdir()
    splits = open_masks(root)
    assert (len(splits.train), len(splits.val)) == (6, 3)
    assert [problem.kind for problem in check(root).problems] == ["mask values"]
    shutil.rmtree(root / "images" / "val")
    assert len(open_masks(root).train) == 5


def test_values_far_apart_are_classes_where_many_masks_hold_them(masked: MakeDense) -> None:
    root = masked()
    for path in (root / "annotations").rglob("*.png"):
        values = np.asarray(Image.open(path))
        Image.fromarray(np.where(values < 3, values * 100, 0).astype(np.uint8)).save(path)
    assert open_masks(root).train.classes == ("0", "100", "200")


def test_pascal_vocs_boxes_are_no_masks(masked: MakeDense, tmp_path: Path) -> None:
    root = voc(masked, tmp_path / "voc")
    (root / "Annotations" / "2007_train000.xml").write_text("<annotation/>")
    shutil.rmtree(root / "ImageSets")
    splits = open_masks(root)  # JPEGImages and SegmentationClass, beside Annotations
    assert len(splits.train) + len(splits.val) == 9
    assert splits.note.endswith("2 images have no mask and are left out")
    shutil.rmtree(root / "SegmentationClass")
    assert not is_masked(root)


def test_folders_of_classes_below_images_are_no_masks(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / name / "0.png")
    assert not is_masked(tmp_path)


def test_other_classes_in_pascal_vocs_layout_do_not_get_its_names(masked: MakeDense, tmp_path: Path) -> None:
    root = voc(masked, tmp_path / "voc")
    assert "21 classes (PASCAL VOC's, by the layout and the masks" in open_masks(root).note
    for path in (root / "SegmentationClass").iterdir():
        pixels = np.array(Image.open(path))
        pixels[pixels == 255] = 0  # no border around objects
        Image.fromarray(pixels).save(path)
    assert open_masks(root).train.classes == ("0", "1", "2")


def test_pascal_vocs_masks_saved_as_colours_keep_their_classes_and_border(masked: MakeDense, tmp_path: Path) -> None:
    root = voc(masked, tmp_path / "voc")
    expected = open_masks(root).train[0].labels
    colours = np.zeros((256, 3), np.uint8)
    colours[:3], colours[255] = ((0, 0, 0), (128, 0, 0), (0, 128, 0)), (224, 224, 192)
    for path in (root / "SegmentationClass").iterdir():
        Image.fromarray(colours[np.array(Image.open(path))]).save(path)
    source = open_masks(root).train
    assert source.classes[:3] == ("background", "aeroplane", "bicycle")
    np.testing.assert_array_equal(source[0].labels, expected)


def test_black_and_white_is_not_judged_as_other_classes(masked: MakeDense) -> None:
    """255 would count for nothing, and the background be judged as the first class, without a word."""
    root = masked()
    coding = open_masks(root).val.coding
    assert len(open_masks_for_judging(root, "val", coding=coding)[0]) == 3
    for path in (root / "annotations" / "val").iterdir():
        Image.fromarray(np.where(np.asarray(Image.open(path)) > 0, 255, 0).astype(np.uint8)).save(path)
    with pytest.raises(UserError, match="are black and white, background and foreground, and the segmenter knows"):
        open_masks_for_judging(root, "val", coding=coding)
    (root / "own.txt").write_text("\n".join(coding.classes) + "\n")
    assert len(open_masks_for_judging(root, "val", coding=coding, classes=root / "own.txt")[0]) == 3
