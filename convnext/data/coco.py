"""Annotated pictures in COCO's format: one JSON file, or a folder with one for each split, of any classes.

Boxes here are (x1, y1, x2, y2) in pixels, where the file has (x, y, width, height). G objects of an image.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..errors import UserError
from .coco_entries import REQUIRED, called, fault_of, is_crowd, outline_fault, polygon_fault, why_useless
from .folders import TEST_NAMES, TRAIN_NAMES, VAL_NAMES
from .images import BadImage, Header, open_image, read_header, readable
from .labelled import fingerprint, held_out, listed
from .learned import UNTOLD, Learned, to_judge

MOST_OBJECTS = 300  # of an image that are learned from, the largest ones; COCO's fullest image has 93
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
REMEDY = "mend it or export it again"
HEAD = 2**16  # bytes of an annotation file by which it is known
COCO_PARTS = (b"images", b"annotations", b"categories", b"info", b"licenses")  # one of which it begins with
SHOWN = 3  # pictures that a message names
SPLIT_NAMES = {"train": TRAIN_NAMES, "val": (*VAL_NAMES, *TEST_NAMES)}

Polygons = tuple[np.ndarray, ...]  # each (corners, 2), in pixels


@dataclass(frozen=True)
class Outline:
    """An object's mask, as the file has it: polygons, or run lengths {"size": [height, width], "counts": …}."""

    polygons: Polygons = ()
    runs: dict[str, Any] | None = None


@dataclass(frozen=True)
class Objects:
    """What of an image is learned from: neither crowds nor what is too thin or outlined by nothing."""

    boxes: np.ndarray  # (G, 4) float32, within the image
    labels: np.ndarray  # (G,) int64 positions in the source's classes
    outlines: tuple[Outline, ...]  # empty polygons: the box itself is the mask


@dataclass(frozen=True)
class DetectionSample:
    """One annotated picture."""

    image: Image.Image
    objects: Objects
    id: str


@dataclass(frozen=True)
class DetectionSource:
    """The pictures of one annotation file; `raw` is that file's content, which the evaluation is held against."""

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    ids: tuple[str, ...]  # file names
    image_ids: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]  # width, height
    objects: tuple[Objects, ...]
    folder: Path
    raw: dict[str, Any] = field(repr=False)
    masks: bool  # whether any object has an outline
    notes: tuple[str, ...] = ()  # of what nothing can be learned from
    multi_label: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> DetectionSample:
        return DetectionSample(self.image(index), self.objects[index], self.ids[index])

    @property
    def judged(self) -> int:
        """Objects that a detector should find: all of the file but crowds, also those that it cannot learn from."""
        return sum(not is_crowd(row) for row in self.raw["annotations"])

    @property
    def labels(self) -> tuple[str, ...]:
        """A digest of each image's objects, for the fingerprint of the data."""
        return tuple(hashlib.sha256(o.boxes.tobytes() + o.labels.tobytes()).hexdigest() for o in self.objects)

    def image(self, index: int) -> Image.Image:
        """The picture in the orientation that its annotations are for. Raises BadImage when its size is another."""
        path, size = self.folder / self.ids[index], self.sizes[index]
        for upright in (True, False):  # some tools annotate the stored pixels, others what a viewer shows
            image = open_image(path, upright=upright)
            if image.size == size:
                return image
        found, said = (" x ".join(map(str, s)) for s in (image.size, size))
        raise BadImage(f"{readable(path)} has {found} pixels, its annotations are for {said}; export them again")

    def take(self, indices: Sequence[int]) -> DetectionSource:
        """The chosen pictures, with their part of the annotations."""
        kept = {self.image_ids[i] for i in indices}
        raw = self.raw | {
            "images": [row for row in self.raw["images"] if row["id"] in kept],
            "annotations": [row for row in self.raw["annotations"] if row["image_id"] in kept],
        }
        return replace(
            self,
            ids=tuple(self.ids[i] for i in indices),
            image_ids=tuple(self.image_ids[i] for i in indices),
            sizes=tuple(self.sizes[i] for i in indices),
            objects=tuple(self.objects[i] for i in indices),
            raw=raw,
        )


@dataclass(frozen=True)
class DetectionSplits:
    """What to learn from and what to be judged on; `note` says in a sentence what there is."""

    train: DetectionSource
    val: DetectionSource
    name: str
    note: str


def is_coco(root: Path) -> bool:
    """Whether a path is an annotation file, or a folder that has some in a known layout; only their heads are read."""
    if root.is_file():
        return root.suffix == ".json" and _begins_like_coco(root)
    return any(_begins_like_coco(path) for path in _candidates(root, "train") + _candidates(root, "val"))


def _begins_like_coco(path: Path) -> bool:
    """Whether a JSON file begins as an object with one of COCO's lists."""
    try:
        with path.open("rb") as handle:
            head = handle.read(HEAD).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError:
        return False
    return head.startswith(b"{") and any(b'"%s"' % part in head for part in COCO_PARTS)


