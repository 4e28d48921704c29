"""Labelled pictures by position: what every data set is turned into before anything learns from it."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Protocol

import numpy as np
from PIL import Image

from ..errors import UserError
from . import Sample
from .images import BadImage, left_out, open_image, read_header, readable
from .levels import Levels
from .splits import Splits

SIZE_SAMPLE = 200  # images whose header is read to learn the typical size
MEMORY_SAMPLE = 20  # images that are decoded to estimate what all of them would take
SHOWN = 3  # bad files named in a message; `check` lists them all

DRAWN = "formulas"  # the built-in set whose pictures are made by formula (convnext/formulas)

Label = int | tuple[int, ...] | tuple[float, ...]  # a class, several of them, numbers


class Reader(Protocol):
    """Opens pictures by position; `take` is the reader of the chosen ones, `within` the one with other levels."""

    def __call__(self, index: int) -> Image.Image: ...
    def take(self, indices: Sequence[int]) -> Reader: ...
    def within(self, levels: Levels | None) -> Reader: ...


@dataclass(frozen=True)
class Source:
    """Labelled pictures; `read(i)` opens the i-th one."""

    classes: tuple[str, ...]
    labels: tuple[Label, ...]
    ids: tuple[str, ...]
    read: Reader = field(repr=False)
    typical_size: int
    multi_label: bool = False
    groups: tuple[int, ...] = ()  # of several labels: how many classes each question has, one of which is the answer
    native: str | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)  # files beside the pictures, by their suffix
    merged: tuple[str, ...] = ()  # folders in those of classes, whose pictures are the class's

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.read(index), self.labels[index], self.ids[index])

    def within(self, levels: Levels | None) -> Source:
        """The same pictures, of which those of more than 8 bits are read from these levels (None: as their type says).

        Pictures in memory stay as they were read.
        """
        return replace(self, read=self.read.within(levels))

    def take(self, indices: Sequence[int]) -> Source:
        """The chosen samples, in the given order."""
        labels, ids = tuple(self.labels[i] for i in indices), tuple(self.ids[i] for i in indices)
        return replace(self, labels=labels, ids=ids, read=self.read.take(indices))

    @property
    def names(self) -> tuple[str, ...]:
        return self.ids

    @property
    def arrays(self) -> Sequence[np.ndarray] | None:
        return self.read.arrays if isinstance(self.read, ArrayReader) else None

    @property
    def drawn(self) -> bool:
        return self.native == DRAWN

    def path(self, index: int) -> Path:
        assert isinstance(self.read, FileReader)
        return self.read.root / self.read.paths[index]

    @property
    def holds_numbers(self) -> bool:
        """Whether labels are numbers, and no classes."""
        return any(isinstance(value, float) for label in self.labels[:1] if isinstance(label, tuple) for value in label)

    def class_counts(self) -> list[int]:
        """Pictures of each class; one with several labels counts for each of them."""
        counts = [0] * len(self.classes)
        for label in self.labels:
            for one in label if isinstance(label, tuple) else (label,):
                counts[int(one)] += 1
        return counts


@dataclass(frozen=True)
class FileReader:
    """Opens the files below `root`."""

    root: Path
    paths: tuple[str, ...]
    levels: Levels | None = None

    def __call__(self, index: int) -> Image.Image:
        return open_image(self.root / self.paths[index], levels=self.levels)

    def take(self, indices: Sequence[int]) -> FileReader:
        return replace(self, paths=tuple(self.paths[i] for i in indices))

    def within(self, levels: Levels | None) -> FileReader:
        return replace(self, levels=levels)


@dataclass(frozen=True)
class ArrayReader:
    """Pictures kept in memory: (H, W, 3) uint8 arrays."""

    arrays: Sequence[np.ndarray]

    def __call__(self, index: int) -> Image.Image:
        return Image.fromarray(self.arrays[index])

    def take(self, indices: Sequence[int]) -> ArrayReader:
        return ArrayReader([self.arrays[i] for i in indices])

    def within(self, levels: Levels | None) -> ArrayReader:
        return self


def relabelled(source: Source, classes: Sequence[str] | None) -> Source:
    """`source` with its labels as positions in `classes` (those of a checkpoint), matched by name; None: unchanged.

    Raises UserError when a class is unknown to the checkpoint.
    """
    if classes is None or tuple(classes) == source.classes:
        return source
    place = {name: i for i, name in enumerate(classes)}
    if unknown := [name for name in source.classes if name not in place]:
        raise UserError(f"the checkpoint does not know the class {listed(unknown)}; it knows {listed(list(classes))}")
    new = [place[name] for name in source.classes]
    labels = tuple(tuple(sorted(new[int(x)] for x in y)) if isinstance(y, tuple) else new[y] for y in source.labels)
    return replace(source, classes=tuple(classes), labels=labels)


def cached(source: Source, limit_bytes: int, progress: Callable[[int, int], None] | None = None) -> Source:
    """The source with its pictures decoded once into memory, when they are estimated to take at most `limit_bytes`.

    Raises UserError naming the files that cannot be read, so that bad ones are found before training.
    """
    if isinstance(source.read, ArrayReader) or not len(source):
        return source
    step = max(1, len(source) // MEMORY_SAMPLE)
    sample = [array for i in range(0, len(source), step) if not isinstance(array := _array(source, i), str)]
    if sample and float(np.mean([array.nbytes for array in sample])) * len(source) > limit_bytes:
        return source
    with ThreadPoolExecutor() as pool:
        outcomes = []
        for outcome in pool.map(lambda i: _array(source, i), range(len(source))):
            outcomes.append(outcome)
            if progress is not None:
                progress(len(outcomes), len(source))
    if bad := [outcome for outcome in outcomes if isinstance(outcome, str)]:
        rest = f" (and {len(bad) - SHOWN} more; `convnext check` lists them all)" if len(bad) > SHOWN else ""
        raise UserError("; ".join(bad[:SHOWN]) + rest)
    return replace(source, read=ArrayReader([outcome for outcome in outcomes if not isinstance(outcome, str)]))


def as_given(train: Source, val: Source, name: str, test: Source | None = None) -> Splits[Source]:
    note = f"{len(train):,} training and {len(val):,} validation images in {len(train.classes)} classes"
    return Splits(train, val, name, f"{readable(name)}: {note}{kept_for_the_end(test)}{remarks_on(train, val)}", test)


def kept_for_the_end(test: Source | None) -> str:
    """What a note says of a test split."""
    return "" if test is None else f"; {len(test):,} test images judge the published weights once, at the end"


def remarks_on(*sources: Source) -> str:
    """Sentences on the files beside the pictures and on folders within classes, to end a note with; "" without any."""
    suffixes = sum((Counter(source.left_out) for source in sources), Counter[str]())
    sentence = left_out(suffixes, sum(map(len, sources)))
    within = merged_folders(list(dict.fromkeys(name for source in sources for name in source.merged)))
    alike = alike_within([name for source in sources for name in source.merged], sources[0].classes)
    return "".join(f"; {one}" for one in (sentence, within, alike) if one)


def alike_within(names: Sequence[str], classes: Sequence[str]) -> str:
    """A sentence where each class's folder has the same folders within, of those `names`; "" elsewhere.

    So do the folds of a data set, or its batches, which are no classes.
    """
    inner = {
        name: {path.partition(os.sep)[2] for path in names if path.partition(os.sep)[0] == name} for name in classes
    }
    first, *others = inner.values() or [set()]
    if len(first) < 2 or any(own != first for own in others):
        return ""
    return (
        f"the folders {listed(classes)} all hold folders of the same names ({listed(sorted(first))}): if these are "
        "the classes, put all pictures of each into one folder"
    )


def merged_folders(names: Sequence[str]) -> str:
    """A sentence on folders that lie in those of classes, by their paths; "" where there are none."""
    return (
        f"the folders within classes ({listed(names)}) are no classes of their own: a class is a folder of the "
        "first level, with all pictures below it"
        if names
        else ""
    )


def typical_size(root: Path, paths: Sequence[str]) -> int:
    sides = []
    for path in paths[:: max(1, len(paths) // SIZE_SAMPLE)]:
        try:
            sides.append(min(read_header(root / path).size))
        except BadImage:
            continue  # `check` and `cached` report what cannot be read
    return int(median(sides)) if sides else 0


def _array(source: Source, index: int) -> np.ndarray | str:
    """The pixels, or what is wrong with the file."""
    try:
        return np.asarray(source.read(index))
    except UserError as error:
        return str(error)


def listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def held_out(ids: Sequence[str], fraction: float) -> set[int]:
    """Positions of the given share of images, those whose names hash lowest: at least one, and never all.

    Raises UserError for another fraction than one between 0 and 1, and for fewer than two images.
    """
    if not 0 < fraction < 1:
        raise UserError(f"val_fraction {fraction} must lie between 0 and 1")
    if len(ids) < 2:
        raise UserError("one annotated image cannot be both learned from and judged on; annotate more")
    count = min(len(ids) - 1, max(1, round(fraction * len(ids))))
    order = sorted(range(len(ids)), key=lambda i: hashlib.sha256(os.fsencode(ids[i])).digest())
    return set(order[:count])
