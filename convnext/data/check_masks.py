"""Are these masks fit to learn segmentation from? Every mask is read, none raises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import UserError
from .findings import Counts, FolderReport, Problem
from .images import IMAGE_SUFFIXES, BadImage, read_header, readable
from .labelled import listed
from .mask_coding import IGNORED, MaskCoding, read_mask
from .masks import coding_for, match, pictures_of, split_folders


def is_masked(root: Path) -> bool:
    """Whether a folder has pictures and masks in a known layout."""
    try:
        found = split_folders(root)
    except UserError:
        return False
    return any(path.suffix.lower() in IMAGE_SUFFIXES for _, masks in found.values() for path in masks.rglob("*"))


def check_masks(root: Path) -> FolderReport:
    """The report on a folder of images with masks. A class is counted once for each mask that shows it."""
    found = split_folders(root)
    problems: list[Problem] = []
    counts: Counts = {}
    if found.keys() & {"train", "val"} == {"train"} and "test" not in found:
        problems.append(Problem("missing split", ".", "there are no images for val"))
    coding: MaskCoding | None = None
    for split, (images, masks) in found.items():
        try:
            rows, lacking, unused = match(pictures_of(images), pictures_of(masks), images)
        except UserError as error:
            problems.append(Problem("bad annotations", split or ".", str(error)))
            continue
        problems += [Problem("no mask", name, "it has no mask of its name") for name in lacking]
        problems += [Problem("not an image", name, "a mask without an image") for name in unused]
        if coding is None and rows:
            try:
                coding = coding_for(root, found, None, (), rows)
            except UserError as error:
                problems.append(Problem("bad mask", ".", str(error)))
        if coding is not None:
            shown: Counter[str] = Counter()
            for name, image, mask in rows:
                problems += _pair(name, image, mask, coding, shown)
            counts[split or "all"] = {name: shown[name] for name in coding.classes}
    problems += _unseen(counts)
    problems.sort(key=lambda problem: problem.severity != "error")
    return FolderReport(readable(str(root)), counts, problems, "classes shown")


def _pair(name: str, image: Path, mask: Path, coding: MaskCoding, shown: Counter[str]) -> Iterator[Problem]:
    try:
        header = read_header(image)
    except BadImage as error:
        yield Problem(error.kind, name, str(error))
        return
    try:
        labels = read_mask(mask, coding)
    except BadImage as error:
        yield Problem("bad mask" if error.kind == "corrupt" else error.kind, name, str(error))
        return
    if labels.shape not in (header.size, header.size[::-1]):
        sizes = f"{header.size[0]} x {header.size[1]} pixels, its mask {labels.shape[1]} x {labels.shape[0]}"
        yield Problem("sizes differ", name, f"it has {sizes}")
    present = np.unique(labels[labels != IGNORED]).tolist()
    if not present:
        yield Problem("no label", name, "nothing is learned from it: its mask labels no pixel")
    shown.update(coding.classes[k] for k in present)


def _unseen(counts: Counts) -> Iterator[Problem]:
    learned = counts.get("train", counts.get("all", {}))
    if unseen := [name for name, times in learned.items() if not times]:
        yield Problem("unseen class", ".", f"no training mask shows {len(unseen)} classes: {listed(unseen)}")
