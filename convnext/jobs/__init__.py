"""What `train` does differently for each task, behind one set of functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import ModuleType
from typing import Any

from ..data.level_scan import measured_on
from ..errors import UserError
from ..recipe import Recipe
from ..recipes.folder import Choice
from ..training.runtime import Runtime

# task -> the recipe fields that it never reads; "x." stands for all fields of x
CLASSIFIERS_OWN = (
    "augment.",
    "eval_batch",
    "progressive",
    "dropout",
    "head_init_scale",
    "loss",
    "class_weights",
    "sampling",
)
UNREAD: dict[str, tuple[str, ...]] = {
    "classify": ("detection.", "segmentation."),
    "detect": (*CLASSIFIERS_OWN, "segmentation."),
    "segment": (*CLASSIFIERS_OWN, "detection."),
}
OF = {"classify": "a classifier", "detect": "a detector", "segment": "a segmenter"}


def require_read(task: str, fields: Iterable[str]) -> None:
    """UserError where the user has set a field that training for `task` does not read, and so would do nothing.

    A recipe.json that carries all fields is another matter: it is replayed as it is.
    """
    parts = UNREAD[task]
    if idle := [name for name in fields if name in parts or f"{name.split('.')[0]}." in parts]:
        raise UserError(f"{OF[task]} does not read {', '.join(idle)}, which would change nothing; leave it out")


def derive(given: Recipe, splits: Any, settings: dict[str, Any], run: Runtime, *,
           resumed: bool = False, elsewhere: bool = False) -> tuple[Any, list[Choice]]:  # fmt: skip
    """The recipe for this data by the job of its task, and what is black and white in its pictures, which it keeps.

    The levels are measured, but for those of a `resumed` run, the user's, and a recipe's own on the pictures that they
    were measured on (not `elsewhere`). `settings` gains what `given` and the weights fix. Raises UserError for what
    cannot be.
    """
    job = job_of(given)
    resolved, choices = job.derive(given, splits, settings, run)
    if resolved.task == "detect" and not resumed:  # earlier versions learned boxes as masks
        job.require_outlines(resolved, splits)
    if resumed or "levels" in settings or (resolved.levels is not None and not elsewhere):
        return resolved, choices
    found = measured_on(splits.train)
    if found is None:
        return replace(resolved, levels=None), choices
    return replace(resolved, levels=found.levels), [*choices, Choice("levels", found.levels, found.why)]


def job_of(recipe: Recipe) -> ModuleType:
    """The module of the recipe's task: `derive`, `make_task`, `make_model`, `finish`; a classifier's also `attempt`."""
    if recipe.task == "detect":
        from . import detect

        return detect
    if recipe.task == "segment":
        from . import segment

        return segment
    from . import classify

    return classify
