"""Pictures with a mask for each: the layouts that are known, how files find each other, what is held out.

A mask belongs to the picture of the same name below its folder, but for the suffix and endings such as "_mask".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from .folders import TRAIN_NAMES
from .images import IMAGE_SUFFIXES, BadImage, open_image, readable
from .kept_shape import KeptShape
from .labelled import fingerprint, held_out, listed
from .mask_coding import (
    UNLABELLED,
    UNLABELLED_16,
    MaskCoding,
    ade20k_coding,
    binary_coding,
    coding_of,
    read_classes,
    read_mask,
    values_in,
)

Pair = tuple[str, Path, Path]  # a picture's name, its file, its mask
PAPER_SIDE = 512  # short side of the test image, and of the training crop
LONGEST = 4  # times the short side
VAL_NAMES, TEST_NAMES = ("val", "validation", "valid"), ("test", "testing")
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "JPEGImages", "leftImg8bit")
MASK_FOLDERS = ("annotations", "masks", "mask", "labels", "segmentations", "SegmentationClass", "gtFine")
MASK_ENDINGS = ("", "_mask", "_masks", "_label", "_labels", "_gt", "_seg", "_L", "_gtFine_labelIds")
BESIDE = ("annot", "_annot", "_labels", "_masks", "_annotations")  # CamVid's train/ and trainannot/
CLASS_FILES = ("classes.txt", "classes.json", "class_names.txt", "labels.txt", "labelmap.txt", "class_dict.csv",
               "label_colors.txt", "palette.json")  # fmt: skip
ADE_FILES = ("objectInfo150.csv", "objectInfo150.txt")
LOOKED_AT = 200  # training masks whose values are read where no file names the classes
FAR = 10  # a value this far above the next lower one is no class: a tool's mark, a brightness, another set's number


def protocol(size: int) -> KeptShape:
    """How a segmenter is shown an image with a short side of `size`: the paper's protocol."""
    return KeptShape(size, LONGEST * size)


@dataclass(frozen=True)
class SegmentationSample:
    """One picture and the label of each of its pixels: (H, W) int16, IGNORED where it counts for nothing."""

    image: Image.Image
    labels: np.ndarray
    id: str


@dataclass(frozen=True)
class SegmentationSource:
    """The pictures of one split."""

    coding: MaskCoding
    ids: tuple[str, ...]  # names below the folder of images
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    multi_label: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        return self.coding.classes

    @property
    def labels(self) -> tuple[str, ...]:
        """Something of each mask that changes with it, for the fingerprint of the data."""
        return tuple(str(path.stat().st_size) for path in self.masks)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> SegmentationSample:
        labels = read_mask(self.masks[index], self.coding)
        return SegmentationSample(
            picture_of(self.images[index], labels.shape, self.masks[index]), labels, self.ids[index]
        )

    def take(self, indices: Sequence[int]) -> SegmentationSource:
        return replace(
            self,
            ids=tuple(self.ids[i] for i in indices),
            images=tuple(self.images[i] for i in indices),
            masks=tuple(self.masks[i] for i in indices),
        )


@dataclass(frozen=True)
class SegmentationSplits:
    """What to learn from and what to be judged on; `note` says in a sentence what there is."""

    train: SegmentationSource
    val: SegmentationSource
    name: str
    note: str


def picture_of(path: Path, shape: tuple[int, ...], mask: Path) -> Image.Image:
    """The picture in the orientation of its mask, which has `shape`. Raises BadImage where the sizes differ."""
    for upright in (True, False):  # some tools outline the stored pixels, others what a viewer shows
        image = open_image(path, upright=upright)
        if image.size[::-1] == tuple(shape):
            return image
    sizes = f"{image.width} x {image.height} pixels, its mask {readable(mask)} has {shape[1]} x {shape[0]}"
    raise BadImage(f"{readable(path)} has {sizes}; make them agree")


