"""The weights that a run of any task starts from: loaded, reported, and what their file says kept for the run's own."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from ..weights.backbone import Load, load_from
from .runtime import Runtime


def start_from(weights: str | None, model: nn.Module, run: Runtime, load: Load) -> None:
    """Loads what a recipe names into its model, which keeps the report as `.load_report`; None: nothing.

    `load` is that of the model's kind.
    """
    if weights is None:
        return
    found = load_from(weights, model, load)
    cast(Any, model).load_report = found
    if run.is_main:
        print(found)


def metadata_of_start(model: nn.Module) -> dict[str, str] | None:
    """What the file of a model's first weights says of itself; None of a model that started from none."""
    report = getattr(model, "load_report", None)
    return None if report is None else report.metadata
