"""Segmentation as a task (training/slice.py)."""

from __future__ import annotations

from pathlib import Path

from ..data.images import readable
from ..data.layouts import Layout
from ..data.report import FolderReport
from ..data.request import DataRequest, require_no_folds
from ..errors import UserError
from ..recipes.recipe import CLASSIFIERS_OWN, Recipe, TaskName
from ..training.runtime import Batching
from ..training.slice import Attempt, CheckRequest
from . import mask_layouts
from .check import check_masks
from .data import SegmentationSplits, open_masks
from .mask_scan import with_sound_test
from .predict import evaluate, predict, unreadable
from .setup import derive, finish, make_model, make_task
from .task import Segment
from .weights import complete, describe, holds, load, recognise, shown, weights_as

__all__ = ["attempt", "batching", "check", "complete", "derive", "describe", "evaluate", "few_each",
           "finish", "holds", "layouts", "load", "make_model", "make_task", "name", "noun", "open_data",
           "options", "outputs", "predict", "recognise", "remarks", "require_labels", "shown", "unread",
           "unreadable", "weights_as"]  # fmt: skip

name: TaskName = "segment"
noun = "a segmenter"
unread: tuple[str, ...] = CLASSIFIERS_OWN
options: tuple[str, ...] = ("mode", "out")
outputs = "classes"
batching = Batching(least=2)  # BatchNorm needs two pictures
few_each = 0
attempt: Attempt[Segment] | None = None  # the largest batch is not measured


def _masks(root: Path) -> str | None:
    """By the names of folders; whether they hold what they are called, tasks/look.py sees."""
    if not mask_layouts.is_masked(root):
        return None
    try:
        found = mask_layouts.masked_folder(root)
    except UserError:
        return "no folder of masks is beside its pictures"
    pictures, labels = found.shown
    if pictures == labels:
        return "beside pictures lie those of their names and an ending such as _mask"
    return f"those of {_below(root, pictures)} are in {_below(root, labels)}"


def _below(root: Path, place: Path) -> str:
    return readable(str(place.relative_to(root)))


layouts = (Layout("masks", "pictures with masks", 6, _masks),)


def open_data(request: DataRequest, recipe: Recipe) -> SegmentationSplits:
    """The splits that a request names. Raises UserError for unfit data."""
    require_no_folds(request)
    if request.data is None:
        raise UserError(f"{recipe.name} needs pictures with masks: pass a folder with images/ and annotations/")
    ignore = recipe.segmentation.ignore
    return with_sound_test(
        open_masks(request.data, classes=request.labels, ignore=ignore, val_fraction=request.val_fraction)
    )


def require_labels(recipe: Recipe, splits: SegmentationSplits) -> None:
    """Masks show every pixel's class, which is all that a segmenter learns."""


def remarks(splits: SegmentationSplits) -> list[str]:
    """Nothing: how far a figure on few pictures can be off depends on what they show."""
    return []


def check(asked: CheckRequest) -> FolderReport:
    """Whether a folder is fit to train on; unusable pictures stand in the report alone, so nothing is told."""
    return check_masks(asked.root, asked.labels, asked.progress)
