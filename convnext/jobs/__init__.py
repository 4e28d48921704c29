"""What `train` does differently for each task, behind one set of functions."""

from __future__ import annotations

from types import ModuleType

from ..recipe import Recipe


def job_of(recipe: Recipe) -> ModuleType:
    """The module of the recipe's task: `derive`, `make_task`, `make_model`, `attempt`, `finish`."""
    if recipe.task == "detect":
        from . import detect

        return detect
    from . import classify

    return classify
