"""Every recipe, shrunk to a network and pictures of a few numbers, runs through the one loop and learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixture_types import MakeDense, MakeMeasured, MakePictures

from convnext import api
from convnext.pretrained import save_weights
from convnext.recipes import RECIPES
from convnext.weights.backbone import create_model

STEPS = 20
PARTS = {"detect": {"rpn_cls", "rpn_box"}, "segment": {"main", "auxiliary"}}  # of the loss, in the log


def shrunk(name: str, place: Path) -> dict[str, Any]:
    """Settings that leave of a recipe its rules: groups, decay, averaging, augmentation, loss."""
    recipe = RECIPES[name]
    isotropic = "isotropic" in recipe.model
    shape: dict[str, Any] = (
        {"depths": (2,), "dims": (16,)} if isotropic else {"depths": (1, 1, 2, 1), "dims": (8, 8, 16, 16)}
    )
    model = recipe.model if recipe.model != "auto" else "convnext_atto"
    if recipe.model.startswith("roadmap:"):  # its shape is in its name
        model, shape = recipe.model.replace("1e-06", "1,width=0.1,depth=0.3"), {}
    settings = {
        **shape,
        "model": model,
        "image_size": 32,
        "batch_size": 12,
        "micro_batch": None,
        "steps": STEPS,
        "num_classes": None,
        "workers": 0,
        "precision": "fp32",
        "eval_every": 100,
        "save_every": 100,
        "optim.lr": 5e-3,
        "schedule.warmup_epochs": 0,
    }
    if shape:
        settings["layer_scale"] = 1.0
    settings["weights"] = None
    if recipe.task == "detect":
        settings |= {"optim.lr": 1e-3, "image_size": 64, "batch_size": 2, "steps": 9, "detection.regions": 16}
    if recipe.task == "segment":
        settings |= {"optim.lr": 1e-3, "image_size": 64, "batch_size": 4, "segmentation.channels": 16}
    if recipe.weights is not None or recipe.derive in ("finetune", "probe"):
        torch.manual_seed(0)
        start = create_model(model, num_classes=1000, layer_scale_init_value=1.0, **shape)
        save_weights(start, place / "start.safetensors")
        settings["weights"] = str(place / "start.safetensors")
    return settings


# They differ in numbers alone, and even shrunk a cascade has 80 million weights, most of which Mask R-CNN has too: the
# losses of tests/detection/model/test_rcnn.py are for every day.
BIG = [name for name in RECIPES if "cascade" in name or (name.startswith("ade20k") and not name.endswith("/tiny"))]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in BIG else n for n in RECIPES])
def test_a_shrunk_recipe_trains(
    name: str, pictures: MakePictures, measured: MakeMeasured, annotated: MakeDense, masked: MakeDense, tmp_path: Path
) -> None:
    make = {"detect": annotated, "segment": masked, "classify": lambda: pictures(train=36, size=32)}
    make["regress"] = lambda: measured(size=32)
    data = make[RECIPES[name].task]()
    settings = shrunk(name, tmp_path)
    result = api.train(data, name, out=tmp_path / "run", settings=settings, report=False)
    rows = [row for row in result.history if row["kind"] == "train"]
    losses = [row["loss"] for row in rows]
    parts = [row.get("losses", {}) for row in rows]
    assert parts[0].keys() >= PARTS.get(RECIPES[name].task, set())
    assert bool(parts[0]) == (RECIPES[name].task in PARTS)
    assert [sum(part.values()) for part in parts if part] == pytest.approx(losses if parts[0] else [], rel=1e-5)
    assert result.history[-1]["step"] == settings["steps"]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-6:]) < np.mean(losses[:3])


def test_the_probe_moves_nothing_but_the_head(pictures: MakePictures, tmp_path: Path) -> None:
    settings = shrunk("probe", tmp_path)
    api.train(pictures(train=36, size=32), "probe", out=tmp_path / "run", settings=settings, report=False)
    from safetensors.torch import load_file

    before, after = load_file(tmp_path / "start.safetensors"), load_file(tmp_path / "run" / "model.safetensors")
    moved = {name for name in after if after[name].shape != before[name].shape or (after[name] != before[name]).any()}
    assert moved == {"head.weight", "head.bias"}
