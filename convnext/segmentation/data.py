"""Pictures with a mask for each: their classes, what is learned from, what is held out and what is judged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ..data.folders import TRAIN_NAMES
from ..data.images import BadImage, open_image, readable
from ..data.keep_ratio import KeepRatio
from ..data.learned import NOTHING_LEARNED, UNTOLD, LearnedBy, to_judge
from ..data.levels import Levels
from ..data.source import SHOWN, held_out, listed
from ..data.splits import Splits, fingerprint
from ..dense.source import FilePictures
from ..errors import UserError
from .mask_coding import UNLABELLED, VOC_CLASSES, MaskCoding, ade20k_coding, binary_coding, read_classes, read_mask
from .mask_layouts import ROBOFLOW_CLASSES, MaskedFolder, Part, left_out, masked_folder, without_masks
from .mask_values import THRESHOLD, Values, coding_of_values, is_soft, values_of

PAPER_SIDE = 512  # short side of the test image, and of the training crop
LONGEST = 4  # times the short side
CLASS_FILES = ("classes.txt", "classes.json", "class_names.txt", "labels.txt", "labelmap.txt", "class_dict.csv",
               "label_colors.txt", "palette.json", ROBOFLOW_CLASSES)  # fmt: skip
ADE_FILES = ("objectInfo150.csv", "objectInfo150.txt")


def protocol(size: int) -> KeepRatio:
    """How a segmenter is shown an image with a short side of `size`: the paper's protocol."""
    return KeepRatio(size, LONGEST * size)


@dataclass(frozen=True)
class SegmentationSample:
    """One picture and the label of each of its pixels: (H, W) int16, IGNORED where it counts for nothing."""

    image: Image.Image
    labels: np.ndarray
    id: str


@dataclass(frozen=True)
class SegmentationSource(FilePictures):
    """The pictures of one split."""

    coding: MaskCoding
    ids: tuple[str, ...]  # names below the folder of images
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    levels: Levels | None = None  # of pictures of more than 8 bits; None: as their type says

    @property
    def classes(self) -> tuple[str, ...]:
        return self.coding.classes

    @property
    def labels(self) -> tuple[str, ...]:
        """Something of each mask that changes with it, for the fingerprint of the data."""
        return tuple(str(path.stat().st_size) for path in self.masks)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def names(self) -> tuple[str, ...]:
        depth = [len(PurePosixPath(name).parts) for name in self.ids]
        return tuple(
            f"{path.parents[n - 1].name}/{name}" for path, name, n in zip(self.images, self.ids, depth, strict=True)
        )

    def path(self, index: int) -> Path:
        return self.images[index]

    def __getitem__(self, index: int) -> SegmentationSample:
        labels = read_mask(self.masks[index], self.coding)
        return SegmentationSample(
            picture_of(self.images[index], labels.shape, self.masks[index], self.levels), labels, self.ids[index]
        )

    def within(self, levels: Levels | None) -> SegmentationSource:
        """The same pictures, of which those of more than 8 bits are read from these levels."""
        return replace(self, levels=levels)

    def take(self, indices: Sequence[int]) -> SegmentationSource:
        return replace(
            self,
            ids=tuple(self.ids[i] for i in indices),
            images=tuple(self.images[i] for i in indices),
            masks=tuple(self.masks[i] for i in indices),
        )


SegmentationSplits = Splits[SegmentationSource]


def picture_of(path: Path, shape: tuple[int, ...], mask: Path, levels: Levels | None = None) -> Image.Image:
    """The picture in the orientation of its mask, which has `shape`. Raises BadImage where the sizes differ."""
    for upright in (True, False):  # some tools outline the stored pixels, others what a viewer shows
        image = open_image(path, upright=upright, levels=levels)
        if image.size[::-1] == tuple(shape):
            return image
    sizes = f"{image.width} x {image.height} pixels, its mask {readable(mask)} has {shape[1]} x {shape[0]}"
    raise BadImage(f"{readable(path)} has {sizes}; make them agree")


