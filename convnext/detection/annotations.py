"""Objects of pictures as they were found on disk, in whatever format: always as the lists of a COCO annotation file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NoReturn

from ..data.images import IMAGE_SUFFIXES, BadImage, read_header
from ..errors import UserError
from .coco_format import UncheckedContent

SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height

BACKGROUND: Final = "background"  # of an image's entry: it was said to hold nothing, and not forgotten

Fault = Callable[[str, str, str], None]  # takes a finding's kind, what it is about, and the whole sentence
Size = tuple[int, int]  # width, height


def refuse(kind: str, name: str, sentence: str) -> NoReturn:
    """What becomes of a fault where the data is to be learned from."""
    raise UserError(sentence)


@dataclass(frozen=True)
class Annotations:
    """One split: COCO's `content`, and the folder that file names start from (None: it is to be looked for)."""

    where: Path  # the file or folder that messages name
    content: UncheckedContent
    folder: Path | None = None
    measured: bool = False  # whether sizes were read from the pictures themselves
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """An annotated folder before its annotations are read: what it is, and how to read each split that it has."""

    kind: Literal["coco", "yolo", "voc"]
    splits: Mapping[str, Callable[[Fault], Annotations]]
    notes: tuple[str, ...] = ()


def sizes_of_pictures(pictures: Sequence[Path], fault: Fault) -> list[Size | None]:
    """Width and height as viewers show each picture; None, and a fault, where its header cannot be read."""

    def size_of(path: Path) -> Size | BadImage:
        try:
            header = read_header(path)
        except BadImage as error:
            return error
        return header.size[::-1] if header.orientation in SIDEWAYS else header.size

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(size_of, pictures))
    for path, size in zip(pictures, found, strict=True):
        if isinstance(size, BadImage):
            fault(size.kind, path.name, str(size))
    return [None if isinstance(size, BadImage) else size for size in found]


def visible_pictures(folder: Path, *, deep: bool = True) -> list[Path]:
    """The image files in a folder (`deep`: and below it), in order; what begins with a dot is no picture."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if name[0] != ".") if deep else []
        found += [
            Path(place, name)
            for name in names
            if name[0] != "." and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)


def name_below(root: Path, picture: Path) -> str:
    """What a picture is called: its path below `root`, or the whole path of one that lies elsewhere."""
    inside = os.path.relpath(picture, root)
    return str(picture.resolve()) if inside.startswith("..") else Path(inside).as_posix()
