"""Detection and segmentation before the first step: what is refused, what is frozen, which weights are missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import MakeDense, MakePictures
from safetensors.torch import load_file

from convnext import UserError, api
from convnext.pretrained import save_weights
from convnext.weights.backbone import create_model

SMALL: dict[str, Any] = {
    "model": "convnext_atto", "depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16), "image_size": 64, "batch_size": 2,
    "steps": 2, "workers": 0, "precision": "fp32", "optim.lr": 1e-2,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {"detect": {"detection.regions": 16}, "segment": {"segmentation.channels": 8}}


@pytest.mark.parametrize("field", ["dropout=0.1", "class_weights=balanced", "sampling=balanced", "augment.mixup=0.1",
                                   "progressive=0.5", "loss=bce", "head_init_scale=0.1"])  # fmt: skip
@pytest.mark.parametrize("task", ["detect", "segment"])
def test_a_field_that_would_do_nothing_is_refused(
    task: str, field: str, annotated: MakeDense, masked: MakeDense, tmp_path: Path
) -> None:
    """They were taken without a word and read nowhere."""
    data = {"detect": annotated, "segment": masked}[task](train=2, val=1)
    name, _, value = field.partition("=")
    with pytest.raises(UserError, match=f"does not read {name}, which would change nothing"):
        api.train(data, out=tmp_path / "run", settings={name: value})
    assert not (tmp_path / "run").exists()


def test_fields_of_another_task_are_refused_of_a_classifier(pictures: MakePictures, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a classifier does not read segmentation\.channels"):
        api.train(pictures(), out=tmp_path / "run", settings={"segmentation.channels": 8})


def test_a_paper_recipe_of_another_length_is_judged_and_saved_within_it(masked: MakeDense, tmp_path: Path) -> None:
    """Of ten epochs none was saved before the end, as the recipe's own 126 are saved every 12.67."""
    settings = {name: value for name, value in SMALL.items() if name != "steps"} | OWN["segment"]
    api.train(
        masked(train=4, val=1),
        "ade20k/upernet/tiny",
        out=tmp_path / "run",
        report=False,
        settings=settings | {"weights": None, "epochs": 2, "micro_batch": None},
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "eval"] == [2, 4]


def test_a_replayed_recipe_carries_all_fields(masked: MakeDense, tmp_path: Path) -> None:
    data = masked(train=4, val=1)
    api.train(data, out=tmp_path / "one", settings=SMALL | OWN["segment"], report=False)
    again = api.train(data, tmp_path / "one" / "recipe.json", out=tmp_path / "two", report=False)
    assert again.metric == api.run_folder.result(tmp_path / "one").metric


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_a_frozen_backbone_does_not_move(task: str, annotated: MakeDense, masked: MakeDense, tmp_path: Path) -> None:
    """recipe.json said that it was frozen, and it moved."""
    data = {"detect": annotated, "segment": masked}[task](train=4, val=1)
    settings = SMALL | OWN[task]
    with pytest.raises(UserError, match="without --weights that is noise"):
        api.train(data, out=tmp_path / "none", settings=settings | {"freeze_backbone": True})
    torch.manual_seed(0)
    start = create_model("convnext_atto", num_classes=3, depths=SMALL["depths"], dims=SMALL["dims"])
    save_weights(start, tmp_path / "start.safetensors")
    shape = {name: value for name, value in settings.items() if name not in ("model", "depths", "dims")}
    api.train(
        data,
        out=tmp_path / "run",
        report=False,
        settings=shape | {"freeze_backbone": "true", "weights": str(tmp_path / "start.safetensors")},
    )
    before, after = load_file(tmp_path / "start.safetensors"), load_file(tmp_path / "run" / "model.safetensors")
    kept = [name for name in before if f"backbone.{name}" in after]
    assert len(kept) > 30
    assert all(torch.equal(before[name], after[f"backbone.{name}"]) for name in kept)
    assert api.run_folder.result(tmp_path / "run").history[-1]["step"] == SMALL["steps"]


@pytest.mark.parametrize("recipe", ["coco/mask_rcnn/tiny", "ade20k/upernet/tiny"])
def test_a_paper_recipe_on_a_network_without_released_weights(
    recipe: str, annotated: MakeDense, masked: MakeDense, tmp_path: Path
) -> None:
    """README's own commands for two cores ended in "no released weights 'in1k_noema' for convnext_atto"."""
    data = (annotated if recipe.startswith("coco") else masked)(train=2, val=1)
    with pytest.raises(
        UserError, match=r"none of convnext_atto: add --weights none .*everyday recipe, (detect|segment)"
    ):
        api.train(data, recipe, out=tmp_path / "run", settings={"model": "convnext_atto"})


def test_pictures_below_a_relative_folder_are_measured(
    masked: MakeDense, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their short side was said to be 0."""
    masked(train=4, val=1, side=192)
    monkeypatch.chdir(tmp_path)
    settings = {name: value for name, value in SMALL.items() if name != "image_size"} | OWN["segment"] | {"steps": 1}
    api.train("masks", out="run", settings=settings, report=False)
    said = capsys.readouterr().out
    assert "image_size = 160: the pictures' short side is 144" in said
    assert said.startswith("masks holds pictures with masks (those of images/train are in annotations/train): segment")
