"""What lies in a folder: decided once, from names and a few headers, for everyone who is given one.

`train`, `check` and `evaluate` ask here, so that no two of them take the same folder for different things. Listings are
cut off: a folder of 200,000 files takes a fraction of a second.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ..classification import builtin
from ..classification.layouts import (
    LABEL_FILES,
    MOST_INSIDE,
    files_below,
    folders_of_classes,
    label_file,
    pictures_below,
    seen_classes,
)
from ..data import folders
from ..data.images import IMAGE_SUFFIXES, BadImage, open_image, readable
from ..data.layouts import Layout
from ..data.source import listed
from ..errors import UserError
from ..image_level.table import forget
from ..recipes import EVERYDAY
from ..recipes.recipe import TaskName
from ..segmentation import mask_layouts
from . import DEFAULT, TASKS, task_slice

PART = re.compile(r"(train|val|test|images?|imgs?|jpegimages|annotations|labels|masks)(ing|id|idation)?([-_. \d].*)?")
MOST_FILES = 2000  # of a folder that are looked at, where any will do
SAMPLE = 100  # pictures whose masks are looked for
OPENED = 3  # masks whose pixels are looked at
PAIRED = 0.5  # share of the sampled pictures that must have a mask of their name
FLAT = 0.7  # share of a mask's pixels that equal their neighbour; photographs have below a half
FEW_COLOURS = 32  # of a mask, where its areas are small
NOTHING = {  # what a place is that no task learns from
    "inside": Layout("inside", "a data folder, but is none"),
    "labels": Layout("labels", "labels that are not understood"),
    "unknown": Layout("unknown", "nothing that is known"),
}


@cache
def known() -> dict[str, tuple[TaskName, Layout]]:
    """Every layout of every task by its kind, those first that are the surest by what they are seen by."""
    rows = [(task, layout) for task in TASKS for layout in task_slice(task).layouts]
    return {layout.kind: (task, layout) for task, layout in sorted(rows, key=lambda row: row[1].rank)}


def task_of(kind: str) -> TaskName | None:
    """What can be learned from a place of a kind; None: nothing."""
    return known()[kind][0] if kind in known() else None


def holds(kind: str) -> str:
    """What a place of a kind holds."""
    return known()[kind][1].holds if kind in known() else NOTHING[kind].holds


@dataclass(frozen=True)
class Look:
    """What a place is, and by what that was seen; `also` is what it may be read as when asked to, with the reasons."""

    name: str
    kind: str
    why: str
    also: tuple[tuple[str, str], ...] = ()

    @property
    def task(self) -> TaskName | None:
        """What can be learned from it; None: nothing."""
        return task_of(self.kind)

    @property
    def understood(self) -> bool:
        """Whether a task's reader could say more about it."""
        return self.kind not in ("inside", "labels")

    @property
    def tasks(self) -> set[TaskName]:
        """Every task that it may be read for."""
        return {task for kind in (self.kind, *(kind for kind, _ in self.also)) if (task := task_of(kind))}

    def __str__(self) -> str:
        """A clause: what it holds, and why that is thought."""
        return f"{readable(self.name)} holds {holds(self.kind)} ({self.why})"

    def others(self) -> str:
        """What else it may be read as, as a sentence; empty where there is nothing."""
        parts = [
            f"{holds(kind)} ({why}) by --recipe {EVERYDAY[task]}"
            for kind, why in self.also
            if (task := task_of(kind)) not in (None, self.task) and known()[kind][1].offered
        ]
        return f"it may also be read as {' or '.join(parts)}" if parts else ""


def look_at(where: str | Path | None = None, labels: str | Path | None = None) -> Look:
    """What a folder, an annotation file, a file of arrays or the name of a built-in set (None: the digits) holds.

    `labels` is the file that the user named beside it: a table of labels, or the classes of masks. Raises UserError
    where there is no such place, or it cannot be listed.
    """
    try:
        return _seen("digits" if where is None else str(where), labels)
    finally:
        forget()


def _seen(text: str, labels: str | Path | None) -> Look:
    root = Path(os.path.expanduser(text))
    if text in builtin.NATIVE and not root.is_dir():
        return Look(text, "built-in", "a built-in set")
    if root.is_file():
        for kind, (_, layout) in known().items():
            if root.suffix in layout.suffixes:
                return Look(text, kind, layout.file_why)
    folders.require_folder(root, builtin.NATIVE)
    folders.class_folders(root)  # raises where the folder may not be listed
    found = {kind: why for kind, (_, layout) in known().items() if (why := layout.seen(root))}
    rivals = {kind: layout.rival for kind, (_, layout) in known().items() if layout.rival is not None}
    filled = "classes" in found and rivals.keys() & found.keys() and _holds_classes(root)
    if filled:  # a file that is no more than called as one of boxes makes them no boxes
        found = {kind: why for kind, why in found.items() if kind not in rivals or rivals[kind](root)}
    if labels is not None:
        listing = _by_table(Path(labels).expanduser(), root)
        if listing or "masks" not in found:
            (kind, why), *others = listing or [("table", f"{Path(labels).name} lists them")]
            return Look(text, kind, why, tuple(others))
    if not found:
        return Look(text, *_unknown(root))
    kind, why = next(iter(found.items()))
    if kind == "masks":
        return _masks_or_classes(text, root, why)
    also = ((other, its) for other, its in found.items() if other != kind and (other != "classes" or filled))
    return Look(text, kind, why, tuple(also))


