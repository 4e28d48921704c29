"""Annotated pictures, of any classes: read from COCO's, YOLO's or PASCAL VOC's annotations, checked, split.

Boxes here are (x1, y1, x2, y2) in pixels, where COCO has (x, y, width, height). G objects of an image.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from ..data.images import Header, read_header, readable
from ..data.learned import NOTHING_LEARNED, UNTOLD, LearnedBy, to_judge
from ..data.source import held_out, listed
from ..data.splits import Split, fingerprint
from ..errors import UserError
from .annotated import layout_of, names_elsewhere
from .annotations import SIDEWAYS, Annotations, Layout, refuse
from .coco_files import complete_folder, read_file
from .coco_format import (
    REQUIRED,
    AnnotationRow,
    CocoContent,
    Segmentation,
    called,
    fault_of,
    is_crowd,
    outline_fault,
    polygon_fault,
    why_useless,
)
from .source import DetectionSource, DetectionSplits, Objects, Outline

REMEDY = "mend it or export it again"
SHOWN = 3  # pictures that a message names


def open_detection(where: str | Path, *, val_fraction: float = 0.2, keep_empty: bool = False) -> DetectionSplits:
    """The splits of a folder of annotated pictures, or of one annotation file, in any format that is known.

    Where there is no validation split, a share of the training images is held out by their names. Images without
    objects are left out of training unless `keep_empty`. Raises UserError for whatever makes the data unfit.
    """
    root = Path(where).expanduser()
    layout = layout_of(root)
    train, notes = source_of(layout.splits["train"](refuse)), list(layout.notes)
    if "val" in layout.splits:
        val = renumbered(source_of(layout.splits["val"](refuse)), train)
    else:
        held = held_out(train.ids, val_fraction)
        lone = layout.kind == "coco" and root.is_file()  # which has no place for one
        whole, said = (train, "" if lone else f"there is no validation split: {len(held):,} images are held out")
        train, val = whole.take([i for i in range(len(whole)) if i not in held]), whole.take(sorted(held))
        notes += [said] if said else []
    test, why = _test_split(layout, train, val)
    notes += [why] if why else []
    empty = [i for i, o in enumerate(train.objects) if not len(o.labels)]
    if len(empty) == len(train):
        reasons = "".join(f"; {text}" for text in train.remarks)
        raise UserError(
            f"{readable(root)} has no object to learn from in {len(train)} training images{reasons}; annotate some"
        )
    if not any(len(o.labels) for o in val.objects):
        reasons = "".join(f"; {text}" for text in val.remarks)
        raise UserError(
            f"{readable(root)} has no object to be judged on in {len(val)} validation images{reasons}; "
            "annotate some, or hold out more"
        )
    note = (
        f"{len(train):,} training and {len(val):,} validation images, "
        f"{sum(len(o.labels) for o in train.objects):,} and {val.judged:,} objects of "
        f"{len(train.classes)} classes"
    )
    if test is not None:
        note += f", {len(test):,} test images for the end"
    if empty and not keep_empty:
        train = train.take([i for i in range(len(train)) if len(train.objects[i].labels)])
        note += f"; {len(empty):,} training images without objects left out"
    # Figures are COCO's own, for which every object of the file counts (detection/task.py): so it is said, not changed.
    remarks = [f"train: {text}, left out" for text in train.remarks]
    remarks += [f"val: {text}, judged all the same, as COCO's evaluation does" for text in val.notes]
    remarks += [f"{name}: {text}" for name, one in (("train", train), ("val", val)) for text in one.reading]
    return DetectionSplits(train, val, str(where), "; ".join((f"{readable(root)}: {note}", *remarks, *notes)), test)


def _test_split(layout: Layout, train: DetectionSource, val: DetectionSource) -> tuple[DetectionSource | None, str]:
    """The test split where there is a sound one, or why what is called so is not: it must not stop a training run.

    Pictures that choose the weights are left out of it: what judges in the end has chosen nothing.
    """
    if "test" not in layout.splits:
        return None, ""
    try:
        test = renumbered(source_of(layout.splits["test"](refuse)), train)
    except UserError as error:
        return None, f"the test split is not judged: {error}"
    chosen, note = set(_paths(val)), ""
    own = [i for i, path in enumerate(_paths(test)) if path not in chosen]
    if not own:
        return None, f"the {len(test):,} pictures of test are those of val: nothing is kept for the end"
    if len(own) < len(test):
        shared = len(test) - len(own)
        note = f"{shared:,} of the {len(test):,} pictures of test are in val as well and judged there alone"
        test = test.take(own)
    return (test, note) if test.judged else (None, "the test split has no objects and is not judged")


def _paths(source: DetectionSource) -> list[str]:
    """Where each picture lies, whatever the annotations call it."""
    return [os.path.realpath(source.folder / name) for name in source.ids]


def renumbered(source: DetectionSource, like: DetectionSource) -> DetectionSource:
    """`source` with the classes and category ids of another split, matched by name.

    Raises UserError where it has objects of a class that the other does not have.
    """
    if (source.classes, source.category_ids) == (like.classes, like.category_ids):
        return source
    used = {row["category_id"] for row in source.raw["annotations"]}
    pairs = list(zip(source.category_ids, source.classes, strict=True))
    if unknown := sorted(name for number, name in pairs if name not in like.classes and number in used):
        raise UserError(
            f"{source.where} has objects of classes that {like.where} does not list: {listed(unknown)}; "
            "make their categories agree"
        )
    place = {name: i for i, name in enumerate(like.classes)}
    new = np.array([place.get(name, -1) for name in source.classes], dtype=np.int64)
    number = {old: like.category_ids[place[name]] for old, name in pairs if name in place}
    annotations = [row | {"category_id": number[row["category_id"]]} for row in source.raw["annotations"]]
    raw = source.raw | {"annotations": annotations, "categories": like.raw["categories"]}
    objects = tuple(replace(one, labels=new[one.labels]) for one in source.objects)
    return replace(source, classes=like.classes, category_ids=like.category_ids, raw=raw, objects=objects)


def open_detection_for_judging(
    where: str | Path, split: Split = "val", *, learned: LearnedBy = NOTHING_LEARNED
) -> tuple[DetectionSource, str]:
    """The annotated pictures to judge a detector on, and a sentence that says which they are.

    They are those of one split of a folder or of one annotation file, but for those that the detector has
    `learned` from, as far as its file knows them. Raises UserError as `open_detection`, when a folder is
    asked for all, or when no picture is left.
    """
    known, trained_on = learned.known, learned.trained_on
    root = Path(where).expanduser()
    layout = layout_of(root)
    alone = layout.splits.keys() == {"train"}
    if not alone and split == "all":
        raise UserError(f"{readable(root)} has splits of its own; choose --split {' or '.join(layout.splits)}")
    if split == "test" and "test" not in layout.splits:
        raise UserError(f"{readable(root)} has no test split; choose --split val")
    whole = split in ("all", "val") and split not in layout.splits  # then a share of the training images is held out
    found = layout.splits["train" if whole else split](refuse)
    source = source_of(found)
    path = found.where
    note = f"{len(source):,} images of {readable(path)}"
    if split == "all" or (known is None and trained_on is None):
        return source, note
    if known is not None:
        chosen, said = to_judge(known, source, split, readable(path), note, names_elsewhere(layout, found))
        return source.take(chosen), said
    if "val" not in layout.splits and split != "test" and len(source) > 1:
        held = held_out(source.ids, learned.val_fraction)
        train = source.take([i for i in range(len(source)) if i not in held])
        seen = train.take([i for i, o in enumerate(train.objects) if len(o.labels)])  # as `keep_empty` has it
        if trained_on in (fingerprint(train), fingerprint(seen)):
            part = (train, "learned from") if split == "train" else (source.take(sorted(held)), "held out")
            return part[0], f"the {len(part[0]):,} images of {readable(path)} that were {part[1]} in its training"
    return source, note + UNTOLD


def read_coco(path: Path) -> DetectionSource:
    """One annotation file; its pictures are found by their names.

    Raises UserError for what cannot be understood or contradicts itself; what is merely useless is left out and said.
    """
    return source_of(read_file(path))


def source_of(found: Annotations) -> DetectionSource:
    """Annotations whose every entry is sound, and whose pictures are all there. Raises UserError as `read_coco`."""
    path = found.where
    for part in REQUIRED:
        for entry in found.content[part]:
            if fault := fault_of(part, entry):
                raise UserError(f"{path}: {called(part, entry)} {fault}; {REMEDY}")
    raw = cast("CocoContent", found.content)
    categories = sorted(raw["categories"], key=lambda row: row["id"])
    _require_unique(path, "category ids", [row["id"] for row in categories])
    _require_unique(path, "category names", [row["name"] for row in categories])
    rows = raw["images"]
    _require_unique(path, "image ids", [row["id"] for row in rows])
    label_of = {row["id"]: i for i, row in enumerate(categories)}
    of_image: dict[int, list[AnnotationRow]] = defaultdict(list)
    sizes = {row["id"]: (int(row["width"]), int(row["height"])) for row in rows}
    for row in raw["annotations"]:
        if row["image_id"] not in sizes or row["category_id"] not in label_of:
            lacking = f"image {row['image_id']}" if row["image_id"] not in sizes else f"category {row['category_id']}"
            named = f"{called('annotations', row)} is of {lacking}"
            raise UserError(f"{path}: {named}, which the file does not list; remove the one or add the other")
        of_image[row["image_id"]].append(row)
    left_out: Counter[str] = Counter()
    objects = tuple(_objects(path, of_image[row["id"]], sizes[row["id"]], label_of, left_out) for row in rows)
    names = tuple(str(row["file_name"]) for row in rows)
    folder = complete_folder(path, names) if found.folder is None else found.folder
    if not found.measured:
        _require_sizes(path, folder, names, tuple(sizes.values()))
    return DetectionSource(
        classes=tuple(str(row["name"]) for row in categories),
        category_ids=tuple(row["id"] for row in categories),
        ids=names,
        image_ids=tuple(row["id"] for row in rows),
        sizes=tuple(sizes.values()),
        objects=objects,
        folder=folder,
        raw=raw,
        masks=any(o.polygons or o.runs for per_image in objects for o in per_image.outlines),
        notes=tuple(f"{count:,} objects {why}" for why, count in left_out.items()),
        reading=found.notes,
        where=path,
    )


def _objects(
    path: Path, rows: Sequence[AnnotationRow], size: tuple[int, int], label_of: dict[int, int], left_out: Counter[str]
) -> Objects:
    kept: list[tuple[tuple[float, ...], int, Outline]] = []
    ignored: list[tuple[float, ...]] = []
    for row in rows:
        outline = _outline(f"{path}: {called('annotations', row)}", row.get("segmentation"), size)
        if is_crowd(row):
            ignored += [_corners(row["bbox"], size)] if row.get("difficult") else []
            continue
        if why := why_useless(row, size):
            left_out[why] += 1
            continue
        kept.append((_corners(row["bbox"], size), label_of[row["category_id"]], outline))
    boxes = np.array([box for box, _, _ in kept], dtype=np.float32).reshape(-1, 4)
    labels = np.array([label for _, label, _ in kept], dtype=np.int64)
    difficult = np.array(ignored, dtype=np.float32).reshape(-1, 4)
    return Objects(boxes, labels, tuple(outline for _, _, outline in kept), difficult)


def _corners(box: Sequence[float], size: tuple[int, int]) -> tuple[float, ...]:
    """(x, y, width, height) -> (x1, y1, x2, y2), cut to the image."""
    (x, y, w, h), (width, height) = box, size
    return min(max(x, 0.0), width), min(max(y, 0.0), height), max(min(x + w, width), 0.0), max(min(y + h, height), 0.0)


def _outline(where: str, value: Segmentation | None, size: tuple[int, int]) -> Outline:
    """Those of the polygons that outline something; an outline without polygons where the file gives none."""
    if fault := outline_fault(value, size):
        raise UserError(f"{where} {fault}; {REMEDY}")
    if not value:
        return Outline()
    if isinstance(value, dict):
        return Outline(runs=value)
    solid = [part for part in value if not polygon_fault(part, size)]
    return Outline(tuple(np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in solid))


def _require_unique(path: Path, what: str, values: Sequence[Hashable]) -> None:
    if twice := [value for value, count in Counter(values).items() if count > 1]:
        raise UserError(f"{path} has {what} twice: {listed([str(v) for v in twice])}; number them anew")


def sizes_of(header: Header) -> set[tuple[int, int]]:
    """Width and height that annotations of a picture may be for: as it is stored and as viewers turn it."""
    return {header.size, header.size[::-1] if header.orientation in SIDEWAYS else header.size}


def _require_sizes(path: Path, folder: Path, names: Sequence[str], sizes: Sequence[tuple[int, int]]) -> None:
    """UserError where pictures have other sizes than their annotations, or no header that can be read."""

    def difference(name: str, said: tuple[int, int]) -> str | None:
        header = read_header(folder / name)
        found = header.size
        words = f"{readable(name)} has {found[0]} x {found[1]} pixels, not {said[0]} x {said[1]}"
        return None if said in sizes_of(header) else words

    with ThreadPoolExecutor() as pool:
        differences = [one for one in pool.map(difference, names, sizes) if one]
    if differences:
        other = f"{len(differences):,} of the {len(names):,} images of {path} are not of the size that it says"
        shown = ", ".join(differences[:SHOWN]) + (", …" if len(differences) > SHOWN else "")
        raise UserError(f"{other}: {shown}; export the annotations again")
