"""Objects in the format of PASCAL VOC: an XML file of boxes for each picture, lists of pictures for each split."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

XML_FOLDERS = ("annotations", "train", "training")  # in lower case; where the XML files of VOC and of exports lie
PEEK = 100  # entries of a folder that tell what it holds


def is_voc(root: Path) -> bool:
    """Whether a folder has XML files where VOC and its exports have them; only names are read."""
    return root.is_dir() and any(_has_xml(folder) for folder in (root, *_inside(root)))


def _inside(root: Path) -> Iterator[Path]:
    """The folders of XML files, also below VOCdevkit/VOC2012."""
    for place in (root, *root.glob("VOC*"), *root.glob("VOCdevkit/VOC*")):
        if place.is_dir():
            yield from (one for one in sorted(place.iterdir()) if one.name.lower() in XML_FOLDERS and one.is_dir())
            yield from (one for one in sorted(place.glob("train*/[Aa]nnotations")) if one.is_dir())


def _has_xml(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, PEEK)]
    except OSError:
        return False
    return any(name.lower().endswith(".xml") and not name.startswith(".") for name in names)
