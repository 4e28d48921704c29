"""What is known of a model besides its weights: one value, `model.info`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from ..catalog.releases import AnyRelease
from .load_report import LoadReport


@dataclass
class ModelInfo:
    """What was told of a model by the file that its weights came from; `from_pretrained` fills in all that there is.

    `save_weights` writes what it says. `load_report`: what loading did, None where nothing was loaded.
    `classes`: names, None where nobody gave any. `preprocess`: the evaluation protocol (data/preprocess.py or, of
    detectors and segmenters, data/keep_ratio.py). `metadata`: what the file of `from_pretrained` says of itself.
    `release`: the record of released weights. `category_ids`: a detector's numbers of its classes. `mask_coding`: what
    a segmenter's masks hold.
    """

    load_report: LoadReport | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    release: AnyRelease | None = None
    classes: list[str] | None = None
    preprocess: dict[str, object] = field(default_factory=dict)
    category_ids: list[int] | None = None
    mask_coding: dict[str, object] | None = None

    @property
    def source(self) -> str:
        """What a person would call the file."""
        return "the model" if self.load_report is None else self.load_report.source


class Pretrained(nn.Module):
    """How tools see a model of `from_pretrained`, whatever its class is: a network, a detector, a segmenter, …

    No model is of this class; what else it has is its own.
    """

    info: ModelInfo
    num_classes: int
    variant: str

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def keep_info(model: nn.Module, info: ModelInfo) -> None:
    """Makes it the model's `.info`."""
    model.__dict__["info"] = info  # a plain attribute: torch types all others as tensors and modules


def find_info(model: nn.Module) -> ModelInfo | None:
    """The model's `.info`; None of one that was given none."""
    found = model.__dict__.get("info")
    return found if isinstance(found, ModelInfo) else None


def info_of(model: nn.Module) -> ModelInfo:
    """The model's `.info`. Raises TypeError for one that neither `create_model` nor `from_pretrained` made."""
    found = find_info(model)
    if found is None:
        raise TypeError(f"this {type(model).__name__} came from no file; open one with from_pretrained")
    return found
