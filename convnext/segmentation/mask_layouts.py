"""Folders of pictures with masks: the layouts that are known, and how pictures and masks find each other.

Names alone are looked at here, no file is opened but lists of names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ..data.folders import SPLIT_NAMES, SPLIT_OF
from ..data.images import IMAGE_SUFFIXES, readable
from ..data.source import listed
from ..errors import UserError

Pair = tuple[str, Path, Path]  # a picture's name, its file, its mask
Find = Callable[..., Path | None]  # the folder of these names one inside the other, whatever their case
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "pictures", "photos", "rgb", "JPEGImages", "leftImg8bit")
MASK_FOLDERS = ("annotations", "masks", "mask", "labels", "label", "segmentations", "segmentation", "SegmentationClass",
                "SegmentationClassPNG", "gtFine", "gt", "groundtruth", "ground_truth")  # fmt: skip
# How a mask's name may differ from its picture's; the first that is there is taken.
MASK_ENDINGS = ("", "_mask", "-mask", "_masks", "_label", "-label", "_labels", "_gt", "-gt", "_seg", "-seg",
                "_segmentation", "_l", "_gtfine_labelids")  # fmt: skip
MASK_BEGINNINGS = ("mask_", "label_", "seg_", "gt_")
IMAGE_ENDINGS, IMAGE_BEGINNINGS = ("_leftimg8bit", "_image", "_img", "_sat"), ("image_", "img_")
BESIDE = ("annot", "_annot", "_labels", "_masks", "_mask", "_annotations")  # CamVid's train/ and trainannot/
VOC_IMAGES, VOC_MASKS, VOC_LISTS = "JPEGImages", "SegmentationClass", Path("ImageSets") / "Segmentation"
VOC_YEARS = ("VOC20*", "VOCdevkit/VOC20*")  # where the archive is unpacked
ROBOFLOW_CLASSES = "_classes.csv"


@dataclass(frozen=True)
class Part:
    """One split: its pictures with their masks, and what found no partner."""

    rows: list[Pair]
    lacking: list[str]  # pictures without a mask, which are left out
    unused: list[str]  # masks without a picture


@dataclass(frozen=True)
class MaskedFolder:
    """Where the pictures and the masks of each split lie: of "train", "val" and "test", or of "" without splits."""

    root: Path
    places: dict[str, tuple[Path, Path]]  # folders of pictures and of masks; one and the same where they lie together
    lists: dict[str, Path] = field(default_factory=dict)  # PASCAL VOC's: files of the names of each split
    is_voc: bool = False

    @property
    def shown(self) -> tuple[Path, Path]:
        """The folders of the training split's pictures and masks, or of the first."""
        return self.places.get("train") or next(iter(self.places.values()))

    def part(self, split: str) -> Part:
        """Raises UserError where there is no picture, no mask, or two of one name."""
        images, masks = self.places[split]
        if images == masks:
            pictures, found = _told_apart(_files(images, nested=False))
        else:
            pictures, found = pictures_of(images), pictures_of(masks)
        if split in self.lists:
            pictures = _named(self.lists[split], pictures)
            found = {stem: path for stem, path in found.items() if stem in pictures}
        part = match(pictures, found, images)
        if not pictures:
            place = readable(self.lists.get(split, images))
            raise UserError(f"{place} {'names' if split in self.lists else 'holds'} no images; add some")
        if not part.rows:
            few = listed(part.lacking, 3)
            raise UserError(
                f"none of the {len(pictures):,} images of {readable(images)} has a mask of its name in "
                f"{readable(masks)}: {few}; give masks the names of their images"
            )
        shared = len({place for _, place in self.places.values()}) < len(self.places)  # others' masks are there too
        return Part(part.rows, part.lacking, [] if shared or split in self.lists else part.unused)


def is_masked(root: Path) -> bool:
    """Whether a folder has pictures and masks in a known layout, or nothing but pictures in a part of one."""
    try:
        masked_folder(root)
    except UserError:
        return root.is_dir() and _only_images(root)
    return True


