"""What lies in a folder: decided once, from names and a few headers, for everyone who is given one.

`train`, `check` and `evaluate` ask here, so that no two of them take the same folder for different things. Listings are
cut off: a folder of 200,000 files takes a fraction of a second.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..classification import builtin, labels_csv
from ..data import folders
from ..data.images import IMAGE_SUFFIXES, BadImage, open_image, readable
from ..data.source import listed
from ..detection import coco_files, voc, yolo
from ..errors import UserError
from ..recipes import EVERYDAY
from ..recipes.recipe import TaskName
from ..segmentation import mask_layouts
from . import TASKS

Kind = Literal[
    "built-in", "arrays", "cifar", "table", "classes", "coco", "yolo", "voc", "masks", "inside", "labels", "unknown"
]

# kind -> its task, and what such a place holds
KINDS: dict[Kind, tuple[TaskName | None, str]] = {
    "built-in": ("classify", "pictures of one class each"),
    "arrays": ("classify", "pictures of one class each"),
    "cifar": ("classify", "pictures of one class each"),
    "table": ("classify", "pictures with labels in a table"),
    "classes": ("classify", "a folder of pictures for each class"),
    "coco": ("detect", "objects in COCO's format"),
    "yolo": ("detect", "objects in YOLO's format"),
    "voc": ("detect", "objects in PASCAL VOC's format"),
    "masks": ("segment", "pictures with masks"),
    "inside": (None, "a data folder, but is none"),
    "labels": (None, "labels that are not understood"),
    "unknown": (None, "nothing that is known"),
}
PART = re.compile(r"(train|val|test|images?|imgs?|jpegimages|annotations|labels|masks)(ing|id|idation)?([-_. \d].*)?")
MOST_FILES = 2000  # of a folder that are looked at, where any will do
SAMPLE = 100  # pictures whose masks are looked for
OPENED = 3  # masks whose pixels are looked at
PAIRED = 0.5  # share of the sampled pictures that must have a mask of their name
FLAT = 0.7  # share of a mask's pixels that equal their neighbour; photographs have below a half
FEW_COLOURS = 32  # of a mask, where its areas are small
MOST_INSIDE = 20  # folders below one that is nothing, which are looked into
LABEL_FILES = {  # beside pictures, where no layout is recognised
    ".txt": "which may be labels in YOLO's format: they need a data.yaml that names train, val and names",
    ".xml": "which may be PASCAL VOC's: they belong into Annotations/, beside JPEGImages/",
    ".json": "none of which is one annotation file in COCO's format: export them as that",
}


@dataclass(frozen=True)
class Look:
    """What a place is, and by what that was seen; `also` is what it may be read as when asked to, with the reasons."""

    name: str
    kind: Kind
    why: str
    also: tuple[tuple[Kind, str], ...] = ()

    @property
    def task(self) -> TaskName | None:
        """What can be learned from it; None: nothing."""
        return KINDS[self.kind][0]

    @property
    def understood(self) -> bool:
        """Whether a task's reader could say more about it."""
        return self.kind not in ("inside", "labels")

    @property
    def tasks(self) -> set[TaskName]:
        """Every task that it may be read for."""
        return {task for kind in (self.kind, *(kind for kind, _ in self.also)) if (task := KINDS[kind][0])}

    def __str__(self) -> str:
        """A clause: what it holds, and why that is thought."""
        return f"{readable(self.name)} holds {KINDS[self.kind][1]} ({self.why})"

    def others(self) -> str:
        """What else it may be read as, as a sentence; empty where there is nothing."""
        parts = [
            f"{KINDS[kind][1]} ({why}) by --recipe {EVERYDAY[task]}"
            for kind, why in self.also
            if (task := KINDS[kind][0]) not in (None, self.task)
        ]
        return f"it may also be read as {' or '.join(parts)}" if parts else ""


def look_at(where: str | Path | None = None, labels: str | Path | None = None) -> Look:
    """What a folder, an annotation file, a file of arrays or the name of a built-in set (None: the digits) holds.

    `labels` is the file that the user named beside it: a table of labels, or the classes of masks. Raises UserError
    where there is no such place, or it cannot be listed.
    """
    text = "digits" if where is None else str(where)
    root = Path(os.path.expanduser(text))
    if text in builtin.NATIVE and not root.is_dir():
        return Look(text, "built-in", "a built-in set")
    if root.is_file() and root.suffix == ".npz":
        return Look(text, "arrays", "a file of arrays")
    if root.is_file() and root.suffix == ".json":
        return Look(text, "coco", "an annotation file")
    if root.is_file() and root.suffix in (".yaml", ".yml"):
        return Look(text, "yolo", "a list of image folders and classes")
    folders.require_folder(root, builtin.NATIVE)
    folders.class_folders(root)  # raises where the folder may not be listed
    found = {kind: why for kind, recognise in RECOGNISERS.items() if (why := recognise(root))}
    filled = "classes" in found and RIVALS.keys() & found.keys() and _holds_classes(root)
    if filled:  # a file that is no more than called as one of boxes makes them no boxes
        found = {kind: why for kind, why in found.items() if kind not in RIVALS or RIVALS[kind](root)}
    if labels is not None and ("masks" not in found or _is_table(Path(labels).expanduser(), root)):
        return Look(text, "table", f"{Path(labels).name} lists them")
    if not found:
        return Look(text, *_unknown(root))
    kind, why = next(iter(found.items()))
    if kind == "masks":
        return _masks_or_classes(text, root, why)
    also = ((other, its) for other, its in found.items() if other != kind and (other != "classes" or filled))
    return Look(text, kind, why, tuple(also))