def open_detection(where: str | Path, *, val_fraction: float = 0.2, keep_empty: bool = False) -> DetectionSplits:
    """The splits of a folder with COCO annotations, or of one annotation file, of which a share of images is held out.

    A folder holds annotations/instances_train*.json and …_val*.json beside the folders of images (COCO), or train/ and
    valid/ with a JSON file in each (Roboflow's and others' export). Images without objects are left out of training
    unless `keep_empty`. Raises UserError for whatever makes the data unfit.
    """
    root = Path(where).expanduser()
    if root.is_file():
        whole = read_coco(root)
        held = held_out(whole.ids, val_fraction)
        train, val = whole.take([i for i in range(len(whole)) if i not in held]), whole.take(sorted(held))
    else:
        found = annotation_files(root)
        train, val = read_coco(found["train"]), read_coco(found["val"])
        if train.classes != val.classes:
            only = sorted(set(train.classes) ^ set(val.classes))
            differ = f"{listed(only)} only in one" if only else "the same names have other ids"
            raise UserError(f"the categories of {found['train']} and {found['val']} differ: {differ}; make them agree")
    empty = [i for i, o in enumerate(train.objects) if not len(o.labels)]
    if len(empty) == len(train):
        raise UserError(f"{readable(root)} has no object to learn from in {len(train)} training images; annotate some")
    if not any(len(o.labels) for o in val.objects):
        raise UserError(f"{readable(root)} has no object to be judged on in {len(val)} validation images; annotate "
                        "some, or hold out more")  # fmt: skip
    note = (f"{len(train):,} training and {len(val):,} validation images, "
            f"{sum(len(o.labels) for o in train.objects):,} and {val.judged:,} objects of "
            f"{len(train.classes)} classes")  # fmt: skip
    if empty and not keep_empty:
        train = train.take([i for i in range(len(train)) if len(train.objects[i].labels)])
        note += f"; {len(empty):,} training images without objects left out"
    # Figures are COCO's own, for which every object of the file counts (tasks/detect.py): so it is said, not changed.
    remarks = [f"train: {text}, left out" for text in train.notes]
    remarks += [f"val: {text}, judged all the same, as COCO's evaluation does" for text in val.notes]
    return DetectionSplits(train, val, str(where), "; ".join((f"{readable(root)}: {note}", *remarks)))


def open_detection_for_judging(
    where: str | Path, split: Literal["val", "train", "all"] = "val", *, val_fraction: float = 0.2,
    trained_on: str | None = None, known: Learned | None = None,
) -> tuple[DetectionSource, str]:  # fmt: skip
    """The annotated pictures to judge a detector on, and a sentence that says which they are.

    They are those of one split of a folder or of one annotation file, but for those that the detector learned from: the
    `known` ones. Of older detectors only `trained_on` is known, the fingerprint of what they learned from, which tells
    them in one annotation file as long as that is the same. Raises UserError as `open_detection`, when a folder is
    asked for all, or when no picture is left.
    """
    root = Path(where).expanduser()
    if not root.is_file() and split == "all":
        raise UserError(f"{readable(root)} has a split of its own; choose --split val or --split train")
    path = root if root.is_file() else annotation_files(root, (split,))[split]
    source = read_coco(path)
    note = f"{len(source):,} images of {readable(path)}"
    if split == "all" or (known is None and trained_on is None):
        return source, note
    if known is not None:
        chosen, said = to_judge(known, source, split, readable(path), note)
        return source.take(chosen), said
    if root.is_file() and len(source) > 1:
        held = held_out(source.ids, val_fraction)
        train = source.take([i for i in range(len(source)) if i not in held])
        seen = train.take([i for i, o in enumerate(train.objects) if len(o.labels)])  # as `keep_empty` has it
        if trained_on in (fingerprint(train), fingerprint(seen)):
            part = (train, "learned from") if split == "train" else (source.take(sorted(held)), "held out")
            return part[0], f"the {len(part[0]):,} images of {readable(path)} that were {part[1]} in its training"
    return source, note + UNTOLD


def annotation_files(root: Path, wanted: Sequence[str] = ("train", "val")) -> dict[str, Path]:
    """The file of each wanted split of a folder in a known layout. Raises UserError, saying what was looked for."""
    if not root.is_dir():
        raise UserError(f"there is no folder or annotation file {readable(root)}; check the path")
    found: dict[str, Path] = {}
    for split in wanted:
        for name in SPLIT_NAMES[split]:
            candidates = _of_name(root, name)
            if len(candidates) > 1:
                raise UserError(f"{readable(root)} has several annotation files for {split}: "
                                f"{listed([path.name for path in candidates])}; keep one")  # fmt: skip
            if candidates and split not in found:
                found[split] = candidates[0]
    if lacks := [split for split in wanted if split not in found]:
        lacking = " and ".join(lacks)
        raise UserError(
            f"{readable(root)} has no COCO annotations for {lacking}: looked for annotations/instances_train*.json and "
            "…_val*.json, and for a JSON file in train/ and in val/ or valid/; or pass one annotation file"
        )
    return found


def _candidates(root: Path, split: str) -> list[Path]:
    return [path for name in SPLIT_NAMES[split] for path in _of_name(root, name)]


