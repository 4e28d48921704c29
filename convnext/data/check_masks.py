"""Are these masks fit to learn segmentation from? Every mask is read, none raises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import UserError
from .duplicates import Picture, Progress, inspected, repeated
from .findings import Counts, FolderReport, Problem
from .images import IMAGE_SUFFIXES, BadImage, read_header, readable
from .labelled import listed
from .mask_coding import IGNORED, MaskCoding, read_mask
from .mask_scan import require_one_size
from .masks import IMAGE_FOLDERS, Pair, coding_for, match, pictures_of, split_folders


def is_masked(root: Path) -> bool:
    """Whether a folder has pictures and masks in a known layout, or nothing but pictures in a part of one."""
    try:
        found = split_folders(root)
    except UserError:
        return root.is_dir() and _only_images(root)
    return any(path.suffix.lower() in IMAGE_SUFFIXES for _, masks in found.values() for path in masks.rglob("*"))


def _only_images(root: Path) -> bool:
    visible = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return len(visible) == 1 and visible[0].name in IMAGE_FOLDERS


def check_masks(root: Path, classes: str | Path | None = None, progress: Progress | None = None) -> FolderReport:
    """The report on a folder of images with masks. A class is counted once for each mask that shows it.

    `classes` is a file that names them, as `open_masks` takes it.
    """
    try:
        found = split_folders(root)
    except UserError as error:
        return FolderReport(readable(str(root)), {}, [Problem("no mask", ".", str(error))], "classes shown")
    problems: list[Problem] = []
    if found.keys() & {"train", "val"} == {"train"} and "test" not in found:
        problems.append(Problem("missing split", ".", "there are no images with masks for val"))
    pairs: dict[str, list[Pair]] = {}
    for split, (images, masks) in found.items():
        try:
            rows, lacking, unused = match(pictures_of(images), pictures_of(masks), images)
        except UserError as error:
            problems.append(Problem("bad annotations", split or ".", str(error)))
            continue
        pairs[split] = rows
        problems += [Problem("no mask", name, "it has no mask of its name") for name in lacking]
        problems += [Problem("not an image", name, "a mask without an image") for name in unused]
    coding: MaskCoding | None = None
    try:
        if first := next(filter(None, pairs.values()), None):  # the training images, where there are any
            coding = coding_for(root, found, classes, (), first)
    except UserError as error:
        problems.append(Problem("bad mask", ".", str(error)))
    pictures = [Picture(split or "all", "", image, name) for split, rows in pairs.items() for name, image, _ in rows]
    facts = inspected(pictures, progress)
    problems += [problem for fact in facts for problem in fact.problems]
    problems += repeated(pictures, facts)
    counts: Counts = {}
    for split, rows in pairs.items():
        shown: Counter[str] = Counter()
        problems += [problem for row in rows for problem in _pair(*row, coding, shown)]
        if coding is None:
            continue
        counts[split or "all"] = {name: shown[name] for name in coding.classes}
        if rows and not shown and split != "test":
            problems.append(Problem("bad mask", split or ".", f"none of its {len(rows):,} masks labels a pixel"))
    problems += _unseen(counts)
    problems.sort(key=lambda problem: problem.severity != "error")
    return FolderReport(readable(str(root)), counts, problems, "classes shown")


def _pair(name: str, image: Path, mask: Path, coding: MaskCoding | None, shown: Counter[str]) -> Iterator[Problem]:
    """What is wrong with a picture and its mask; without a coding, the mask's values are not looked at."""
    try:
        read_header(image)
    except BadImage:  # which the look at all pictures reports
        return
    try:
        read_header(mask)
    except BadImage as error:
        yield Problem("bad mask" if error.kind == "corrupt" else error.kind, name, str(error))
        return
    try:
        require_one_size(image, mask)
    except BadImage as error:
        yield Problem("sizes differ", name, str(error))
    if coding is None:
        return
    try:
        labels = read_mask(mask, coding)
    except BadImage as error:
        yield Problem("bad mask" if error.kind == "corrupt" else error.kind, name, str(error))
        return
    present = np.unique(labels[labels != IGNORED]).tolist()
    if not present:
        yield Problem("no label", name, "nothing is learned from it: its mask labels no pixel")
    shown.update(coding.classes[k] for k in present)


def _unseen(counts: Counts) -> Iterator[Problem]:
    learned = counts.get("train", counts.get("all", {}))
    if unseen := [name for name, times in learned.items() if not times]:
        yield Problem("unseen class", ".", f"no training mask shows {len(unseen)} classes: {listed(unseen)}")
