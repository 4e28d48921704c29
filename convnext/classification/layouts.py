"""How a place is recognised as one of classes: folders of pictures, a table of labels, CIFAR's batches, arrays."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ..data import folders
from ..data.images import IMAGE_SUFFIXES
from ..data.layouts import Layout
from ..image_level.table import TABLE_NAME, find_table, read_rows
from . import builtin

OPENED = 3  # files of labels that are looked for pictures
MOST_INSIDE = 20  # folders that are looked into
LABEL_FILES = {  # beside pictures, where no layout is recognised
    ".txt": "which may be labels in YOLO's format: they need a data.yaml that names train, val and names",
    ".xml": "which may be PASCAL VOC's: they belong into Annotations/, beside JPEGImages/",
    ".json": "none of which is one annotation file in COCO's format: export them as that",
}


def _table(root: Path) -> str | None:
    return f"{TABLE_NAME} lists them" if find_table(root) is not None else None


def _named_table(table: Path, root: Path) -> str | None:
    return f"{table.name} lists them" if read_rows(table).names_pictures(root) else None


def _cifar(root: Path) -> str | None:
    return "CIFAR's own batches" if builtin.cifar_folder(root) is not None else None


def seen_classes(root: Path) -> str | None:
    """Why the folders of a place are thought to be those of classes; None: they are not."""
    found = folders.split_folders(root)
    names, filled = folders_of_classes(root)
    if not filled or any(label_file(root, name) for name in [one for one in names if one not in filled][:MOST_INSIDE]):
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


def folders_of_classes(root: Path) -> tuple[list[Path], list[Path]]:
    """The folders where those of classes would be, and those of them that hold pictures."""
    places = list(folders.split_folders(root).values()) or [root]
    names = [one for place in places for one in folders.class_folders(place)]
    return names, [name for name in names if any(pictures_below(name, 1))]


def label_file(root: Path, folder: Path) -> Path | None:
    """A label file below `folder` that has a picture's name, in its own folder or one beside any of those above it."""
    found = files_below(folder, lambda name: os.path.splitext(name)[1].lower() in LABEL_FILES)
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


def pictures_below(folder: Path, most: int | None = None) -> Iterator[Path]:
    """The first pictures below a folder, in no order."""
    for count, path in enumerate(files_below(folder, lambda name: os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES)):
        if count == most:
            return
        yield path


def files_below(folder: Path, wanted: Callable[[str], bool]) -> Iterator[Path]:
    """Visible files below a folder whose names are wanted; links to folders are not followed, what cannot be listed is
    passed over."""
    for place, inside, names in os.walk(folder):
        inside[:] = [name for name in inside if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith(".") and wanted(name))


EACH_ONE = "pictures of one class each"
LAYOUTS = (
    Layout("built-in", EACH_ONE),
    Layout("arrays", EACH_ONE, suffixes=(".npz",), file_why="a file of arrays"),
    Layout("table", "pictures with labels in a table", 1, _table, _named_table),
    Layout("cifar", EACH_ONE, 2, _cifar),
    Layout("classes", "a folder of pictures for each class", 9, seen_classes),
)
