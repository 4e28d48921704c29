"""The one loop: it learns, its choices of best and last are right, and what it must not do it does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest
import torch
from fixture_types import MakePictures, SameRun
from narrow import not_none
from safetensors.torch import load_file
from torch import Tensor, nn

from convnext import api
from convnext.recipes.recipe import Recipe, override
from convnext.training import Metric, Sink, Task, engine, optim, runtime, state
from convnext.training.engine import NonFiniteLoss
from convnext.weights.checkpoint import load_checkpoint_metadata

P = ParamSpec("P")
T = TypeVar("T")
# Without Muon: its iteration runs in bf16, where the rounding of another order of summation soon is the third digit.
QUIET: dict[str, Any] = {
    **dict.fromkeys(("augment.mixup", "augment.cutmix", "augment.randaugment", "augment.erase", "augment.hflip"), 0),
    "drop_path": 0,
    "dropout": 0,
    "optim.muon": None,
}


def test_training_learns_what_there_is_to_learn(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny |= QUIET | {"steps": 40, "ema": 0.5}
    result = api.train(pictures(val=9), out=tmp_path / "run", settings=tiny, report=False)
    losses = [row["loss"] for row in result.history if row["kind"] == "train"]
    assert losses[-1] < losses[0]
    assert result.metric == 100.0


def test_the_run_folder_holds_what_the_design_promises(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    api.train(pictures(), out=tmp_path / "run", settings=tiny)
    run = tmp_path / "run"
    last = (run / "last").read_text().strip()
    checkpoint = run / "checkpoints" / last
    saved = {"raw.safetensors", "ema.safetensors", "state", "manifest.json", "evaluation.json"}
    assert {p.name for p in checkpoint.iterdir()} == saved
    assert json.loads((run / "classes.json").read_text()) == ["class 0", "class 1", "class 2"]
    assert (run / "report" / "index.html").stat().st_size > 10_000
    metadata = load_checkpoint_metadata(run / "model.safetensors")
    assert json.loads(metadata["classes"]) == ["class 0", "class 1", "class 2"]
    assert {"preprocess", "metric", "which", "licence", "variant"} <= metadata.keys()
    assert not list(run.rglob("*.tmp"))


def test_best_is_the_better_of_raw_and_averaged_weights(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    result = api.train(pictures(), out=tmp_path / "run", settings=tiny, report=False)
    evaluations = [row for row in result.history if row["kind"] == "eval"]
    assert result.metric == max(max(row["raw"]["top1"], not_none(row["ema"])["top1"]) for row in evaluations)
    assert result.best["value"] == result.metric
    best = (tmp_path / "run" / "best").read_text().strip()
    assert best == f"step-{result.best['step']}"
    metric = json.loads(load_checkpoint_metadata(tmp_path / "run" / "model.safetensors")["metric"])
    assert metric["top1"] == result.metric


def test_the_saved_model_scores_what_the_log_says(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    data = pictures()
    result = api.train(data, out=tmp_path / "run", settings=tiny, report=False)
    found = api.evaluate(tmp_path / "run" / "model.safetensors", data, precision="fp32")
    assert found["top1"] == pytest.approx(result.metric)
    assert found["count"] == 7


def test_a_replayed_recipe_gives_the_same_run(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, same_run: SameRun
) -> None:
    data = pictures()
    api.train(data, out=tmp_path / "a", settings=tiny, report=False)
    api.train(data, tmp_path / "a" / "recipe.json", out=tmp_path / "b", report=False)
    same_run(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("change", [{"workers": 2}, {"micro_batch": 3}, {"micro_batch": 8}])
def test_loader_processes_and_micro_batches_do_not_change_what_is_learnt(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, change: dict[str, int]
) -> None:
    tiny |= QUIET  # mixing and drop path are drawn for each micro-batch
    data = pictures()
    one = api.train(data, out=tmp_path / "a", settings=tiny, report=False)
    two = api.train(data, out=tmp_path / "b", settings=tiny | change, report=False)
    for a, b in zip(one.history, two.history, strict=True):
        if a["kind"] == "train":
            assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)


def test_early_stopping_ends_the_run(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny |= {"optim.lr": 0.0, "schedule.min_lr": 0.0, "steps": 30, "patience": 2}
    result = api.train(pictures(), out=tmp_path / "run", settings=tiny, report=False)
    assert result.history[-1]["kind"] == "end"
    assert result.history[-1]["step"] == 9  # best at step 3, then two evaluations without a better one


def test_early_stopping_survives_resuming(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny |= {"optim.lr": 0.0, "schedule.min_lr": 0.0, "steps": 30, "patience": 2}
    api.train(pictures(), out=tmp_path / "run", settings=tiny, report=False)
    again = api.train(out=tmp_path / "run", resume=True, report=False)
    assert again.history[-1]["step"] == 9


def test_a_loss_that_is_not_a_number_stops_with_step_rate_and_files(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    tiny |= {"optim.lr": 1e30, "optim.clip_grad": None, "schedule.warmup_epochs": 2, "schedule.min_lr": 0.0}
    with pytest.raises(NonFiniteLoss, match=r"step \d+ with learning rate .*train/class \d/\d+\.png"):
        api.train(pictures(), out=run, settings=tiny, report=False)
    for pointer in ("best", "last"):
        if (run / pointer).exists():
            kept = run / "checkpoints" / (run / pointer).read_text().strip()
            assert state.damage(kept) is None
    for file in run.rglob("raw.safetensors"):
        assert all(torch.isfinite(value).all() for value in load_file(file).values())


@pytest.mark.parametrize("stop", [1, 2, 3, 5, 7, 11])
def test_resuming_is_bit_for_bit_wherever_the_run_stopped(
    pictures: MakePictures,
    tiny: dict[str, Any],
    tmp_path: Path,
    same_run: SameRun,
    monkeypatch: pytest.MonkeyPatch,
    stop: int,
) -> None:
    data = pictures()
    api.train(data, out=tmp_path / "whole", settings=tiny, report=False)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "step", _dies_at(stop, engine.step))
        with pytest.raises(KeyboardInterrupt):
            api.train(data, out=tmp_path / "cut", settings=tiny, report=False)
    api.train(out=tmp_path / "cut", resume=True, report=False)
    same_run(tmp_path / "whole", tmp_path / "cut")


def test_resuming_falls_back_to_the_checkpoint_before_a_damaged_one(
    pictures: MakePictures,
    tiny: dict[str, Any],
    tmp_path: Path,
    same_run: SameRun,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = pictures()
    api.train(data, out=tmp_path / "whole", settings=tiny, report=False)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "step", _dies_at(10, engine.step))
        with pytest.raises(KeyboardInterrupt):
            api.train(data, out=tmp_path / "cut", settings=tiny, report=False)
    newest = tmp_path / "cut" / "checkpoints" / "step-9" / "raw.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    api.train(out=tmp_path / "cut", resume=True, report=False)
    assert "step-9 (raw.safetensors has changed since it was written)" in capsys.readouterr().out
    same_run(tmp_path / "whole", tmp_path / "cut")


def test_gradient_accumulation_equals_the_whole_batch() -> None:
    class Sum:
        """A task of one linear layer."""

        metric = Metric("x")
        steps_per_epoch = 1

        def batches(self, start: int, stop: int) -> Iterator[list[_Rows]]:
            raise NotImplementedError

        def evaluate(self, model: nn.Module, sink: Sink[object] | None = None) -> dict[str, float]:
            raise NotImplementedError

        def losses(self, model: nn.Module, batch: _Rows) -> dict[str, Tensor]:
            found = model(batch.x).square().mean()
            return {"most": 0.75 * found, "rest": 0.25 * found}

    torch.manual_seed(0)
    rows = torch.randn(10, 4)
    weights = []
    for parts in ([10], [4, 4, 2], [1] * 10):
        torch.manual_seed(1)
        model = nn.Linear(4, 1)
        recipe = override(Recipe(), {"batch_size": 10, "optim.lr": 0.1, "optim.clip_grad": 0.5})
        now = state.TrainState(model, optim.make_optimiser(model, recipe.optim))
        batches = [_Rows(x) for x in rows.split(parts)]
        loss = engine.step(Sum(), model, now, batches, recipe, runtime.Runtime(torch.device("cpu")))
        weights.append(({name: float(value) for name, value in loss.items()}, model.weight.detach()))
    assert weights[0][0]["most"] == pytest.approx(0.75 * weights[0][0]["loss"])
    for losses, weight in weights[1:]:
        assert losses == pytest.approx(weights[0][0], abs=1e-6)
        torch.testing.assert_close(weight, weights[0][1])


class _Rows:
    def __init__(self, x: Tensor) -> None:
        self.x, self.ids = x, tuple(map(str, range(len(x))))

    def to(self, device: torch.device, *, channels_last: bool = False) -> _Rows:
        return self


def _dies_at(stop: int, real: Callable[P, T]) -> Callable[P, T]:
    counter: Iterator[int] = iter(range(10_000))

    def step(*arguments: P.args, **named: P.kwargs) -> T:
        if next(counter) == stop:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    return step


def test_weights_that_are_no_longer_numbers_are_never_saved(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(task: Task[object, object], model: nn.Module, now: state.TrainState, *rest: Any) -> dict[str, Tensor]:
        loss = real(task, model, now, *rest)
        if now.step == 6:
            next(now.model.parameters()).data.fill_(float("nan"))
        return loss

    real = engine.step
    monkeypatch.setattr(engine, "step", poisoned)
    with pytest.raises(NonFiniteLoss, match="weights are no longer numbers after step 5"):
        api.train(pictures(), out=tmp_path / "run", settings=tiny, report=False)
    (kept,) = state.checkpoints(tmp_path / "run")
    assert kept.name == "step-3"
    assert (tmp_path / "run" / "last").read_text().strip() == "step-3"


def test_a_run_killed_after_its_early_stop_does_not_train_on(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, same_run: SameRun
) -> None:
    tiny |= {"optim.lr": 0.0, "schedule.min_lr": 0.0, "steps": 30, "patience": 2}
    data = pictures()
    for name in ("whole", "cut"):
        api.train(data, out=tmp_path / name, settings=tiny, report=False)
    log = tmp_path / "cut" / "log.jsonl"
    log.write_text("".join(line + "\n" for line in log.read_text().splitlines() if '"end"' not in line))
    api.train(out=tmp_path / "cut", resume=True, report=False)
    same_run(tmp_path / "whole", tmp_path / "cut")


def test_frozen_modules_keep_their_averages() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2).requires_grad_(False), nn.Conv2d(2, 2, 1))
    engine.train_mode(model)
    assert not model[0].training
    assert model.training
    assert model[1].training
