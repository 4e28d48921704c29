"""Annotated pictures by position: what a detector learns from.

Boxes are (x1, y1, x2, y2) in pixels. G objects of an image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.images import BadImage, open_image, readable
from ..data.levels import Levels
from ..data.splits import Splits
from ..dense.source import FilePictures
from .coco_format import CocoContent, RunLengths, is_crowd

Polygons = tuple[np.ndarray, ...]  # each (corners, 2), in pixels


@dataclass(frozen=True)
class Outline:
    """An object's mask, as the file has it: polygons, or run lengths {"size": [height, width], "counts": …}."""

    polygons: Polygons = ()
    runs: RunLengths | None = None


@dataclass(frozen=True)
class Objects:
    """What of an image is learned from: neither crowds nor what is too thin or outlined by nothing."""

    boxes: np.ndarray  # (G, 4) float32, within the image
    labels: np.ndarray  # (G,) int64 positions in the source's classes
    outlines: tuple[Outline, ...]  # empty polygons: the box itself is the mask
    ignored: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))  # difficult: also no background


@dataclass(frozen=True)
class DetectionSample:
    """One annotated picture."""

    image: Image.Image
    objects: Objects
    id: str


@dataclass(frozen=True)
class DetectionSource(FilePictures):
    """The pictures of one split; `raw` is COCO's content of it, which the evaluation is held against."""

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    ids: tuple[str, ...]  # file names
    image_ids: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]  # width, height
    objects: tuple[Objects, ...]
    folder: Path
    raw: CocoContent = field(repr=False)
    masks: bool  # whether any object has an outline
    notes: tuple[str, ...] = ()  # of what nothing can be learned from, though it is judged
    reading: tuple[str, ...] = ()  # what there is to say of how the annotations were understood
    where: Path | None = None  # the annotation file, or the folder that the annotations come from
    levels: Levels | None = None  # of pictures of more than 8 bits; None: as their type says

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.folder.name}/{name}" for name in self.ids)

    def path(self, index: int) -> Path:
        return self.folder / self.ids[index]

    def __getitem__(self, index: int) -> DetectionSample:
        return DetectionSample(self.image(index), self.objects[index], self.ids[index])

    @property
    def judged(self) -> int:
        """Objects that a detector should find: all of the file but crowds, also those that it cannot learn from."""
        return sum(not is_crowd(row) for row in self.raw["annotations"])

    @property
    def remarks(self) -> tuple[str, ...]:
        """Of all objects that are not learned from, how many there are and why."""
        marks = [row for row in self.raw["annotations"] if is_crowd(row)]
        difficult = sum(bool(row.get("difficult")) for row in marks)
        counts = ((len(marks) - difficult, "marked as crowds"), (difficult, "marked as difficult"))
        return (*self.notes, *(f"{count:,} objects {why}" for count, why in counts if count))

    @property
    def labels(self) -> tuple[str, ...]:
        """A digest of each image's objects, for the fingerprint of the data."""
        parts = (o.boxes.tobytes() + o.labels.tobytes() + o.ignored.tobytes() for o in self.objects)
        return tuple(hashlib.sha256(part).hexdigest() for part in parts)

    def image(self, index: int) -> Image.Image:
        """The picture in the orientation that its annotations are for. Raises BadImage when its size is another."""
        path, size = self.path(index), self.sizes[index]
        for upright in (True, False):  # some tools annotate the stored pixels, others what a viewer shows
            image = open_image(path, upright=upright, levels=self.levels)
            if image.size == size:
                return image
        found, said = (" x ".join(map(str, s)) for s in (image.size, size))
        raise BadImage(f"{readable(path)} has {found} pixels, its annotations are for {said}; export them again")

    def within(self, levels: Levels | None) -> DetectionSource:
        """The same pictures, of which those of more than 8 bits are read from these levels."""
        return replace(self, levels=levels)

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


DetectionSplits = Splits[DetectionSource]
