"""Are these annotations fit to learn detection from? Every entry is looked at, none raises."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..errors import UserError
from .coco import MOST_OBJECTS, SPLIT_NAMES, annotation_files, image_folder, sizes_of
from .coco_entries import REQUIRED, SMALLEST_SIDE, called, fault_of, is_crowd, outline_fault, polygon_fault, why_useless
from .findings import Counts, FolderReport, Problem
from .images import BadImage, open_image, read_header, readable

Progress = Callable[[int, int], None]  # pictures done, pictures in all
# What becomes of an object that nothing can be learned from, and of a picture without one. "all" is one file, of which
# a share of the pictures is held out.
USELESS = {"train": "not learned from", "val": "judged all the same, and hardly ever found",
           "all": "not learned from; judged all the same where its picture is held out"}  # fmt: skip
EMPTY = {"train": "not learned from", "val": "whatever is found in it counts as wrong", "all": "not learned from"}
MANY = {"train": f"the {MOST_OBJECTS} largest are learned from", "val": "all are judged",
        "all": f"the {MOST_OBJECTS} largest are learned from; all are judged where it is held out"}  # fmt: skip
LACKING = {"train": "no object to learn from", "val": "no object to be judged on", "all": "no object to learn from"}
OUTSIDE = 1.0  # pixels that a box may stick out by: rounding


def check_annotations(root: Path, progress: Progress | None = None) -> FolderReport:
    """The report on one annotation file or on a folder's two; every picture is decoded."""
    named = {"all": root} if root.is_file() else dict(_files(root))
    counts: Counts = {}
    problems = [
        Problem("missing split", ".", f"there are no annotations for {split}")
        for split in ("train", "val")
        if named.keys() != {"all"} and split not in named
    ]
    classes: dict[str, list[tuple[Any, str]]] = {}
    for split, path in named.items():
        content = _content(path)
        if isinstance(content, str):
            problems.append(Problem("bad annotations", path.name, content))
            counts[split] = {}
            continue
        found = _Split(split, path, content)
        problems += found.problems(progress)
        counts[split], classes[split] = found.counts(), sorted(found.names.items())
    if len(classes) == 2 and classes["train"] != classes["val"]:
        differ = sorted({f"{name} ({number})" for number, name in set(classes["train"]) ^ set(classes["val"])})
        problems.append(Problem("categories differ", ".", f"between train and val: {', '.join(differ[:5])}"))
    return FolderReport(readable(str(root)), counts, sorted(problems, key=lambda p: p.severity != "error"), "objects")


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for split in SPLIT_NAMES:
        try:
            yield from annotation_files(root, (split,)).items()
        except UserError:
            continue


def _content(path: Path) -> dict[str, Any] | str:
    """The file's lists of entries, or what is wrong with it."""
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        return f"cannot be read as JSON ({str(error)[:80]})"
    if not isinstance(raw, dict) or not all(isinstance(raw.get(name), list) and raw[name] for name in REQUIRED):
        return "must hold images, annotations and categories, none of them empty"
    return {name: raw[name] for name in REQUIRED}


