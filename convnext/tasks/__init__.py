"""The tasks and where they are looked up: by a recipe, by a model, by a release, and in look.py by a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, cast

from ..catalog.releases import AnyRelease, DetectorRelease, SegmenterRelease
from ..data.request import DataRequest
from ..errors import UserError
from ..recipes.everyday import Choice
from ..recipes.recipe import Recipe, Settings, TaskName

if TYPE_CHECKING:
    from torch import nn

    from ..classification import slice as classify
    from ..classification.task import Classify
    from ..data.source import Source
    from ..data.splits import Pictures, Splits
    from ..detection import slice as detect
    from ..detection.model.rcnn import Detector
    from ..detection.source import DetectionSource
    from ..detection.task import Detect
    from ..regression import slice as regress
    from ..regression.model import Regressor
    from ..regression.task import Regress
    from ..segmentation import slice as segment
    from ..segmentation.data import SegmentationSource
    from ..segmentation.model import Segmenter
    from ..segmentation.task import Segment
    from ..training.runtime import Runtime
    from ..training.slice import AnySlice, TaskSlice

    _classify: TaskSlice[Source, Classify, nn.Module] = classify
    _regress: TaskSlice[Source, Regress, Regressor] = regress
    _detect: TaskSlice[DetectionSource, Detect, Detector] = detect
    _segment: TaskSlice[SegmentationSource, Segment, Segmenter] = segment

DEFAULT: TaskName = "classify"  # of a place that is nothing known: its reader says what is missing
TASKS: dict[TaskName, str] = {
    "classify": "classification",
    "regress": "regression",
    "detect": "detection",
    "segment": "segmentation",
}  # recipe.task -> its folder
RELEASED: dict[type, TaskName] = {DetectorRelease: "detect", SegmenterRelease: "segment"}


def task_slice(name: TaskName) -> AnySlice:
    """The module of a task; loaded when it is first asked for."""
    return cast("AnySlice", import_module(f"..{TASKS[name]}.slice", __name__))


def all_slices() -> Iterator[AnySlice]:
    return map(task_slice, TASKS)


def slice_of(model: nn.Module) -> AnySlice:
    """The task of a model's answers."""
    for one in all_slices():
        if one.holds(model):
            return one
    raise TypeError(f"{type(model).__name__} is a model of no task")


def of_release(release: AnyRelease) -> AnySlice:
    """The task that released weights were made for."""
    return task_slice(RELEASED.get(type(release), DEFAULT))


def open_data(request: DataRequest, recipe: Recipe) -> Splits[Pictures]:
    """The splits that a request names, of the kind that the recipe's task learns from. UserError for unfit data."""
    return task_slice(recipe.task).open_data(request, recipe)


def require_read(task: TaskName, fields: Iterable[str]) -> None:
    """UserError where the user has set a field that training for `task` does not read, and so would do nothing.

    A recipe.json that carries all fields is another matter: it is replayed as it is.
    """
    kind = task_slice(task)
    others = {f"{room}." for other, room in TASKS.items() if other != task}  # what another task's member holds
    unread = others | set(kind.unread)
    if idle := [name for name in fields if name in unread or f"{name.split('.')[0]}." in unread]:
        raise UserError(f"{kind.noun} does not read {', '.join(idle)}, which would change nothing; leave it out")


def derive(
    given: Recipe,
    splits: Splits[Pictures],
    settings: Settings,
    run: Runtime,
    *,
    resumed: bool = False,
    elsewhere: bool = False,
) -> tuple[Recipe, list[Choice]]:
    """The recipe for this data by its task, and what is black and white in its pictures, which it keeps.

    The levels are measured, but for those of a `resumed` run, the user's, and a recipe's own on the pictures that they
    were measured on (not `elsewhere`). `settings` gains what `given` and the weights fix. Raises UserError for what
    cannot be.
    """
    from ..data.level_scan import measured_on

    kind = task_slice(given.task)
    resolved, choices = kind.derive(given, splits, settings, run)
    if not resumed:  # earlier versions learned boxes as masks
        kind.require_labels(resolved, splits)
    if resumed or "levels" in settings or (resolved.levels is not None and not elsewhere):
        return resolved, choices
    found = measured_on(splits.train)
    if found is None:
        return replace(resolved, levels=None), choices
    return replace(resolved, levels=found.levels), [*choices, Choice("levels", found.levels, found.why)]
