"""Where the annotation files of a folder in COCO's format lie, and where their pictures do."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

from ..data.folders import SPLIT_NAMES
from ..data.images import readable
from ..data.source import listed
from ..errors import UserError
from .annotations import Annotations, Fault, Layout
from .coco_format import REQUIRED, UncheckedContent

HEAD = 1 << 16  # bytes of a JSON file, from its start and its end, in which these keys are looked for
KEYS = tuple(f'"{part}"'.encode() for part in REQUIRED)
BOX = b'"bbox"'  # of an object; files that list pictures and classes alone have none
SHOWN = 3  # pictures that a message names


def is_coco(root: Path) -> bool:
    """Whether a path is an annotation file, or a folder that has some in a known layout; only their ends are read."""
    if root.is_file():
        return root.suffix == ".json" and _looks_like_coco(root)
    return first_file(root) is not None


def first_file(root: Path) -> Path | None:
    """The annotation file by which a folder is known to be in COCO's format."""
    candidates = [path for split in ("train", "val") for path in _candidates(root, split)]
    alone = _lone_files(root)
    known = (path for path in candidates if path.name.startswith("instances_") or _looks_like_coco(path))
    return next(known, alone[0] if len(alone) == 1 else None)


def coco_layout(root: Path) -> Layout:
    """A file's, or a folder's in a known layout. Raises UserError where there is no file to learn from, or a choice."""
    if root.is_file():
        return Layout("coco", {"train": partial(read_file, root)})
    found, notes = {}, []
    for split in SPLIT_NAMES:
        try:
            path = annotation_file(root, split)
        except UserError as error:
            if split != "test":
                raise
            notes.append(f"the test split is not judged: {error}")
            continue
        if path is not None:
            found[split] = partial(read_file, path)
    if "train" not in found:
        raise UserError(
            f"{readable(root)} has no COCO annotations for train: looked for annotations/instances_train*.json, and "
            "for a JSON file in train/; or pass one annotation file"
        )
    return Layout("coco", found, tuple(notes))


def annotation_file(root: Path, split: str) -> Path | None:
    """A split's file in a folder, in a known layout. Raises UserError where there are several."""
    if not root.is_dir():
        raise UserError(f"there is no folder or annotation file {readable(root)}; check the path")
    found = None
    for name in SPLIT_NAMES[split]:
        candidates = _of_name(root, name)
        if len(candidates) > 1:
            raise UserError(
                f"{readable(root)} has several annotation files for {split}: "
                f"{listed([path.name for path in candidates])}; keep one"
            )
        found = found or next(iter(candidates), None)
    if found is None and split == "train" and not _candidates(root, "val"):
        alone = _lone_files(root)
        found = alone[0] if len(alone) == 1 else None
    return found


def names_boxes(path: Path) -> bool:
    """Whether a JSON file's first or last bytes have a box in them."""
    return BOX in _ends(path)


def _looks_like_coco(path: Path) -> bool:
    """Whether a JSON file's first or last bytes have the keys that make it an annotation file; in a large one a key may
    be between them."""
    ends = _ends(path)
    present = sum(key in ends for key in (*KEYS, BOX))
    return ends.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and present > 1


def _ends(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            first = handle.read(HEAD)
            handle.seek(max(len(first), path.stat().st_size - HEAD))
            return first + handle.read(HEAD)
    except OSError:
        return b""


def _candidates(root: Path, split: str) -> list[Path]:
    return [path for name in SPLIT_NAMES[split] for path in _of_name(root, name)]


def _of_name(root: Path, name: str) -> list[Path]:
    """The annotation files of a split that is called `name`."""
    patterns = (f"annotations/instances_{name}*.json", f"{name}/*.json", f"annotations/{name}*.json")
    found = ([path for path in sorted(root.glob(pattern)) if path.name[0] != "."] for pattern in patterns)
    return next(filter(None, found), [])


def _lone_files(root: Path) -> list[Path]:
    """Annotation files that are of no split: CVAT's instances_default.json, Label Studio's result.json."""
    places = [path for pattern in ("annotations/*.json", "*.json") for path in sorted(root.glob(pattern))]
    return [path for path in places if path.name[0] != "." and _looks_like_coco(path)]


def read_file(path: Path, fault: Fault | None = None) -> Annotations:
    """A file's lists of entries, none of them empty; the entries themselves are not looked at.

    Raises UserError for a file that is not JSON, or lacks a list.
    """
    try:
        raw: object = json.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({str(error)[:80]}); export the annotations again") from None
    for part in REQUIRED:
        rows = raw.get(part) if isinstance(raw, dict) else None
        if not isinstance(rows, list) or not rows:
            raise UserError(f"{path} has no {part}; a COCO file lists images, annotations and categories")
    content = cast("UncheckedContent", raw)  # it has the three lists
    return Annotations(path, with_slashes(path, _without_placeholder(content)))


def _without_placeholder(raw: UncheckedContent) -> UncheckedContent:
    """Roboflow's first category is what the others belong to, and no object's: it is no class."""
    rows = [row for row in raw["categories"] if isinstance(row, dict)]
    used = {str(row.get("category_id")) for row in raw["annotations"] if isinstance(row, dict)}
    above = {str(row["supercategory"]) for row in rows if row.get("supercategory")}

    def of_none(row: dict[str, object]) -> bool:
        return str(row.get("supercategory")).lower() in ("none", "", str(row.get("name")).lower())

    empty = [row for row in rows if str(row.get("name")) in above and of_none(row) and str(row.get("id")) not in used]
    kept = [row for row in raw["categories"] if row not in empty]
    return raw | {"categories": kept} if empty and kept else raw


def image_folder(path: Path, names: Sequence[str]) -> Path:
    """The folder below which most of the pictures lie, from what the annotation file is called and where it is."""
    parent, stem = path.parent, path.stem.removeprefix("instances_")
    above = parent.parent
    own = (above / stem, above / "images" / stem, above / stem / "images", parent / stem)
    candidates = (*own, above / "images", parent / "images", parent, above)
    return max(candidates, key=lambda folder: sum(os.path.isfile(folder / name) for name in names))


def complete_folder(path: Path, names: Sequence[str]) -> Path:
    """The folder that has all the pictures; UserError, naming some, when they are not there."""
    folder = image_folder(path, names)
    if missing := [name for name in names if not os.path.isfile(folder / name)]:
        lacking = f"{len(missing):,} of the {len(names):,} images of {path} are not in {readable(folder)}"
        raise UserError(f"{lacking}: {listed(missing, SHOWN)}; put them there, or take them out of the file")
    return folder


def with_slashes(path: Path, content: UncheckedContent) -> UncheckedContent:
    """`content` with the file names that Windows wrote as this system reads them, unless a file is really so called."""
    rows = content["images"]
    names = [row.get("file_name") for row in rows if isinstance(row, dict)]
    odd = [name for name in names if isinstance(name, str) and "\\" in name]
    if not odd or os.path.isfile(image_folder(path, odd) / odd[0]):
        return content
    return content | {
        "images": [
            row | {"file_name": str(row["file_name"]).replace("\\", "/")}
            if isinstance(row, dict) and isinstance(row.get("file_name"), str)
            else row
            for row in rows
        ]
    }
