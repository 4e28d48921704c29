"""A folder of annotated pictures, whatever the format: recognised by its names, then read split by split."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..data.images import readable
from ..errors import UserError
from .annotations import Annotations, Layout, refuse
from .coco_files import coco_layout, image_folder, is_coco
from .coco_format import sound_images
from .voc import is_voc, voc_layout
from .yolo import is_yolo, yolo_layout

FORMATS = (
    "COCO's JSON files (annotations/instances_train*.json, or one in train/ and one in valid/), YOLO's data.yaml, or "
    "PASCAL VOC's XML files"
)


def layout_of(root: Path) -> Layout:
    """What a folder or file is, and how to read each of its splits; COCO's files come first where there are several
    formats. Raises UserError where it is none, saying what was looked for."""
    if not root.exists():
        raise UserError(f"there is no folder or annotation file {readable(root)}; check the path")
    if is_coco(root) or root.suffix == ".json":
        return coco_layout(root)
    if is_yolo(root):
        return yolo_layout(root)
    if is_voc(root):
        return voc_layout(root)
    raise UserError(
        f"{readable(root)} has no annotations of objects: looked for {FORMATS}; or pass one annotation file"
    )


def names_elsewhere(layout: Layout, found: Annotations) -> list[str]:
    """Names of the pictures in the splits other than `found`, as `Pictures.names` has them."""
    names: list[str] = []
    for read in layout.splits.values():
        with contextlib.suppress(UserError):  # what is wrong with them is no matter here
            other = read(refuse)
            own = [str(row["file_name"]) for row in sound_images(other.content)]
            if other.content["images"] != found.content["images"]:
                folder = image_folder(other.where, own) if other.folder is None else other.folder
                names += [f"{folder.name}/{name}" for name in own]
    return names