def open_masks(where: str | Path, *, classes: str | Path | None = None, ignore: Iterable[int] = (),
               val_fraction: float = 0.2) -> SegmentationSplits:  # fmt: skip
    """The splits of a folder of images with masks; without a split of its own, a share of the images is held out.

    `classes` is a file that names the classes (None: one in the folder, ADE20K's for its layout, else the values that
    are found); `ignore` are values of index masks that count for nothing, beside 255. Raises UserError, in a sentence,
    for whatever makes the data unfit.
    """
    root = Path(where).expanduser()
    found = split_folders(root)
    if "train" in found and len(found) == 1:
        if (images := _without_masks(root)) is not None:
            raise UserError(f"{readable(images)} has no masks; put them beside it, as those of the training images are")
        raise UserError(
            f"{readable(root)} has training images but none to be judged on; add val, or leave out the split"
        )
    if "train" not in found and "" not in found:
        raise UserError(f"{readable(root)} has no training images; add train beside {', '.join(found)}")
    ignored = tuple(ignore)
    if "" in found:
        pairs = paired(*found[""])
        coding = coding_for(root, found, classes, ignored, pairs)
        whole = _source(coding, pairs)
        train, val = _parts(whole, val_fraction)
        how = f"no val folder, so {len(val):,} of {len(whole):,} images are held out"
    else:
        pairs = paired(*found["train"])
        coding = coding_for(root, found, classes, ignored, pairs)
        train, val = _source(coding, pairs), _source(coding, paired(*found["val" if "val" in found else "test"]))
        how = f"{len(train):,} training and {len(val):,} validation images"
    note = f"{readable(root)}: {how}, {len(coding.classes)} classes"
    return SegmentationSplits(train, val, str(where), note)


def open_masks_for_judging(
    where: str | Path, split: str, *, coding: MaskCoding | None = None, classes: str | Path | None = None,
    val_fraction: float = 0.2, trained_on: str | None = None,
) -> tuple[SegmentationSource, str]:  # fmt: skip
    """The pictures to judge a segmenter on, and a sentence that says which they are.

    They are one split ("train", "val", "test") of a folder. Of one without splits all count, unless `trained_on`, the
    fingerprint of what the segmenter learned from, says that it knows the others: then those that were held out.
    `coding` says what its masks hold. Raises UserError as `open_masks`, or where there is no such split.
    """
    root = Path(where).expanduser()
    found = split_folders(root)
    key = "" if "" in found else split
    if key not in found:
        advice = f"choose --split {' or --split '.join(found)}"
        raise UserError(f"{readable(root)} has no {split} split; {advice}")
    pairs = paired(*found[key])
    learned, own = coding, class_file(root) if classes is None else Path(classes)
    if coding is None or own is not None:
        coding = coding_for(root, found, classes, coding.ignored if coding else (), pairs)
    source = _source(coding, pairs)
    if key == "" and split != "all" and trained_on is not None and len(source) > 1:
        train, val = _parts(source, val_fraction)
        known: Any = replace(train, coding=learned or coding)  # by the names it was trained with
        if fingerprint(known) == trained_on:
            chosen, how = (train, "that it learned from") if split == "train" else (val, "held out of its training")
            return chosen, f"the {len(chosen):,} images of {readable(root)} {how}"
    whole = f"all {len(source):,} images of {readable(root)}"
    return source, f"the {len(source):,} images of {readable(found[key][0])}" if key else whole


def _parts(whole: SegmentationSource, fraction: float) -> tuple[SegmentationSource, SegmentationSource]:
    """What to learn from of a folder without splits, and the share that is held out."""
    held = held_out(whole.ids, fraction)
    train, val = (whole.take([i for i in range(len(whole)) if (i in held) == part]) for part in (False, True))
    return train, val


def split_folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """(images, masks) of "train", "val" and "test", or of "" where there is no split. UserError when none is found."""
    if not root.is_dir():
        raise UserError(f"there is no folder {readable(root)}; check the path")
    found: dict[str, tuple[Path, Path]] = {}
    for split, names in (("train", TRAIN_NAMES), ("val", VAL_NAMES), ("test", TEST_NAMES)):
        for name in names:
            for images, masks in _candidates(root, name):
                if split not in found and images.is_dir() and masks.is_dir():
                    found[split] = (images, masks)
    if not found:
        for images, masks in ((root / a, root / b) for a in IMAGE_FOLDERS for b in MASK_FOLDERS):
            if images.is_dir() and masks.is_dir():
                return {"": (images, masks)}
        if (pictures := _without_masks(root)) is not None:
            raise UserError(f"{readable(pictures)} has no masks: looked for {', '.join(MASK_FOLDERS)} beside it; add a "
                            "folder that has a mask of each image's name")  # fmt: skip
        raise UserError(
            f"{readable(root)} holds no images with masks: looked for images/ and annotations/ (or masks/, labels/), "
            "with train and val inside or outside; put them so"
        )
    return found


def _candidates(root: Path, split: str) -> Iterable[tuple[Path, Path]]:
    for images in IMAGE_FOLDERS:
        for masks in MASK_FOLDERS:
            yield root / images / split, root / masks / split
            yield root / split / images, root / split / masks
    for ending in BESIDE:
        yield root / split, root / f"{split}{ending}"