def _of_name(root: Path, name: str) -> list[Path]:
    """The annotation files of a split that is called `name`."""
    patterns = (f"annotations/instances_{name}*.json", f"{name}/*.json", f"annotations/{name}*.json")
    found = ([path for path in sorted(root.glob(pattern)) if path.name[0] != "."] for pattern in patterns)
    return next(filter(None, found), [])


def read_coco(path: Path) -> DetectionSource:
    """One annotation file; its pictures are found by their names.

    Raises UserError for what cannot be understood or contradicts itself; what is merely useless is left out and said.
    """
    raw = _parsed(path)
    categories = sorted(raw["categories"], key=lambda row: row["id"])
    _require_unique(path, "category ids", [row["id"] for row in categories])
    _require_unique(path, "category names", [row["name"] for row in categories])
    rows = raw["images"]
    _require_unique(path, "image ids", [row["id"] for row in rows])
    label_of = {row["id"]: i for i, row in enumerate(categories)}
    of_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    sizes = {row["id"]: (int(row["width"]), int(row["height"])) for row in rows}
    for row in raw["annotations"]:
        if row["image_id"] not in sizes or row["category_id"] not in label_of:
            what = "image" if row["image_id"] not in sizes else "category"
            named = f"{called('annotations', row)} is of {what} {row[f'{what}_id']}"
            raise UserError(f"{path}: {named}, which the file does not list; remove the one or add the other")
        of_image[row["image_id"]].append(row)
    left_out: Counter[str] = Counter()
    objects = tuple(_objects(path, of_image[row["id"]], sizes[row["id"]], label_of, left_out) for row in rows)
    names = tuple(str(row["file_name"]) for row in rows)
    folder = _complete_folder(path, names)
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
    )


def _parsed(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({str(error)[:80]}); export the annotations again") from None
    for part in REQUIRED:
        rows = raw.get(part) if isinstance(raw, dict) else None
        if not isinstance(rows, list) or not rows:
            raise UserError(f"{path} has no {part}; a COCO file lists images, annotations and categories")
        for row in rows:
            if fault := fault_of(part, row):
                raise UserError(f"{path}: {called(part, row)} {fault}; {REMEDY}")
    return raw


def _objects(path: Path, rows: Sequence[dict[str, Any]], size: tuple[int, int], label_of: dict[Any, int],
             left_out: Counter[str]) -> Objects:  # fmt: skip
    width, height = size
    kept: list[tuple[tuple[float, ...], int, Outline]] = []
    for row in rows:
        outline = _outline(f"{path}: {called('annotations', row)}", row.get("segmentation"), size)
        if is_crowd(row):
            continue
        if why := why_useless(row, size):
            left_out[why] += 1
            continue
        x, y, w, h = row["bbox"]
        box = (
            min(max(x, 0.0), width),
            min(max(y, 0.0), height),
            max(min(x + w, width), 0.0),
            max(min(y + h, height), 0.0),
        )
        kept.append((box, label_of[row["category_id"]], outline))
    if len(kept) > MOST_OBJECTS:
        left_out[f"beyond the {MOST_OBJECTS} largest of an image"] += len(kept) - MOST_OBJECTS
        kept = sorted(kept, key=lambda one: (one[0][0] - one[0][2]) * (one[0][3] - one[0][1]))[:MOST_OBJECTS]
    boxes = np.array([box for box, _, _ in kept], dtype=np.float32).reshape(-1, 4)
    labels = np.array([label for _, label, _ in kept], dtype=np.int64)
    return Objects(boxes, labels, tuple(outline for _, _, outline in kept))


def _outline(where: str, value: Any, size: tuple[int, int]) -> Outline:
    """Those of the polygons that outline something; an outline without polygons where the file gives none."""
    if fault := outline_fault(value, size):
        raise UserError(f"{where} {fault}; {REMEDY}")
    if not value:
        return Outline()
    if isinstance(value, dict):
        return Outline(runs=value)
    solid = [part for part in value if not polygon_fault(part, size)]
    return Outline(tuple(np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in solid))


def _require_unique(path: Path, what: str, values: Sequence[Any]) -> None:
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


def image_folder(path: Path, names: Sequence[str]) -> Path:
    """The folder below which most of the pictures lie, from what the annotation file is called and where it is."""
    parent, stem = path.parent, path.stem.removeprefix("instances_")
    above = parent.parent
    own = (above / stem, above / "images" / stem, above / stem / "images", parent / stem)
    candidates = (*own, above / "images", parent / "images", parent, above)
    return max(candidates, key=lambda folder: sum(os.path.isfile(folder / name) for name in names))


def _complete_folder(path: Path, names: Sequence[str]) -> Path:
    """The folder that has all the pictures; UserError, naming some, when they are not there."""
    folder = image_folder(path, names)
    if missing := [name for name in names if not os.path.isfile(folder / name)]:
        lacking = f"{len(missing):,} of the {len(names):,} images of {path} are not in {readable(folder)}"
        raise UserError(f"{lacking}: {listed(missing, SHOWN)}; put them there, or take them out of the file")
    return folder
