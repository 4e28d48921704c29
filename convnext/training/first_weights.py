"""The weights that a run of any task starts from: loaded, reported, and what their file says kept for the run's own."""

from __future__ import annotations

from torch import nn

from ..weights.backbone import Load, M, load_from
from ..weights.info import ModelInfo, find_info, keep_info
from .runtime import Runtime


def start_from(weights: str | None, model: M, run: Runtime, load: Load[M]) -> None:
    """Loads what a recipe names into its model, which keeps the report in its `.info`; None: nothing.

    `load` is that of the model's kind.
    """
    if weights is None:
        return
    found = load_from(weights, model, load)
    keep_info(model, ModelInfo(found))
    if run.is_main:
        print(found)


def metadata_of_start(model: nn.Module) -> dict[str, str] | None:
    """What the file of a model's first weights says of itself; None of a model that started from none."""
    info = find_info(model)
    return None if info is None or info.load_report is None else info.load_report.metadata