def _without_masks(root: Path) -> Path | None:
    """A folder that is called as one of images is and that has no folder of masks."""
    for images in IMAGE_FOLDERS:
        for split in (*TRAIN_NAMES, *VAL_NAMES, *TEST_NAMES, ""):
            masks = [place for name in MASK_FOLDERS for place in (root / name / split, root / split / name)]
            for folder in (root / images / split, root / split / images):
                if folder.is_dir() and not any(place.is_dir() for place in masks):
                    return folder
    return None


def paired(images: Path, masks: Path) -> list[Pair]:
    """The pictures and their masks. Raises UserError for none, for two of one name, for one without a mask."""
    pictures = pictures_of(images)
    if not pictures:
        raise UserError(f"{readable(images)} holds no images; add some")
    rows, lacking, _ = match(pictures, pictures_of(masks), images)
    if lacking:
        count = f"{len(lacking):,} of the {len(pictures):,} images of {readable(images)} have no mask of their name"
        raise UserError(f"{count} in {readable(masks)}: {listed(lacking, 3)}; add them or take the images out")
    return rows


def match(
    pictures: dict[str, Path], masks: dict[str, Path], images: Path
) -> tuple[list[Pair], list[str], list[str]]:  # fmt: skip
    """Pictures with their masks, names of pictures without one, and of masks without a picture."""
    rows, lacking, used = [], [], set()
    for stem, path in sorted(pictures.items()):
        stems = (stem, stem.removesuffix("_leftImg8bit"))
        key = next((one + ending for one in stems for ending in MASK_ENDINGS if one + ending in masks), None)
        name = path.relative_to(images).as_posix()
        if key is None:
            lacking.append(name)
        else:
            rows.append((name, path, masks[key]))
            used.add(key)
    return rows, lacking, [masks[key].name for key in masks if key not in used]


def class_file(root: Path) -> Path | None:
    return next((root / name for name in CLASS_FILES if (root / name).is_file()), None)


def is_ade20k(root: Path) -> bool:
    """Whether a folder is laid out as ADE20K's scene parsing data, or says so."""
    return any((root / name).is_file() for name in ADE_FILES) or (
        (root / "annotations" / "training").is_dir() and (root / "sceneCategories.txt").is_file()
    )


def coding_for(root: Path, found: dict[str, tuple[Path, Path]], classes: str | Path | None, ignore: tuple[int, ...],
               pairs: Sequence[Pair]) -> MaskCoding:  # fmt: skip
    """What the masks hold: by a file that names the classes, by ADE20K's layout, or by the values themselves."""
    if classes is not None:
        return read_classes(Path(classes).expanduser(), ignore)
    if (path := class_file(root)) is not None:
        return read_classes(path, ignore)
    if is_ade20k(root):
        return ade20k_coding()
    held: dict[int, Path] = {}
    for _, _, mask in pairs[:: -(-len(pairs) // LOOKED_AT)]:
        held |= dict.fromkeys(values_in(mask) - held.keys(), mask)
    values = sorted(held.keys() - {UNLABELLED, UNLABELLED_16, *ignore})
    if values == [0] and UNLABELLED in held.keys() - set(ignore):  # one class and a void would leave nothing to learn
        return binary_coding()
    if not values:
        raise UserError(f"the masks of {readable(root)} hold no class; they need values from 0")
    _require_classes(root, values, held)
    return coding_of([str(value) for value in range(values[-1] + 1)], [None] * (values[-1] + 1), ignore)


def _require_classes(root: Path, values: list[int], held: dict[int, Path]) -> None:
    """UserError unless the values may be those of classes 0, 1, 2, …, as most sets without a list of classes have."""
    distance, odd = max((high - low, high) for low, high in pairwise((-1, *values)))
    if distance <= FAR and 2 * len(values) >= values[-1] + 1:
        return
    shown = ", ".join(map(str, values[:5])) + (f", … {values[-1]}" if len(values) > 5 else "")
    raise UserError(
        f"the masks of {readable(root)} hold the values {shown}, too few of 0 to {values[-1]} to be classes; {odd} for "
        f"one is in {readable(held[odd])}: put classes.txt with a line for each class beside the folders (or name it "
        f"by --labels), or leave values out by --set segmentation.ignore={odd}"
    )


def pictures_of(folder: Path) -> dict[str, Path]:
    """Files by their name below the folder without its suffix. Raises UserError for two of one name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise UserError(f"{readable(folder)} holds {found[stem].name} and {path.name}, which have one name but for "
                            "the suffix; rename one, and its mask or image")  # fmt: skip
        found[stem] = path
    return found


def _source(coding: MaskCoding, pairs: Sequence[Pair]) -> SegmentationSource:
    names, images, masks = zip(*pairs, strict=True)
    return SegmentationSource(coding, tuple(map(readable, names)), images, masks)