def require(look: Look, task: TaskName, recipe: str) -> None:
    """UserError, naming the recipe that fits, where a place is for another task than the one that `recipe` is for.

    Of an unknown place the task's own reader says what is missing.
    """
    require_understood(look)
    if look.task is None or task in look.tasks or _unnamed(look, task):
        return
    raise UserError(
        f"{look}, and {recipe} is for {TASKS[task]}; use --recipe {EVERYDAY[look.task]}, or leave --recipe out"
    )


def require_understood(look: Look) -> None:
    """UserError for a place that no task's reader could say more about."""
    if not look.understood:
        raise UserError(str(look))


def _unnamed(look: Look, task: TaskName) -> bool:
    """Whether no place was named, and the task has no built-in set: its reader says what to name."""
    return look.kind == "built-in" and task != "classify"


def require_for_model(look: Look, task: TaskName, checkpoint: str | Path) -> None:
    """UserError where pictures are labelled for another task than a checkpoint's."""
    require_understood(look)
    if look.task is not None and task not in look.tasks and not _unnamed(look, task):
        raise UserError(f"{checkpoint} was trained for {TASKS[task]}, and {look}; judge it on labels of its own kind")


def _table(root: Path) -> str | None:
    return f"{labels_csv.TABLE_NAME} lists them" if labels_csv.find_table(root) is not None else None


def _is_table(path: Path, root: Path) -> bool:
    """Whether a file that the user named lists pictures with their labels, and not the classes of masks."""
    return path.is_file() and labels_csv.names_pictures(path, root)


def _cifar(root: Path) -> str | None:
    return "CIFAR's own batches" if builtin.cifar_folder(root) is not None else None


def _coco(root: Path) -> str | None:
    path = coco_files.first_file(root)
    return None if path is None else f"annotations in {readable(str(path.relative_to(root)))}"


def _yolo(root: Path) -> str | None:
    return "a YAML file names its pictures and classes" if yolo.is_yolo(root) else None


def _voc(root: Path) -> str | None:
    return "an XML file of boxes for each picture" if voc.is_voc(root) else None


def _masks(root: Path) -> str | None:
    """By the names of folders; whether they hold what they are called, `_masks_or_classes` sees."""
    if not mask_layouts.is_masked(root):
        return None
    try:
        found = mask_layouts.masked_folder(root)
    except UserError:
        return "no folder of masks is beside its pictures"
    pictures, labels = _shown(found.places)
    if pictures == labels:
        return "beside pictures lie those of their names and an ending such as _mask"
    return f"those of {_below(root, pictures)} are in {_below(root, labels)}"


def _below(root: Path, place: Path) -> str:
    return readable(str(place.relative_to(root)))


def _classes(root: Path) -> str | None:
    found = folders.split_folders(root)
    names, filled = _folders_of_classes(root)
    if not filled or any(_label_file(root, name) for name in [one for one in names if one not in filled][:MOST_INSIDE]):
        return None
    if len(names) == 1 and not found and len(folders.class_folders(names[0])) > 1:
        return None  # an archive that was unpacked into a folder of its own
    if not found:
        return "its folders hold pictures"
    *others, last = [folder.name for folder in found.values()]
    return (
        f"{', '.join(others)} and {last} hold a folder for each class"
        if others
        else f"{last} holds a folder for each class"
    )


def _folders_of_classes(root: Path) -> tuple[list[Path], list[Path]]:
    """The folders where those of classes would be, and those of them that hold pictures."""
    places = list(folders.split_folders(root).values()) or [root]
    names = [one for place in places for one in folders.class_folders(place)]
    return names, [name for name in names if any(_pictures(name, 1))]


def _holds_classes(root: Path) -> bool:
    """Whether two folders of pictures or more are called as classes are, and not as the parts of other layouts."""
    return sum(not PART.fullmatch(name.name.lower()) for name in _folders_of_classes(root)[1]) > 1


def _coco_has_boxes(root: Path) -> bool:
    path = coco_files.first_file(root)
    return path is not None and coco_files.names_boxes(path)


