"""The weights that ship with the package, made from a run of the recipe `pretrain`: no head, half precision."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..catalog.variants import STARTER
from ..data.learned import learned_from
from ..errors import UserError
from ..formulas import source
from ..weights.checkpoint import open_checkpoint, write

LICENCE = "that of this package: the pictures are drawn by its own formulas, no photograph is among them"


def save_starter(run: Path, target: Path | None = None) -> Path:
    """Writes what ships of a finished run of `pretrain`; by default into its folder. Returns the file.

    Raises UserError where the folder holds no published weights, or those of another data set.
    """
    opened = open_checkpoint(run / "model.safetensors")
    said, held = opened.metadata, opened.described.settings.get("num_classes")
    if "licence" not in said or held != len(source.answers()):
        raise UserError(f"{run} is no run of the recipe pretrain; make one with convnext pretrain --out {run}")
    weights = {name: value.to(torch.float16) for name, value in opened.weights.items() if not name.startswith("head.")}
    record = learned_from(source.splits(1, 1).train)
    assert record is not None
    kept = {key: said[key] for key in ("format", "variant", "arch", "preprocess")}
    metadata = kept | {"licence": LICENCE, "data": json.dumps({"pictures": record.to_dict()})}
    path = target or run / f"{STARTER}.safetensors"
    write(weights, path, naming="official", metadata=metadata)
    return path
