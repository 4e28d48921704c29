"""The weights that ship with the package, made from a run of the recipe `pretrain`: no head, half precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch

from .data.learned import learned_from
from .errors import UserError
from .formulas import source
from .models import from_pretrained
from .models.checkpoint import write
from .variants import STARTER

LICENCE = "that of this package: the pictures are drawn by its own formulas, no photograph is among them"


def save_starter(run: Path, target: Path | None = None) -> Path:
    """Writes what ships of a finished run of `pretrain`; by default into its folder. Returns the file.

    Raises UserError where the folder holds no published weights, or those of another data set.
    """
    model = cast(Any, from_pretrained(run / "model.safetensors"))
    if "licence" not in model.metadata or model.num_classes != len(source.answers()):
        raise UserError(f"{run} is no run of the recipe pretrain; make one with convnext pretrain --out {run}")
    weights = {
        name: value.to(torch.float16) for name, value in model.state_dict().items() if not name.startswith("head.")
    }
    record = learned_from(source.splits(1, 1).train)
    assert record is not None
    kept = {key: model.metadata[key] for key in ("format", "variant", "arch", "preprocess")}
    metadata = kept | {"licence": LICENCE, "data": json.dumps({"pictures": record.to_dict()})}
    path = target or run / f"{STARTER}.safetensors"
    write(weights, path, naming="official", metadata=metadata)
    return path