class _Split:
    """One annotation file: its whole entries, and what is wrong with the others. `name` is "train", "val" or "all"."""

    def __init__(self, name: str, path: Path, content: dict[str, Any]) -> None:
        self.name, self.path = name, path
        self.faults = [
            (called(part, row), fault)
            for part, rows in content.items()
            for row in rows
            if (fault := fault_of(part, row))
        ]
        self.images, self.annotations, self.categories = (
            [row for row in content[part] if not fault_of(part, row)] for part in REQUIRED
        )
        self.names = {row["id"]: str(row["name"]) for row in self.categories}
        self.sizes = {row["id"]: (row["width"], row["height"]) for row in self.images}
        # Also ids of entries with a fault of their own, which is named; that others refer to them is none.
        self.listed = {
            part: {str(row.get("id")) for row in content[part] if isinstance(row, dict)} for part in REQUIRED
        }

    def counts(self) -> dict[str, int]:
        found = Counter(self.names.get(row["category_id"]) for row in self.annotations)
        return {name: found[name] for name in self.names.values()}

    def problems(self, progress: Progress | None) -> Iterator[Problem]:
        for name, fault in self.faults:
            yield Problem("bad annotations", name, fault)
        yield from self._repeats()
        yield from self._pictures(progress)
        for row in self.annotations:
            yield from self._object(row)
        if self.annotations and not any(self._useful(row) for row in self.annotations):
            text = f"{LACKING[self.name]}: all {len(self.annotations):,} are crowds, broken or without an area"
            yield Problem("bad annotations", self.path.name, text)

    def _repeats(self) -> Iterator[Problem]:
        lists = (("image", self.images, "id"), ("annotation", self.annotations, "id"),
                 ("category", self.categories, "id"), ("category name", self.categories, "name"))  # fmt: skip
        for what, rows, key in lists:
            for value, count in Counter(str(row.get(key)) for row in rows if row.get(key) is not None).items():
                if count > 1:
                    yield Problem("id twice", self.path.name, f"{what} {value} is given to {count} entries")

    def _useful(self, row: dict[str, Any]) -> bool:
        size = self.sizes.get(row["image_id"])
        if size is None or row["category_id"] not in self.names or is_crowd(row):
            return False
        return not outline_fault(row.get("segmentation"), size) and not why_useless(row, size)

    def _pictures(self, progress: Progress | None) -> Iterator[Problem]:
        folder = image_folder(self.path, [str(row["file_name"]) for row in self.images])
        objects = Counter(row["image_id"] for row in self.annotations)
        with ThreadPoolExecutor() as pool:
            looks = pool.map(lambda row: _look(folder, row), self.images)
            for done, (row, problem) in enumerate(zip(self.images, looks, strict=True), 1):
                name, count = readable(str(row["file_name"])), objects[row["id"]]
                if not count:
                    yield Problem("no object", name, f"{EMPTY[self.name]}: it has no annotation")
                if count > MOST_OBJECTS:
                    yield Problem("many objects", name, f"{count:,} objects: {MANY[self.name]}")
                if problem is not None:
                    yield problem
                if progress is not None:
                    progress(done, len(self.images))

    def _object(self, row: dict[str, Any]) -> Iterator[Problem]:
        name = called("annotations", row)
        for key, part in (("image_id", "images"), ("category_id", "categories")):
            if str(row[key]) not in self.listed[part]:
                yield Problem("unknown reference", name, f"its {key} {row[key]} is not listed")
        if row["image_id"] not in self.sizes:
            return
        (width, height), box, outline = self.sizes[row["image_id"]], row["bbox"], row.get("segmentation")
        if fault := outline_fault(outline, (width, height)):
            yield Problem("bad outline", name, fault)
            return
        faults = [polygon_fault(part, (width, height)) for part in outline or ()] if isinstance(outline, list) else []
        bad = next(filter(None, faults), None)
        if is_crowd(row):
            return
        if why_useless(row, (width, height)) and not row.get("ignore"):
            yield Problem("no area", name, f"{USELESS[self.name]}: {_reason(row, (width, height), bad)}")
            return
        if bad:
            yield Problem("no area", name, f"one of its {len(faults)} polygons {bad}; the others are used")
        if min(box[:2]) < -OUTSIDE or box[0] + box[2] > width + OUTSIDE or box[1] + box[3] > height + OUTSIDE:
            yield Problem("box outside", name, f"cut: {box} reaches beyond its image of {width} x {height}")


def _reason(row: dict[str, Any], size: tuple[int, int], bad: str | None) -> str:
    """Of what is useless: what exactly. `bad` is what is wrong with the first of its broken polygons."""
    x, y, w, h = row["bbox"]
    if min(w, h) < SMALLEST_SIDE:
        return f"its box is {w:g} x {h:g}"
    if row.get("area") == 0:
        return "its area is given as 0"
    if x >= size[0] or y >= size[1] or x + w <= 0 or y + h <= 0:
        return f"its box {row['bbox']} lies outside its image of {size[0]} x {size[1]}"
    return f"a polygon {bad}" if bad else "its run lengths have no pixel inside"


def _look(folder: Path, row: dict[str, Any]) -> Problem | None:
    """What is wrong with an entry's picture; decoding finds those that end too early."""
    name = str(row["file_name"])
    try:
        header = read_header(folder / name)
        open_image(folder / name)
    except BadImage as error:
        return Problem(error.kind, readable(name), str(error))
    if (row["width"], row["height"]) in sizes_of(header):
        return None
    said = f"{row['width']} x {row['height']} pixels, it has {header.size[0]} x {header.size[1]}"
    return Problem("bad annotations", readable(name), f"its annotations are for {said}")