# What tells a folder of these kinds from one of classes with other files in it
RIVALS: dict[Kind, Callable[[Path], bool]] = {"coco": _coco_has_boxes, "voc": voc.has_pairs, "yolo": yolo.is_yolo}
RECOGNISERS: dict[Kind, Callable[[Path], str | None]] = {
    "table": _table, "cifar": _cifar, "coco": _coco, "yolo": _yolo, "voc": _voc, "masks": _masks, "classes": _classes,
}  # fmt: skip


def _shown(found: dict[str, tuple[Path, Path]]) -> tuple[Path, Path]:
    """Of the splits' folders of pictures and masks those of the training split, or the first."""
    return found.get("train") or next(iter(found.values()))


def _masks_or_classes(text: str, root: Path, why: str) -> Look:
    """Two folders called as pictures and masks are: whether they are that, or classes of these names.

    Masks have the names of pictures and look like masks. Two classes can be called "images" and "masks" all the same.
    """
    try:
        found = mask_layouts.masked_folder(root)
    except UserError:
        return Look(text, "masks", why)
    pictures, labels = _shown(found.places)
    classes = _classes(root)
    sample = {path.relative_to(pictures).with_suffix("").as_posix(): path for path in _pictures(pictures, SAMPLE)}
    side_by_side = pictures != labels and pictures.parent == labels.parent  # no class is divided into train and val
    if classes is None or not sample or not side_by_side or found.is_voc:
        return Look(text, "masks", why)
    there = {path.relative_to(labels).with_suffix("").as_posix(): path for path in _pictures(labels)}
    pairs = mask_layouts.match(sample, there, pictures).rows
    paired = len(pairs) >= PAIRED * len(sample)
    drawn = _drawn([mask for _, _, mask in pairs[:OPENED]] or list(there.values())[:OPENED])
    if drawn and (paired or not _drawn(list(sample.values())[:OPENED])):
        return Look(text, "masks", why)
    names = f"{pictures.name} and {labels.name}"
    reason = f"those of {names} look alike" if paired else f"those of {names} have other names"
    return Look(text, "classes", f"{reason}, so they are classes and not masks", (("masks", why),))


def _drawn(paths: list[Path]) -> bool:
    """Whether most of some pictures look like masks: one value over whole areas, or few values in all."""
    votes = []
    for path in paths:
        try:
            pixels = np.asarray(open_image(path))
        except BadImage:
            continue
        flat = pixels.shape[1] > 1 and (pixels[:, 1:] == pixels[:, :-1]).all(-1).mean() >= FLAT
        some = pixels.reshape(-1, 3)[:: max(1, pixels.size // 3 // MOST_FILES)]
        votes.append(flat or len(np.unique(some, axis=0)) <= FEW_COLOURS)
    return bool(votes) and sum(votes) * 2 > len(votes)


def _label_file(root: Path, folder: Path) -> Path | None:
    """A label file below `folder` that has a picture's name, in its own folder or one beside any of those above it."""
    found = _files(folder, lambda name: os.path.splitext(name)[1].lower() in LABEL_FILES)
    for path in itertools.islice(found, OPENED):
        parts = path.relative_to(root).with_suffix("").parts
        for level, part in enumerate(parts[:-1]):
            above = root.joinpath(*parts[:level])
            for beside in [above / part, *folders.class_folders(above)[:MOST_INSIDE]]:
                stem = beside.joinpath(*parts[level + 1 :])
                if any(stem.with_name(stem.name + suffix).is_file() for suffix in IMAGE_SUFFIXES):
                    return path
        if any(path.with_suffix(suffix).is_file() for suffix in IMAGE_SUFFIXES):
            return path
    return None


def _pictures(folder: Path, most: int | None = None) -> Iterator[Path]:
    """The first pictures below a folder, in no order."""
    for count, path in enumerate(_files(folder, lambda name: os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES)):
        if count == most:
            return
        yield path


def _files(folder: Path, wanted: Callable[[str], bool]) -> Iterator[Path]:
    """Visible files below a folder whose names are wanted; links to folders are not followed, what cannot be listed is
    passed over."""
    for place, inside, names in os.walk(folder):
        inside[:] = [name for name in inside if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith(".") and wanted(name))


def _unknown(root: Path) -> tuple[Kind, str]:
    """Why a folder is nothing that is known, and what would make it so."""
    for inner in folders.class_folders(root)[:MOST_INSIDE]:
        if kind := next((kind for kind, seen in RECOGNISERS.items() if seen(inner)), None):
            return "inside", f"{readable(inner.name)} in it holds {KINDS[kind][1]}: pass that folder"
    if path := _label_file(root, root):
        suffix = path.suffix.lower()
        return "labels", f"there are pictures and {suffix} files of their names, {LABEL_FILES[suffix]}"
    suffixes = Counter(path.suffix.lower() for path in itertools.islice(_files(root, lambda _: True), MOST_FILES))
    if any(suffixes[suffix] for suffix in IMAGE_SUFFIXES):
        return "unknown", "there are pictures, but neither folders of classes nor labels, boxes or masks"
    return "unknown", f"there are no pictures among its files{': ' + listed(sorted(suffixes)) if suffixes else ''}"
