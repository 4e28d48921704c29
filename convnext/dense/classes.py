"""The classes of a detector or segmenter beside those of the pictures it is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from ..weights.info import info_of
from .model import DenseModel

SHOWN = 5  # classes that a message names


def require_known(model: DenseModel, checkpoint: str | Path, names: Sequence[str]) -> None:
    """UserError where the model does not know one of the names, or without names of its own another number of them."""
    known = info_of(model).classes
    if known is None:
        if model.num_classes != len(names):
            counts = f"{model.num_classes} classes without names, the data has {len(names)}"
            raise UserError(f"{checkpoint} knows {counts}; they cannot be matched")
    elif missing := [name for name in names if name not in known]:
        shown = ", ".join(known[:SHOWN])
        raise UserError(f"{checkpoint} does not know the class {missing[0]!r}; it knows {shown}, …")
