"""What a trained model does with its validation images, gathered for the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from .errors import UserError
from .explain import class_activation_map, overlay
from .models import from_pretrained
from .report import Evidence
from .run_folder import first_row, result
from .tasks.classify import Classify

MAPS = 8  # pictures whose class-activation map is shown


def gather(path: Path, task: Classify) -> Evidence:
    """Evaluates the model.safetensors of the run at `path` on the task's validation images, on this process alone."""
    outcome = result(path)
    model = from_pretrained(path / "model.safetensors").to(task.run.device)
    rows: list[dict[str, Any]] = []
    task.evaluate(model, rows.append)
    probs = np.stack([row["probabilities"] for row in rows])
    targets = np.array([row["target"] for row in rows])
    place = {name: i for i, name in enumerate(task.val.ids)}

    def picture(name: str) -> Image.Image:
        return task.val[place[name]].image

    return Evidence(
        classes=list(task.val.classes),
        ids=[row["id"] for row in rows],
        probs=probs,
        targets=targets,
        loader=picture,
        cams=[] if task.multi_label else _maps(model, task, [row["id"] for row in rows], probs, targets),
        command=first_row(path)["command"],
        comparisons=outcome.comparisons,
        split=outcome.judged_split,
        choices=outcome.choices if outcome.test is None else 1,
        said=outcome.headline,
    )


def _maps(model: nn.Module, task: Classify, ids: Sequence[str], probs: np.ndarray,
          targets: np.ndarray) -> list[tuple[Image.Image, str]]:  # fmt: skip
    """One picture a class, with the map of what the network took it for; none for networks without maps."""
    chosen = _one_per_class(targets)
    place = {name: i for i, name in enumerate(task.val.ids)}
    pictures = [task.val[place[ids[i]]].image for i in chosen]
    images = torch.stack([task.preprocess(picture) for picture in pictures]).to(task.run.device)
    said = [int(probs[i].argmax()) for i in chosen]
    try:
        maps = class_activation_map(model, images, torch.tensor(said))
    except UserError:
        return []
    names = task.val.classes
    captions = [f"{names[k]} ({probs[i, k]:.0%})" for i, k in zip(chosen, said, strict=True)]
    shown = [task.preprocess.resize(picture) for picture in pictures]
    return [(overlay(one, heat), text) for one, heat, text in zip(shown, maps, captions, strict=True)]


def _one_per_class(targets: np.ndarray) -> list[int]:
    _, first = np.unique(targets, return_index=True)
    return sorted(first.tolist())[:MAPS]
