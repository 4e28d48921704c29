"""Are these annotations fit to learn detection from? Every entry is looked at, none raises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..data.duplicates import Facts, Picture, Progress, Tell, inspected, levels_of, repeated
from ..data.images import BadImage, read_header, readable
from ..data.levels import Levels
from ..data.report import Counts, FolderReport, Problem, of_test
from ..errors import UserError
from .annotated import layout_of
from .annotations import BACKGROUND, Annotations
from .coco_files import image_folder
from .coco_format import (
    REQUIRED,
    SMALLEST_SIDE,
    AnnotationRow,
    ImageRow,
    called,
    fault_of,
    is_crowd,
    outline_fault,
    polygon_fault,
    sound_rows,
    why_useless,
)
from .data import sizes_of
from .transforms import MOST_OBJECTS

# What becomes of an object that nothing can be learned from, and of a picture without one. "all" is one split, of which
# a share of the pictures is held out.
USELESS = {"train": "not learned from", "val": "judged all the same, and hardly ever found",
           "all": "not learned from; judged all the same where its picture is held out"}  # fmt: skip
EMPTY = {"train": "not learned from", "val": "whatever is found in it counts as wrong", "all": "not learned from"}
MANY = {"train": f"the {MOST_OBJECTS} largest in sight are learned from at a time", "val": "all are judged",
        "all": f"the {MOST_OBJECTS} largest in sight are learned from at a time; all are judged where it is held "
               "out"}  # fmt: skip
LACKING = {"train": "no object to learn from", "val": "no object to be judged on", "all": "no object to learn from"}
OUTSIDE = 1.0  # pixels that a box may stick out by: rounding


def check_annotations(root: Path, progress: Progress | None = None, tell: Tell | None = None) -> FolderReport:
    """The report on one annotation file or on a folder's splits, in any format; every picture is decoded."""
    name = readable(str(root))
    counts: Counts = {}
    problems: list[Problem] = []

    def collect(kind: str, path: str, text: str) -> None:
        problems.append(Problem(kind, path, text))

    try:
        layout = layout_of(root)
    except UserError as error:
        return FolderReport(name, {}, [Problem("missing split", ".", str(error))], "objects")
    problems += [Problem("reading", ".", text) for text in layout.notes]
    splits: dict[str, _Split] = {}
    facts: list[Facts] = []
    levels: Levels | None = None
    for split, read in layout.splits.items():
        role = "all" if split == "train" and "val" not in layout.splits else split
        counts[role] = {}
        before = len(problems)
        try:
            found = read(collect)
        except UserError as error:
            problems.append(Problem("bad annotations", ".", str(error)))
        else:
            problems += [Problem("reading", role, text) for text in found.notes]
            splits[role] = _Split(role, found)
            if role in ("train", "all"):
                levels, said = levels_of(splits[role].pictures)
                problems += said
            own = inspected(splits[role].pictures, progress, tell, levels)
            problems += [*splits[role].problems(own), *(problem for fact in own for problem in fact.problems)]
            counts[role] = splits[role].counts()
            facts += own
        if role == "test":
            problems[before:] = map(of_test, problems[before:])
    pictures = [picture for one in splits.values() for picture in one.pictures]
    problems += [*repeated(pictures, facts), *_unknown_classes(splits)]
    return FolderReport(name, counts, sorted(problems, key=lambda p: p.severity != "error"), "objects")


def _unknown_classes(splits: dict[str, _Split]) -> Iterator[Problem]:
    """Splits are matched by the names of classes: those of which a judged split has objects must be learned."""
    learned = splits.get("train") or splits.get("all")
    for split in ("val", "test"):
        if learned is not None and split in splits:
            only = [
                name for name, count in splits[split].counts().items() if count and name not in learned.names.values()
            ]
            if only:
                problem = Problem(
                    "categories differ",
                    ".",
                    f"{split} has objects of classes that train does not list: {', '.join(only[:5])}",
                )
                yield of_test(problem) if split == "test" else problem
    if learned is not None:
        yield from _unlearned(learned, [splits[split] for split in ("val", "test") if split in splits])


def _unlearned(learned: _Split, judged: Sequence[_Split]) -> Iterator[Problem]:
    """The listed classes that no object of the training pictures can teach, though objects are judged by them."""
    useful = {learned.names[row["category_id"]] for row in learned.annotations if learned.useful(row)}
    for name in dict.fromkeys(learned.names.values()):
        counts = {one.name: one.counts().get(name, 0) for one in judged}
        if name not in useful and any(counts.values()):
            has = " and ".join(f"{count:,} in {split}" for split, count in counts.items() if count)
            yield Problem(
                "not learned",
                readable(name),
                f"no training picture has an object of it to learn from, and "
                f"there are {has}, which cannot be found and lower the AP",
            )


