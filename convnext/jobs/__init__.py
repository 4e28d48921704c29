"""What `train` does differently for each task, behind one set of functions."""

from __future__ import annotations

from types import ModuleType

from ..recipe import Recipe


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