def open_masks(
    where: str | Path, *, classes: str | Path | None = None, ignore: Iterable[int] = (), val_fraction: float = 0.2
) -> SegmentationSplits:
    """The splits of a folder of images with masks; without val, a share of the training images is held out.

    `classes` is a file that names the classes (None: one in the folder, ADE20K's or PASCAL VOC's for their layouts,
    else the values that are found in all the masks); `ignore` are values of index masks that count for nothing, beside
    255. Raises UserError, in a sentence, for whatever makes the data unfit.
    """
    root = Path(where).expanduser()
    found = masked_folder(root)
    if not found.places.keys() & {"train", ""}:
        raise UserError(f"{readable(root)} has no training images; add train beside {', '.join(found.places)}")
    images = without_masks(root)
    if "val" not in found.places and images is not None and images not in [place for place, _ in found.places.values()]:
        raise UserError(f"{readable(images)} has no masks; put them beside it, as those of the training images are")
    parts = {split: found.part(split) for split in found.places if split != "test"}
    why = ""
    try:
        parts |= {"test": found.part("test")} if "test" in found.places else {}
    except UserError as error:  # a test split must not stop a training run
        why = f"; the test split is not judged: {error}"
    try:
        coding, classes_are = coding_for(found, classes, tuple(ignore), list(parts.values()))
    except UserError as error:
        if parts.pop("test", None) is None:
            raise
        coding, classes_are = coding_for(found, classes, tuple(ignore), list(parts.values()))
        why = f"; the test split is not judged: {error}"
    sources = {split: _source(coding, part) for split, part in parts.items()}
    train = sources["train"] if "train" in sources else sources[""]
    if "val" in sources:
        val = sources["val"]
        how = f"{len(train):,} training and {len(val):,} validation images"
    else:
        whole, (train, val) = train, _parts(train, val_fraction)
        how = f"no val folder, so {len(val):,} of {len(whole):,} images are held out"
    test = sources.get("test")
    if test is not None:
        how += f", {len(test):,} test images for the end"
    note = f"{readable(root)}: {how}, {len(coding.classes)} classes{classes_are}{left_out(list(parts.values()))}{why}"
    return SegmentationSplits(train, val, str(where), note, test)


def open_masks_for_judging(
    where: str | Path,
    split: str,
    *,
    coding: MaskCoding | None = None,
    classes: str | Path | None = None,
    learned: LearnedBy = NOTHING_LEARNED,
) -> tuple[SegmentationSource, str]:
    """The pictures to judge a segmenter on, and a sentence that says which they are.

    They are one split ("train", "val", "test") of a folder, or all of one without splits, but for those that the
    segmenter has `learned` from, as far as its file knows them. "val" of a folder that has no val are those of train
    that it does not know. `coding` says what the masks hold. Raises UserError as `open_masks`, where there is no such
    split, or when no picture is left.
    """
    known, trained_on = learned.known, learned.trained_on
    root = Path(where).expanduser()
    found = masked_folder(root)
    # Whether a share of these pictures may have been held out of training.
    shared = "val" not in found.places and (split in ("train", "val") or ("" in found.places and split != "all"))
    key = "" if "" in found.places else "train" if shared and "train" in found.places else split
    choices = f"choose --split {' or --split '.join(found.places)}"
    if key not in found.places:
        raise UserError(f"{readable(root)} has no {split} split; {choices}")
    part = found.part(key)
    told, own = coding, class_file(found) if classes is None else Path(classes)
    if coding is None or own is not None:
        coding, _ = coding_for(found, classes, coding.ignored if coding else (), [part])
    else:
        _require_no_black_and_white(coding, part, root)
    source = _source(coding, part)
    omitted = left_out([part])
    whole = f"all {len(source):,} images of {readable(root)}{omitted}"
    note = f"the {len(source):,} images of {_called(found, key)}{omitted}" if key else whole
    if known is not None and split != "all":
        place = _called(found, key) if key else readable(root)
        positions, said = to_judge(known, source, split, place, note, _names_elsewhere(found, key))
        if key in ("", split) or len(positions) < len(source):
            return source.take(positions), said
    elif shared and trained_on is not None and len(source) > 1:
        train, val = _parts(source, learned.val_fraction)
        named = replace(train, coding=told or coding)  # by the names it was trained with
        if fingerprint(named) == trained_on:
            chosen, how = (train, "that it learned from") if split == "train" else (val, "held out of its training")
            return chosen, f"the {len(chosen):,} images of {readable(root)} {how}"
    if key not in ("", split):
        raise UserError(f"{readable(root)} has no {split} split; {choices}")
    return source, note if known is not None or trained_on is None or split == "all" else note + UNTOLD


def _require_no_black_and_white(coding: MaskCoding, part: Part, root: Path) -> None:
    """UserError where masks show their one kind of thing by 255, which would count for nothing in this coding."""
    if coding.in_colour or UNLABELLED in coding.values or 0 not in coding.values:
        return
    held: set[int] = set()
    for _, _, mask in part.rows:
        held |= values_of([mask])[0].masks.keys()
        if held - {0, UNLABELLED}:
            return
    if UNLABELLED in held:
        known = listed(coding.classes, SHOWN)
        raise UserError(
            f"the masks of {readable(root)} are black and white, background and foreground, and the "
            f"segmenter knows the classes {known}; where 255 means unlabelled there, name the classes by "
            "--labels"
        )