def _only_images(root: Path) -> bool:
    visible = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    if len(visible) != 1 or visible[0].name not in IMAGE_FOLDERS:
        return False
    inside = {path.name.lower() for path in visible[0].iterdir() if path.is_dir()}
    return inside <= SPLIT_OF.keys()  # others are folders of classes


def masked_folder(root: Path) -> MaskedFolder:
    """Where a folder's pictures and masks lie, by names alone. Raises UserError when no known layout is found."""
    if not root.is_dir():
        raise UserError(f"there is no folder {readable(root)}; check the path")
    if (found := _voc(root)) is not None:
        return found
    find = _finder(root)
    places: dict[str, tuple[Path, Path]] = {}
    for split, names in SPLIT_NAMES.items():
        for images, masks in (pair for name in names for pair in _candidates(find, name)):
            if split not in places and images is not None and masks is not None and _any_image(masks):
                places[split] = (images, masks)
    if not places:
        for images, masks in ((find(a), find(b)) for a in IMAGE_FOLDERS for b in MASK_FOLDERS):
            if images is not None and masks is not None and _any_image(masks):
                return MaskedFolder(root, {"": (images, masks)})
    if not places:
        places = _together(root, find)
    if places:
        return MaskedFolder(root, places)
    if (pictures := without_masks(root)) is not None:
        raise UserError(
            f"{readable(pictures)} has no masks: looked for {', '.join(MASK_FOLDERS)} beside it; add a "
            "folder that has a mask of each image's name"
        )
    raise UserError(
        f"{readable(root)} holds no images with masks: looked for images/ and annotations/ (or masks/, labels/), "
        "with train and val inside or outside; put them so"
    )


def _finder(root: Path) -> Find:
    @cache
    def inside(folder: Path) -> dict[str, Path]:
        try:
            return {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
        except OSError:
            return {}

    def find(*names: str) -> Path | None:
        folder: Path | None = root
        for name in names:
            folder = inside(folder).get(name.lower()) if folder is not None else None
        return folder

    return find


def _any_image(folder: Path) -> bool:
    """Whether a folder may hold masks: others of their names hold the texts of boxes."""
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.rglob("*"))


def _candidates(find: Find, split: str) -> Iterator[tuple[Path | None, Path | None]]:
    for images in IMAGE_FOLDERS:
        for masks in MASK_FOLDERS:
            yield find(images, split), find(masks, split)
            yield find(split, images), find(split, masks)
            yield find(f"{split}_{images}"), find(f"{split}_{masks}")
            yield find(f"{images}_{split}"), find(f"{masks}_{split}")
        if (images_of := find(images, split)) is not None:  # masks of all splits in one folder
            yield from ((images_of, flat) for name in MASK_FOLDERS if (flat := find(name)) and not _has_folders(flat))
    for ending in BESIDE:
        yield find(split), find(f"{split}{ending}")


def _has_folders(folder: Path) -> bool:
    return any(path.is_dir() for path in folder.iterdir())


def _together(root: Path, find: Find) -> dict[str, tuple[Path, Path]]:
    """Folders in which most pictures have their masks beside them, as Roboflow exports semantic masks."""
    places = {}
    for split, names in SPLIT_NAMES.items():
        for folder in filter(None, map(find, names)):
            if split not in places and _holds_both(folder):
                places[split] = (folder, folder)
    return places or ({"": (root, root)} if _holds_both(root) else {})


def _holds_both(folder: Path) -> bool:
    pictures, masks = _told_apart(_files(folder, nested=False))
    return len(masks) > 0 and 2 * len(masks) >= len(pictures)