class _Split:
    """One split: its whole entries, and what is wrong with the others. `name` is "train", "val", "test" or "all"."""

    def __init__(self, name: str, found: Annotations) -> None:
        content = {part: found.content[part] for part in REQUIRED}
        self.name, self.path = name, found.where
        self.role = "val" if name == "test" else name
        self.faults = [
            (called(part, row), fault)
            for part, rows in content.items()
            for row in rows
            if (fault := fault_of(part, row))
        ]
        sound = sound_rows(found.content)
        self.images, self.annotations, self.categories = sound["images"], sound["annotations"], sound["categories"]
        self.names = {row["id"]: str(row["name"]) for row in self.categories}
        self.sizes = {row["id"]: (row["width"], row["height"]) for row in self.images}
        # Also ids of entries with a fault of their own, which is named; that others refer to them is none.
        self.listed: dict[str, set[str]] = {
            part: {str(row.get("id")) for row in content[part] if isinstance(row, dict)} for part in REQUIRED
        }

        folder = image_folder(self.path, [str(row["file_name"]) for row in self.images])
        folder = folder if found.folder is None else found.folder
        self.pictures = [
            Picture(name, "", folder / str(row["file_name"]), readable(str(row["file_name"]))) for row in self.images
        ]

    def counts(self) -> dict[str, int]:
        found = Counter(self.names.get(row["category_id"]) for row in self.annotations)
        return {name: found[name] for name in self.names.values()}

    def problems(self, facts: list[Facts]) -> Iterator[Problem]:
        """What is wrong with the entries; `facts` are of the pictures."""
        for name, fault in self.faults:
            yield Problem("bad annotations", name, fault)
        yield from self._repeats()
        yield from self._pictures(facts)
        for row in self.annotations:
            yield from self._object(row)
        if self.annotations and not any(self.useful(row) for row in self.annotations):
            text = f"{LACKING[self.role]}: all {len(self.annotations):,} are crowds, broken or without an area"
            yield Problem("bad annotations", self.path.name, text)

    def _repeats(self) -> Iterator[Problem]:
        lists: tuple[tuple[str, Sequence[Mapping[str, object]], str], ...] = (
            ("image", self.images, "id"),
            ("annotation", self.annotations, "id"),
            ("category", self.categories, "id"),
            ("category name", self.categories, "name"),
        )
        for what, rows, key in lists:
            for value, count in Counter(str(row.get(key)) for row in rows if row.get(key) is not None).items():
                if count > 1:
                    yield Problem("id twice", self.path.name, f"{what} {value} is given to {count} entries")

    def useful(self, row: AnnotationRow) -> bool:
        """Whether an object can be learned from."""
        size = self.sizes.get(row["image_id"])
        if size is None or row["category_id"] not in self.names or is_crowd(row):
            return False
        return not outline_fault(row.get("segmentation"), size) and not why_useless(row, size)

    def _pictures(self, facts: list[Facts]) -> Iterator[Problem]:
        objects = Counter(row["image_id"] for row in self.annotations)
        empty = [row for row in self.images if row.get(BACKGROUND) and not objects[row["id"]]]
        if empty:
            text = f"{len(empty):,} pictures with an empty label file are background: {EMPTY[self.role]}"
            yield Problem("background", self.name, text)
        for row, picture, fact in zip(self.images, self.pictures, facts, strict=True):
            count = objects[row["id"]]
            if not count and not row.get(BACKGROUND):
                yield Problem("no object", picture.name, f"{EMPTY[self.role]}: it has no annotation")
            if count > MOST_OBJECTS:
                yield Problem("many objects", picture.name, f"{count:,} objects: {MANY[self.role]}")
            if fact.pixels_hash and (problem := _size_fault(picture, row)) is not None:
                yield problem

    def _object(self, row: AnnotationRow) -> Iterator[Problem]:
        name = called("annotations", row)
        references = (("image_id", row["image_id"], "images"), ("category_id", row["category_id"], "categories"))
        for key, number, part in references:
            if str(number) not in self.listed[part]:
                yield Problem("unknown reference", name, f"its {key} {number} is not listed")
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
            yield Problem("no area", name, f"{USELESS[self.role]}: {_reason(row, (width, height), bad)}")
            return
        if bad:
            yield Problem("no area", name, f"one of its {len(faults)} polygons {bad}; the others are used")
        if min(box[:2]) < -OUTSIDE or box[0] + box[2] > width + OUTSIDE or box[1] + box[3] > height + OUTSIDE:
            yield Problem("box outside", name, f"cut: {box} reaches beyond its image of {width} x {height}")


def _reason(row: AnnotationRow, size: tuple[float, float], bad: str | None) -> str:
    """Of what is useless: what exactly. `bad` is what is wrong with the first of its broken polygons."""
    x, y, w, h = row["bbox"]
    if min(w, h) < SMALLEST_SIDE:
        return f"its box is {w:.3g} x {h:.3g} pixels, and at least {SMALLEST_SIDE:g} a side is needed"
    if row.get("area") == 0:
        return "its area is given as 0"
    if x >= size[0] or y >= size[1] or x + w <= 0 or y + h <= 0:
        return f"its box {row['bbox']} lies outside its image of {size[0]} x {size[1]}"
    return f"a polygon {bad}" if bad else "its run lengths have no pixel inside"


def _size_fault(picture: Picture, row: ImageRow) -> Problem | None:
    """What is wrong with the size that an entry gives for its picture, which can be decoded."""
    try:
        header = read_header(picture.path)
    except BadImage as error:
        return Problem(error.kind, picture.name, str(error))
    if (row["width"], row["height"]) in sizes_of(header):
        return None
    said = f"{row['width']} x {row['height']} pixels, it has {header.size[0]} x {header.size[1]}"
    return Problem("bad annotations", picture.name, f"its annotations are for {said}")
