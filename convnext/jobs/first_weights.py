"""The weights that a run of any task starts from: loaded, reported, and what their file says kept for the run's own."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from ..models import load_weights
from ..training.runtime import Runtime


def start_from(weights: str | None, model: nn.Module, run: Runtime) -> None:
    """Loads what a recipe names into its model, which keeps the report as `.load_report`; None: nothing."""
    if weights is None:
        return
    found = load_weights(model, weights)
    cast(Any, model).load_report = found
    if run.main:
        print(found)


def metadata_of_start(model: nn.Module) -> dict[str, str] | None:
    """What the file of a model's first weights says of itself; None of a model that started from none."""
    report = getattr(model, "load_report", None)
    return None if report is None else report.metadata