def _told_apart(files: dict[str, Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Pictures and masks of one folder: a mask is called as a picture that lies there, and an ending."""
    lower = {stem.lower() for stem in files}
    bases = lower | {stem.removesuffix(ending) for stem in lower for ending in IMAGE_ENDINGS}
    masks = {
        stem: path
        for stem, path in files.items()
        if any(stem.lower().endswith(end) and stem.lower().removesuffix(end) in bases for end in MASK_ENDINGS[1:])
    }
    return {stem: path for stem, path in files.items() if stem not in masks}, masks


def _voc(root: Path) -> MaskedFolder | None:
    """PASCAL VOC's layout: masks of some of the pictures, and lists of the names in each split."""
    nested = [path for pattern in VOC_YEARS for path in sorted(root.glob(pattern), reverse=True)]
    for top in (root, *nested):
        images, masks = top / VOC_IMAGES, top / VOC_MASKS
        if not (images.is_dir() and masks.is_dir() and _any_image(masks) and (top / VOC_LISTS).is_dir()):
            continue
        lists = {path.stem.lower(): path for path in sorted((top / VOC_LISTS).glob("*.txt"))}
        found = {split: lists[name] for split, names in SPLIT_NAMES.items() for name in names if name in lists}
        if "train" not in found and "val" not in found:
            whole = lists.get("trainval") or next(iter(lists.values()), None)
            found = {} if whole is None else {"": whole}
        masked = {stem.lower() for stem in pictures_of(masks)}
        found = {split: path for split, path in found.items() if split != "test" or masked & set(_names(path))}
        return MaskedFolder(top, dict.fromkeys(found or ("",), (images, masks)), found, is_voc=True)
    return None


def _names(path: Path) -> list[str]:
    try:
        return [line.strip().lower() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the names in {readable(path)} ({error}); mend it") from None


def _named(path: Path, pictures: dict[str, Path]) -> dict[str, Path]:
    """The pictures that a list names. Raises UserError where one is not there."""
    known = {stem.lower(): stem for stem in pictures}
    names = _names(path)
    if missing := [name for name in names if name not in known]:
        raise UserError(
            f"{readable(path)} names {len(missing):,} images that are not there: {listed(missing, 3)}; add "
            "them or take the lines out"
        )
    return {known[name]: pictures[known[name]] for name in names}


def without_masks(root: Path) -> Path | None:
    """A folder that is called as one of images is and that has no folder of masks."""
    for images in IMAGE_FOLDERS:
        for split in (*SPLIT_OF, ""):
            masks = [place for name in MASK_FOLDERS for place in (root / name / split, root / split / name)]
            for folder in (root / images / split, root / split / images):
                if folder.is_dir() and not any(place.is_dir() for place in masks):
                    return folder
    return None


def match(pictures: dict[str, Path], masks: dict[str, Path], images: Path) -> Part:
    """Pictures, by their names below the folder `images` without suffix, with the masks of their names."""
    rows, lacking, used = [], [], set()
    folded = {stem.lower(): stem for stem in masks}
    for stem, path in sorted(pictures.items()):
        key = stem if stem in masks else next((folded[one] for one in _mask_names(stem) if one in folded), None)
        name = path.relative_to(images).as_posix()
        if key is None:
            lacking.append(name)
        else:
            rows.append((name, path, masks[key]))
            used.add(key)
    return Part(rows, lacking, [masks[key].name for key in masks if key not in used])


def _mask_names(stem: str) -> Iterator[str]:
    """What the mask of a picture may be called, the likeliest first, in small letters."""
    folder, slash, own = stem.lower().rpartition("/")
    bases = dict.fromkeys((own, *map(own.removesuffix, IMAGE_ENDINGS), *map(own.removeprefix, IMAGE_BEGINNINGS)))
    for base in bases:
        yield from (f"{folder}{slash}{base}{ending}" for ending in MASK_ENDINGS)
        yield from (f"{folder}{slash}{beginning}{base}" for beginning in MASK_BEGINNINGS)


def pictures_of(folder: Path) -> dict[str, Path]:
    """Files by their name below the folder without its suffix. Raises UserError for two of one name."""
    return _files(folder, nested=True)


def _files(folder: Path, *, nested: bool) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*") if nested else folder.glob("*")):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise UserError(
                f"{readable(folder)} holds {found[stem].name} and {path.name}, which have one name but for "
                "the suffix; rename one, and its mask or image"
            )
        found[stem] = path
    return found


def left_out(parts: Sequence[Part]) -> str:
    """A sentence's end on pictures without a mask; "" where there is none."""
    count = sum(len(part.lacking) for part in parts)
    return (
        f"; {count:,} image{'s have' if count > 1 else ' has'} no mask and {'are' if count > 1 else 'is'} left out"
        if count
        else ""
    )