def _names_elsewhere(found: MaskedFolder, split: str) -> list[str]:
    """Names of the pictures in the other splits, as `Pictures.names` has them."""
    names: list[str] = []
    for other in found.places.keys() - {split}:
        with contextlib.suppress(UserError):  # what is wrong with them is no matter here
            names += [f"{found.places[other][0].name}/{name}" for name, _, _ in found.part(other).rows]
    return names


def _called(found: MaskedFolder, split: str) -> str:
    return readable(found.lists.get(split, found.places[split][0]))


def _parts(whole: SegmentationSource, fraction: float) -> tuple[SegmentationSource, SegmentationSource]:
    """What to learn from of a folder without val, and the share that is held out."""
    held = held_out(whole.ids, fraction)
    train, val = (whole.take([i for i in range(len(whole)) if (i in held) == part]) for part in (False, True))
    return train, val


def class_file(found: MaskedFolder) -> Path | None:
    """The file that names the classes: in the folder itself, or in that of the training images."""
    folders = (found.root, *(found.root / name for name in TRAIN_NAMES))
    return next((path for folder in folders for name in CLASS_FILES if (path := folder / name).is_file()), None)


def is_ade20k(root: Path) -> bool:
    """Whether a folder is laid out as ADE20K's scene parsing data, or says so."""
    return any((root / name).is_file() for name in ADE_FILES) or (
        (root / "annotations" / "training").is_dir() and (root / "sceneCategories.txt").is_file()
    )


def coding_for(
    found: MaskedFolder, classes: str | Path | None, ignore: tuple[int, ...], parts: Sequence[Part]
) -> tuple[MaskCoding, str]:
    """What the masks hold: by a file that names the classes, by ADE20K's layout, or by the values of all masks; and
    the end of a sentence that says so where they were read."""
    coding = named_coding(found, classes, ignore)
    if coding is not None and not may_be_binary(coding):
        return coding, ""
    values, bad = values_of([mask for part in parts for _, _, mask in part.rows])
    if coding is not None:
        return named_binary(coding, values), ""
    if bad:
        rest = f" (and {len(bad) - SHOWN} more; convnext check lists them all)" if len(bad) > SHOWN else ""
        raise UserError("; ".join(map(str, bad[:SHOWN])) + rest)
    coding = coding_of_values(found.root, values, ignore, voc=found.is_voc)
    return coding, how_found(values, coding)


def may_be_binary(coding: MaskCoding) -> bool:
    """Whether a list of classes is of two without colours, whose masks may be black and white in spite of it."""
    return coding.values == (0, 1) and not coding.in_colour


def named_binary(coding: MaskCoding, values: Values) -> MaskCoding:
    """The coding of a list of two classes: by 0 and 1, or by black and white where that is what the masks hold."""
    if values.masks.keys() == {0, UNLABELLED}:
        return binary_coding(coding.classes)
    return binary_coding(coding.classes, THRESHOLD) if is_soft(values) else coding


def how_found(values: Values, coding: MaskCoding) -> str:
    """The end of a sentence: where the classes of masks without a list of classes come from."""
    took = f", read in {values.seconds:.0f} s" if values.seconds >= 1 else ""
    if coding.threshold is not None:
        return f" (the masks are blurred black and white: a value from {coding.threshold} on is foreground)"
    if coding.classes == VOC_CLASSES:
        return f" (PASCAL VOC's, by the layout and the masks{took}; where they are others, name them in classes.txt)"
    what = "colours" if values.in_colour else "values"
    return f" (the {what} found in {values.read:,} mask{'s' * (values.read > 1)}{took})"


def named_coding(found: MaskedFolder, classes: str | Path | None, ignore: tuple[int, ...]) -> MaskCoding | None:
    """What the masks hold by a file that names the classes or by ADE20K's layout; None where neither is there."""
    if classes is not None:
        return read_classes(Path(classes).expanduser(), ignore)
    if (path := class_file(found)) is not None:
        return read_classes(path, ignore)
    return ade20k_coding() if is_ade20k(found.root) else None


def _source(coding: MaskCoding, part: Part) -> SegmentationSource:
    names, images, masks = zip(*part.rows, strict=True)
    return SegmentationSource(coding, tuple(map(readable, names)), images, masks)
