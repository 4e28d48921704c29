"""Are these annotations fit to learn detection from? Every entry is looked at, none raises."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError
from .coco import MOST_OBJECTS, SMALLEST_SIDE, SPLIT_NAMES, annotation_files, image_folder
from .coco_entries import REQUIRED, called, fault_of, is_polygon, outline_fault
from .findings import Counts, FolderReport, Problem
from .images import BadImage, read_header, readable

OUTSIDE = 1.0  # pixels that a box may stick out by: rounding


def is_annotated(root: Path) -> bool:
    """Whether a path is an annotation file, or a folder that has some in a known layout."""
    if root.is_file():
        return root.suffix == ".json"
    return any(_files(root))


def check_annotations(root: Path) -> FolderReport:
    """The report on one annotation file or on a folder's two."""
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
        found = _Split(path, content)
        problems += found.problems()
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
    """One annotation file: its whole entries, and what is wrong with the others."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path = path
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

    def counts(self) -> dict[str, int]:
        found = Counter(self.names.get(row["category_id"]) for row in self.annotations)
        return {name: found[name] for name in self.names.values()}

    def problems(self) -> Iterator[Problem]:
        for name, fault in self.faults:
            yield Problem("bad annotations", name, fault)
        yield from self._repeats()
        yield from self._pictures()
        for row in self.annotations:
            yield from self._object(row)

    def _repeats(self) -> Iterator[Problem]:
        lists = (("image", self.images, "id"), ("annotation", self.annotations, "id"),
                 ("category", self.categories, "id"), ("category name", self.categories, "name"))  # fmt: skip
        for what, rows, key in lists:
            for value, count in Counter(str(row.get(key)) for row in rows if row.get(key) is not None).items():
                if count > 1:
                    yield Problem("id twice", self.path.name, f"{what} {value} is given to {count} entries")

    def _pictures(self) -> Iterator[Problem]:
        folder = image_folder(self.path, [str(row["file_name"]) for row in self.images])
        objects = Counter(row["image_id"] for row in self.annotations)
        for row in self.images:
            name = str(row["file_name"])
            if not objects[row["id"]]:
                yield Problem("no object", readable(name), "not learned from: it has no annotation")
            if objects[row["id"]] > MOST_OBJECTS:
                shown = f"{objects[row['id']]:,} objects: the {MOST_OBJECTS} largest are learned from"
                yield Problem("many objects", readable(name), shown)
            try:
                header = read_header(folder / name)
            except BadImage as error:
                yield Problem(error.kind, readable(name), str(error))
                continue
            if (row["width"], row["height"]) not in (header.size, header.size[::-1]):
                said = f"{row['width']} x {row['height']} pixels, it has {header.size[0]} x {header.size[1]}"
                yield Problem("bad annotations", readable(name), f"its annotations are for {said}")

    def _object(self, row: dict[str, Any]) -> Iterator[Problem]:
        name = called("annotations", row)
        for key, known in (("image_id", self.sizes), ("category_id", self.names)):
            if row[key] not in known:
                yield Problem("unknown reference", name, f"its {key} {row[key]} is not listed")
        box = row["bbox"]
        if min(box[2], box[3]) < SMALLEST_SIDE or row.get("area") == 0:
            yield Problem("no area", name, f"left out: its box is {box[2]:g} x {box[3]:g}")
        elif row["image_id"] in self.sizes:
            width, height = self.sizes[row["image_id"]]
            if min(box[:2]) < -OUTSIDE or box[0] + box[2] > width + OUTSIDE or box[1] + box[3] > height + OUTSIDE:
                yield Problem("box outside", name, f"cut: {box} reaches beyond its image of {width} x {height}")
        yield from self._outline(name, row)

    def _outline(self, name: str, row: dict[str, Any]) -> Iterator[Problem]:
        value, size = row.get("segmentation"), self.sizes.get(row["image_id"])
        if size is None:
            return
        if fault := outline_fault(value, size):
            yield Problem("bad outline", name, fault)
        elif isinstance(value, list) and not all(map(is_polygon, value)):
            yield Problem("no area", name, "left out: a polygon has fewer than three corners or half a point")
