"""Regression runs: they learn, missing numbers cost nothing, two processes are one, weights go on."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixture_types import AsArguments, MakeMeasured
from narrow import instance_of

from convnext import api, from_pretrained
from convnext.commands.main import main
from convnext.data import Batch
from convnext.data.request import DataRequest
from convnext.errors import UserError
from convnext.recipes import get_recipe
from convnext.recipes.everyday import suited
from convnext.regression.data import open_data
from convnext.regression.pixel_baselines import pixel_baselines, ridge
from convnext.regression.predict import RegressionPrediction


def test_it_learns_what_there_is_to_learn_and_beats_the_mean(
    measured: MakeMeasured, tiny_numbers: dict[str, Any], tmp_path: Path
) -> None:
    settings = tiny_numbers | {"steps": 250, "eval_every": 10, "save_every": 50, "optim.lr": 3e-3, "drop_path": 0.0}
    run = api.train(measured(count=80), out=tmp_path / "run", settings=settings)
    assert run.unit == ""
    assert run.metric > 0.8
    assert run.best["metric"] == "r2"
    assert "%" not in " ".join(run.headline)
    assert json.loads((run.path / "classes.json").read_text()) == ["brightness", "redness"]
    (method, value), *_ = run.comparisons
    assert method == "ridge regression on pixels"
    assert value < 1
    found = api.evaluate(run.path / "model.safetensors", tmp_path / "numbers")
    assert [row["target"] for row in found["targets"]] == ["brightness", "redness"]
    assert found["targets"][0]["count"] > found["targets"][1]["count"]  # of some pictures the second is missing
    (answer,) = api.predict(run.path / "model.safetensors", [tmp_path / "numbers" / "000.png"])
    (name, bright), _ = instance_of(RegressionPrediction, answer).values
    row = (tmp_path / "numbers" / "labels.csv").read_text().splitlines()[1].split(",")
    assert name == "brightness"
    assert bright == pytest.approx(float(row[1]), abs=0.15)


def test_the_columns_and_the_loss_can_be_chosen(
    measured: MakeMeasured, tiny_numbers: dict[str, Any], tmp_path: Path
) -> None:
    settings = tiny_numbers | {"steps": 2, "regression.targets": "redness", "regression.loss": "l1"}
    run = api.train(measured(), out=tmp_path / "run", settings=settings, report=False)
    model = from_pretrained(run.path / "model.safetensors")
    assert model.info.classes == ["redness"]
    assert model.get_buffer("target_std").item() > 10  # in the table's own units
    assert {"r2", "mae", "rmse", "spearman", "loss", "count"} == run.best["raw"].keys()
    with pytest.raises(UserError, match=r"regression.loss='l3' is not one of huber, l1, mse"):
        api.train(measured("again"), out=tmp_path / "no", settings=tiny_numbers | {"regression.loss": "l3"})


def test_two_processes_learn_and_judge_as_one(
    measured: MakeMeasured, tiny_numbers: dict[str, Any], as_arguments: AsArguments, tmp_path: Path
) -> None:
    data = measured(count=42)
    settings = tiny_numbers | {"steps": 4, "drop_path": 0.0, "dropout": 0.0, "ema": None}
    runs = []
    for processes in ("1", "2"):
        out = tmp_path / f"of {processes}"
        words = ["train", str(data), "--out", str(out), "--nproc", processes, "--no-report", *as_arguments(settings)]
        done = subprocess.run(
            [sys.executable, "-m", "convnext", *words], capture_output=True, text=True, check=False, timeout=200
        )
        assert done.returncode == 0, done.stdout + done.stderr
        rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        runs.append([row["raw"] for row in rows if row["kind"] == "eval"][-1])
    assert runs[0].keys() == runs[1].keys()
    assert runs[0]["count"] == runs[1]["count"] == 8
    for name, value in runs[0].items():
        assert runs[1][name] == pytest.approx(value, abs=2e-3)


def test_every_picture_is_judged_in_its_place(measured: MakeMeasured) -> None:
    """Whatever the batch and the process, a prediction stands beside its own picture's number."""
    from convnext.data.preprocess import Preprocess
    from convnext.regression.task import Regress, RegressedImage
    from convnext.training import runtime

    splits = open_data(DataRequest(str(measured(count=23)), val_fraction=0.5))

    class Brightness(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((1, 2, 3))[:, None].expand(-1, 2)

    recipe = replace(get_recipe("regress"), image_size=16, batch_size=4, workers=0, num_classes=2)
    found = []
    for size in (1, 5, 100):
        with runtime.start("fp32") as run:
            own = replace(recipe, eval_batch=size)
            task = Regress(splits.train, splits.val, own, Preprocess.for_size(16), run)
            records: list[RegressedImage] = []
            figures = task.evaluate(Brightness(), records.append)
            predicted, true = task.evaluator.compared(Brightness())
        assert [row["id"] for row in records] == list(splits.val.ids)
        assert np.corrcoef(predicted[:, 0], true[:, 0])[0, 1] > 0.99
        found.append(figures)
    assert found[1] == pytest.approx(found[0])
    assert found[2] == pytest.approx(found[0])


def test_weights_of_many_pictures_are_held_back_and_of_few_are_not() -> None:
    given = replace(get_recipe("regress"), weights="somewhere")
    held, said = suited(given, None)
    assert (held.derive, held.task, held.augment.crop, held.optim.layer_decay) == ("finetune", "regress", "none", 0.8)
    assert "kept near" in said[0].why
    assert suited(given, 500) == (given, [])


def test_a_run_goes_on_from_another_regressor(
    measured: MakeMeasured, tiny_numbers: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = measured(count=60)
    first = api.train(data, out=tmp_path / "first", settings=tiny_numbers | {"steps": 60, "drop_path": 0.0})
    own = {"steps": 1, "optim.lr": 0.0, "weights": str(first.path / "model.safetensors"), "workers": 0, "batch_size": 8}
    capsys.readouterr()
    second = api.train(data, out=tmp_path / "second", settings=own, report=False)
    assert "head loaded" in capsys.readouterr().out
    assert second.metric == pytest.approx(first.metric, abs=0.02)


def test_a_run_goes_on_without_a_picture_that_is_gone(
    measured: MakeMeasured, tiny_numbers: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers were counted as classes: an IndexError."""
    from convnext.regression.task import Regress

    data, plain, calls = measured(), Regress.losses, iter(range(100))

    def failing(task: Regress, model: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        if next(calls) == 8:
            raise KeyboardInterrupt
        return plain(task, model, batch)

    monkeypatch.setattr(Regress, "losses", failing)
    with pytest.raises(KeyboardInterrupt):
        api.train(data, out=tmp_path / "run", settings=tiny_numbers, report=False)
    monkeypatch.undo()
    gone = open_data(DataRequest(str(data))).train.ids[0]
    rows = (data / "labels.csv").read_text().splitlines()
    (data / "labels.csv").write_text("\n".join(row for row in rows if not row.startswith(gone)) + "\n")
    run = api.train(out=tmp_path / "run", resume=True, report=False)
    assert run.history[-1]["step"] == tiny_numbers["steps"]


def test_large_pictures_are_seen_whole(measured: MakeMeasured, tiny_numbers: dict[str, Any], tmp_path: Path) -> None:
    """A centre crop for judging made every disc larger than in training."""
    settings = tiny_numbers | {"image_size": 128, "patch_size": 4, "steps": 1}
    run = api.train(measured(size=128, count=20), out=tmp_path / "run", settings=settings, report=False)
    assert from_pretrained(run.path / "model.safetensors").info.preprocess["mode"] == "warp"


def test_the_numbers_of_bf16_are_fine() -> None:
    """Years came out in steps of eight."""
    from convnext.regression.model import Regressor
    from convnext.weights.backbone import create_model

    torch.manual_seed(0)
    network = create_model("convnext_atto", num_classes=1, depths=(1, 1, 1, 1), dims=(8, 8, 8, 8))
    torch.nn.init.constant_(network.get_parameter("head.bias"), 1990.0)
    model, images = Regressor(network, [0.0], [1.0]).eval(), torch.randn(8, 3, 64, 64)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        answers = model(images)
    assert len(set(answers.flatten().tolist())) == 8
    with torch.inference_mode():
        torch.testing.assert_close(answers, model(images), rtol=0, atol=0.2)


def test_folds_are_summed_up_without_percent(
    measured: MakeMeasured, tiny_numbers: dict[str, Any], as_arguments: AsArguments,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = as_arguments(tiny_numbers | {"steps": 2})
    assert (
        main(["train", str(measured()), "--folds", "2", "--out", str(tmp_path / "folds"), "--no-report", *words]) == 0
    )
    last = capsys.readouterr().out
    assert "in the mean of 2 folds" in last
    assert "% in the mean" not in last


def test_views_are_averaged_and_what_others_have_is_refused(
    measured: MakeMeasured, tiny_numbers: dict[str, Any], tmp_path: Path
) -> None:
    data = measured()
    run = api.train(data, out=tmp_path / "run", settings=tiny_numbers | {"steps": 2}, report=False)
    model = run.path / "model.safetensors"
    assert api.evaluate(model, data, flip=True)["count"] == api.evaluate(model, data)["count"]
    with pytest.raises(UserError, match="is a regressor, which draws nothing; leave out --out"):
        api.predict(model, [data / "000.png"], out=tmp_path / "drawn")
    with pytest.raises(UserError, match="is no detector; leave out --score"):
        api.predict(model, [data / "000.png"], least_score=0.5)


def test_ridge_regression_is_tried_where_it_is_quick(measured: MakeMeasured, monkeypatch: pytest.MonkeyPatch) -> None:
    from convnext.regression import pixel_baselines as module

    splits = open_data(DataRequest(str(measured(count=100))))
    ((_, value),) = pixel_baselines(splits.train, splits.val)
    assert value > 0.9  # brightness and redness are linear in the pixels
    assert ridge(splits.train, splits.val).shape == (20, 2)
    monkeypatch.setattr(module, "MOST_IMAGES", 10)
    assert pixel_baselines(splits.train, splits.val) == []


def test_few_held_out_pictures_are_said(measured: MakeMeasured) -> None:
    from convnext.regression.slice import remarks

    assert remarks(open_data(DataRequest(str(measured()))))[0].startswith("8 held-out pictures tell little")
    assert remarks(open_data(DataRequest(str(measured("more", count=300))))) == []
