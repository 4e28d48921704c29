"""Classification as a task (training/slice.py)."""

from __future__ import annotations

from math import sqrt

from ..data.request import DataRequest
from ..data.source import Source
from ..data.splits import Splits
from ..image_level.hold_out import tell_little
from ..image_level.setup import attempt as try_memory
from ..recipes.recipe import Recipe, TaskName
from ..system.shares import Z95
from ..training.runtime import Batching
from ..training.slice import Attempt
from .check import check
from .data import open_data as _open
from .data import open_fold
from .layouts import LAYOUTS as layouts
from .predict import evaluate, predict, unreadable
from .setup import derive, finish, make_model, make_task
from .task import Classify
from .weights import complete, describe, holds, load, recognise, shown, weights_as

__all__ = ["attempt", "batching", "check", "complete", "derive", "describe", "evaluate", "few_each",
           "finish", "holds", "layouts", "load", "make_model", "make_task", "name", "noun", "open_data",
           "options", "outputs", "predict", "recognise", "remarks", "require_labels", "shown", "unread",
           "unreadable", "weights_as"]  # fmt: skip

name: TaskName = "classify"
noun = "a classifier"
unread: tuple[str, ...] = ()
options: tuple[str, ...] = ("views",)
outputs = "classes"
batching = Batching(measured=True)
few_each = 16
LEAST_JUDGED = 50  # pictures, on which a figure can be 14 points off
attempt: Attempt[Classify] | None = try_memory


def open_data(request: DataRequest, recipe: Recipe) -> Splits[Source]:
    """The splits that a request names. Raises UserError for unfit data."""
    if request.folds is not None and request.fold is not None:
        return open_fold(request.data, request.fold, request.folds, multi_label_csv=request.labels)
    return _open(
        request.data,
        val_fraction=request.val_fraction,
        multi_label_csv=request.labels,
        test_chooses=request.test_chooses,
    )


def remarks(splits: Splits[Source]) -> list[str]:
    """Whether the held-out pictures are too few for a figure on them to say much."""
    count = len(splits.val)
    off = 100 * Z95 * sqrt(0.25 / max(1, count))
    how = f": a figure on so few can be {min(off, 100):.0f} points off (95 %); "
    return tell_little(count, LEAST_JUDGED, how, "a folder without val/")


def require_labels(recipe: Recipe, splits: Splits[Source]) -> None:
    """A classifier learns from classes, which every source of its pictures has."""
