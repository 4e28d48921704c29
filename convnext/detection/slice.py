"""Detection as a task (training/slice.py)."""

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
from . import coco_files, voc, yolo
from .check import check_annotations
from .data import open_detection
from .predict import evaluate, predict, unreadable
from .setup import derive, finish, make_model, make_task
from .setup import require_outlines as require_labels
from .source import DetectionSplits
from .task import Detect
from .weights import complete, describe, holds, load, recognise, shown, weights_as

__all__ = ["attempt", "batching", "check", "complete", "derive", "describe", "evaluate", "few_each",
           "finish", "holds", "layouts", "load", "make_model", "make_task", "name", "noun", "open_data",
           "options", "outputs", "predict", "recognise", "remarks", "require_labels", "shown", "unread",
           "unreadable", "weights_as"]  # fmt: skip

name: TaskName = "detect"
noun = "a detector"
unread: tuple[str, ...] = CLASSIFIERS_OWN
options: tuple[str, ...] = ("score", "out")
outputs = "classes"
batching = Batching(same="as many images a step")  # which are grouped by their shape
few_each = 0
attempt: Attempt[Detect] | None = None  # the largest batch is not measured


def _coco(root: Path) -> str | None:
    path = coco_files.first_file(root)
    return None if path is None else f"annotations in {readable(str(path.relative_to(root)))}"


def _coco_has_boxes(root: Path) -> bool:
    path = coco_files.first_file(root)
    return path is not None and coco_files.names_boxes(path)


def _yolo(root: Path) -> str | None:
    return "a YAML file names its pictures and classes" if yolo.is_yolo(root) else None


def _voc(root: Path) -> str | None:
    return "an XML file of boxes for each picture" if voc.is_voc(root) else None


layouts = (
    Layout("coco", "objects in COCO's format", 3, _coco, suffixes=(".json",), file_why="an annotation file",
           rival=_coco_has_boxes),
    Layout("yolo", "objects in YOLO's format", 4, _yolo, suffixes=(".yaml", ".yml"),
           file_why="a list of image folders and classes", rival=yolo.is_yolo),
    Layout("voc", "objects in PASCAL VOC's format", 5, _voc, rival=voc.has_pairs),
)  # fmt: skip


def open_data(request: DataRequest, recipe: Recipe) -> DetectionSplits:
    """The splits that a request names. Raises UserError for unfit data."""
    require_no_folds(request)
    if request.data is None:
        raise UserError(f"{recipe.name} needs annotated pictures: pass a folder with COCO annotations")
    return open_detection(request.data, val_fraction=request.val_fraction, keep_empty=recipe.detection.keep_empty)


def remarks(splits: DetectionSplits) -> list[str]:
    """Nothing: how far a figure on few pictures can be off depends on what they show."""
    return []


def check(asked: CheckRequest) -> FolderReport:
    """Whether a folder is fit to train on; annotations name their classes themselves, so the labels are not read."""
    return check_annotations(asked.root, asked.progress, asked.tell)
