"""Are these masks fit to learn segmentation from? Every mask is read, none raises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ..data.duplicates import Picture, Progress, inspected, levels_of, repeated
from ..data.images import BadImage, read_header, readable
from ..data.report import SEVERITIES, Counts, FolderReport, Problem, of_test
from ..data.source import listed
from ..errors import UserError
from .data import how_found, may_be_binary, named_binary, named_coding
from .mask_coding import IGNORED, MaskCoding, read_mask
from .mask_layouts import MaskedFolder, Part, masked_folder
from .mask_scan import require_one_size
from .mask_values import coding_of_values, values_of

UNIT = "masks that show it"  # what is counted of a class


def check_masks(root: Path, classes: str | Path | None = None, progress: Progress | None = None) -> FolderReport:
    """The report on a folder of images with masks. A class is counted once for each mask that shows it.

    `classes` is a file that names them, as `open_masks` takes it.
    """
    try:
        found = masked_folder(root)
    except UserError as error:
        return FolderReport(readable(str(root)), {}, [Problem("no mask", ".", str(error))], UNIT)
    problems: list[Problem] = []
    if not found.places.keys() & {"train", ""}:
        problems.append(Problem("missing split", ".", "there are no images with masks for train"))
    parts: dict[str, Part] = {}
    for split in found.places:
        try:
            part = found.part(split)
        except UserError as error:
            problem = Problem("bad annotations", split or ".", str(error))
            problems.append(of_test(problem) if split == "test" else problem)
            continue
        parts[split] = part
        problems += [Problem("image without mask", name, "left out: no mask has its name") for name in part.lacking]
        problems += [Problem("not an image", name, "a mask without an image") for name in part.unused]
    problems += _of_pictures(parts, progress)
    if parts.keys() & {"train", ""} and "val" not in found.places and len(next(iter(parts.values())).rows) == 1:
        problems.append(Problem("no images", ".", "one image cannot be both learned from and judged on; add more"))
    coding, said, agree = _coding(found, classes, list(parts.values()))
    if not agree and "test" in parts and len(parts) > 1:  # as a run does, which then does not judge the test split
        learned = [part for split, part in parts.items() if split != "test"]
        without, its, agree = _coding(found, classes, learned)
        if agree:
            coding, said = without, [*(of_test(one) for one in said if one.severity == "error"), *its]
    problems += said
    counts: Counts = {}
    for split, part in parts.items():
        shown: Counter[str] = Counter()
        own = [problem for row in part.rows for problem in _pair(*row, coding, shown)]
        problems += map(of_test, own) if split == "test" else own
        if coding is None:
            continue
        counts[split or "all"] = {name: shown[name] for name in coding.classes}
        if part.rows and not shown:
            problem = Problem("bad mask", split or ".", f"none of its {len(part.rows):,} masks labels a pixel")
            problems.append(of_test(problem) if split == "test" else problem)
    problems += _unseen(counts)
    problems.sort(key=lambda problem: SEVERITIES.index(problem.severity))
    images = {split or "all": len(part.rows) for split, part in parts.items()}
    return FolderReport(readable(str(root)), counts, problems, UNIT, images)


def _of_pictures(parts: Mapping[str, Part], progress: Progress | None) -> list[Problem]:
    """What is to be said of the pictures themselves, whatever their masks hold."""
    pictures = [Picture(split or "all", "", path, name) for split, part in parts.items() for name, path, _ in part.rows]
    levels, problems = levels_of([picture for picture in pictures if picture.split in ("train", "all")])
    facts = inspected(pictures, progress, levels=levels)
    own = [
        of_test(problem) if picture.split == "test" else problem
        for picture, fact in zip(pictures, facts, strict=True)
        for problem in fact.problems
    ]
    return [*problems, *own, *repeated(pictures, facts)]


def _coding(
    found: MaskedFolder, classes: str | Path | None, parts: list[Part]
) -> tuple[MaskCoding | None, list[Problem], bool]:
    """What the masks hold, and what is to be said of it: where no file names the classes, the values that they have.

    At last whether they agree: that none is left out for what it holds.
    """
    said = []
    try:
        coding = named_coding(found, classes, ())
        if coding is not None and not may_be_binary(coding):
            return coding, [], True
        values, bad = values_of([mask for part in parts for _, _, mask in part.rows])
        if coding is not None:
            return named_binary(coding, values), [], True
        if values.read:
            said = [Problem("mask values", ".", f"no file names the classes; {values}")]
            coding = coding_of_values(found.root, values, voc=found.is_voc)
            if coding.threshold is not None:
                said = [Problem("mask values", ".", f"no file names the classes; {how_found(values, coding)[2:-1]}")]
            return coding, said, not bad
        return None, [Problem("bad mask", ".", str(error)) for error in bad[:1]], False
    except UserError as error:
        return None, [*said, Problem("bad mask", ".", str(error))], False


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
