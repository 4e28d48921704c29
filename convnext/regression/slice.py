"""Regression as a task (training/slice.py)."""

from __future__ import annotations

from ..data.request import DataRequest
from ..data.source import Source
from ..data.splits import Splits
from ..image_level.hold_out import tell_little
from ..image_level.setup import attempt as try_memory
from ..recipes.recipe import Recipe, TaskName
from ..training.runtime import Batching
from ..training.slice import Attempt
from .check import check
from .data import open_data as _open
from .numbers_csv import LAYOUTS as layouts
from .predict import evaluate, predict, unreadable
from .setup import derive, finish, make_model, make_task
from .task import Regress
from .weights import complete, describe, holds, load, recognise, shown, weights_as

__all__ = ["attempt", "batching", "check", "complete", "derive", "describe", "evaluate", "few_each",
           "finish", "holds", "layouts", "load", "make_model", "make_task", "name", "noun", "open_data",
           "options", "outputs", "predict", "recognise", "remarks", "require_labels", "shown", "unread",
           "unreadable", "weights_as"]  # fmt: skip

name: TaskName = "regress"
noun = "a regressor"
unread: tuple[str, ...] = ("loss", "class_weights", "sampling", "augment.mixup", "augment.cutmix", "augment.mix_prob",
                           "augment.switch_prob", "augment.smoothing")  # fmt: skip
options: tuple[str, ...] = ("views",)
outputs = "targets"
batching = Batching(measured=True)
few_each = 16
attempt: Attempt[Regress] | None = try_memory
LEAST_JUDGED = 50  # pictures, below which R² depends on which ones they are


def open_data(request: DataRequest, recipe: Recipe) -> Splits[Source]:
    """The splits that a request names. Raises UserError for unfit data."""
    return _open(request, recipe.regression.targets)


def remarks(splits: Splits[Source]) -> list[str]:
    """Whether the held-out pictures are too few for a figure on them to say much."""
    return tell_little(len(splits.val), LEAST_JUDGED, ": ", "a table without a split")


def require_labels(recipe: Recipe, splits: Splits[Source]) -> None:
    """A regressor learns from numbers, of which every picture of its table has one."""