def require(look: Look, task: TaskName, recipe: str) -> None:
    """UserError, naming the recipe that fits, where a place is for another task than the one that `recipe` is for.

    Of an unknown place the task's own reader says what is missing.
    """
    require_understood(look)
    if look.task is None or task in look.tasks or _unnamed(look, task):
        return
    raise UserError(
        f"{look}, and {recipe} is for {TASKS[task]}; use --recipe {EVERYDAY[look.task]}, or leave --recipe out"
    )


def require_understood(look: Look) -> None:
    """UserError for a place that no task's reader could say more about."""
    if not look.understood:
        raise UserError(str(look))


def _unnamed(look: Look, task: TaskName) -> bool:
    """Whether no place was named, and the task has no built-in set: its reader says what to name."""
    return look.kind == "built-in" and task != DEFAULT


def require_for_model(look: Look, task: TaskName, checkpoint: str | Path) -> None:
    """UserError where pictures are labelled for another task than a checkpoint's."""
    require_understood(look)
    if look.task is not None and task not in look.tasks and not _unnamed(look, task):
        raise UserError(f"{checkpoint} was trained for {TASKS[task]}, and {look}; judge it on labels of its own kind")


def _by_table(table: Path, root: Path) -> list[tuple[str, str]]:
    """The kinds of place that a table which the user named makes of a folder, each with the reason."""
    if not table.is_file():
        return []
    return [(kind, why) for kind, (_, layout) in known().items() if (why := layout.of_table(table, root))]


def _holds_classes(root: Path) -> bool:
    """Whether two folders of pictures or more are called as classes are, and not as the parts of other layouts."""
    return sum(not PART.fullmatch(name.name.lower()) for name in folders_of_classes(root)[1]) > 1


def _masks_or_classes(text: str, root: Path, why: str) -> Look:
    """Two folders called as pictures and masks are: whether they are that, or classes of these names.

    Masks have the names of pictures and look like masks. Two classes can be called "images" and "masks" all the same.
    """
    try:
        found = mask_layouts.masked_folder(root)
    except UserError:
        return Look(text, "masks", why)
    pictures, labels = found.shown
    classes = seen_classes(root)
    sample = {path.relative_to(pictures).with_suffix("").as_posix(): path for path in pictures_below(pictures, SAMPLE)}
    side_by_side = pictures != labels and pictures.parent == labels.parent  # no class is divided into train and val
    if classes is None or not sample or not side_by_side or found.is_voc:
        return Look(text, "masks", why)
    there = {path.relative_to(labels).with_suffix("").as_posix(): path for path in pictures_below(labels)}
    pairs = mask_layouts.match(sample, there, pictures).rows
    paired = len(pairs) >= PAIRED * len(sample)
    drawn = _drawn([mask for _, _, mask in pairs[:OPENED]] or list(there.values())[:OPENED])
    if drawn and (paired or not _drawn(list(sample.values())[:OPENED])):
        return Look(text, "masks", why)
    names = f"{pictures.name} and {labels.name}"
    reason = f"those of {names} look alike" if paired else f"those of {names} have other names"
    return Look(text, "classes", f"{reason}, so they are classes and not masks", (("masks", why),))


def _drawn(paths: list[Path]) -> bool:
    """Whether most of some pictures look like masks: one value over whole areas, or few values in all."""
    votes = []
    for path in paths:
        try:
            pixels = np.asarray(open_image(path))
        except BadImage:
            continue
        flat = pixels.shape[1] > 1 and (pixels[:, 1:] == pixels[:, :-1]).all(-1).mean() >= FLAT
        some = pixels.reshape(-1, 3)[:: max(1, pixels.size // 3 // MOST_FILES)]
        votes.append(flat or len(np.unique(some, axis=0)) <= FEW_COLOURS)
    return bool(votes) and sum(votes) * 2 > len(votes)


def _unknown(root: Path) -> tuple[str, str]:
    """Why a folder is nothing that is known, and what would make it so."""
    for inner in folders.class_folders(root)[:MOST_INSIDE]:
        if kind := next((kind for kind, (_, layout) in known().items() if layout.seen(inner)), None):
            return "inside", f"{readable(inner.name)} in it holds {holds(kind)}: pass that folder"
    if path := label_file(root, root):
        suffix = path.suffix.lower()
        return "labels", f"there are pictures and {suffix} files of their names, {LABEL_FILES[suffix]}"
    suffixes = Counter(path.suffix.lower() for path in itertools.islice(files_below(root, lambda _: True), MOST_FILES))
    if any(suffixes[suffix] for suffix in IMAGE_SUFFIXES):
        return "unknown", "there are pictures, but neither folders of classes nor labels, boxes or masks"
    return "unknown", f"there are no pictures among its files{': ' + listed(sorted(suffixes)) if suffixes else ''}"
