"""The arithmetic is decided by what a device has and what a checkpoint says, never by how busy the machine is."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import AsArguments, MakePictures
from torch import nn

import convnext
from convnext.errors import UserError
from convnext.recipes.recipe import from_json
from convnext.system import machine
from convnext.training import runtime
from convnext.weights.checkpoint import load_checkpoint_metadata
from convnext.weights.info import ModelInfo, keep_info

COMMAND = [sys.executable, "-m", "convnext"]


def has(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "bf16_instructions", lambda: name)
    monkeypatch.setattr(runtime, "default_device", lambda: torch.device("cpu"))


def chosen(metadata: dict[str, str], precision: str = "auto") -> tuple[str, list[str]]:
    said: list[str] = []
    model = nn.Linear(1, 1)
    keep_info(model, ModelInfo(metadata=metadata))
    with runtime.start_judging(model, precision, said.append) as run:
        return run.precision, said


@pytest.mark.parametrize(("instructions", "expected"), [("avx512_bf16", "bf16"), ("bf16", "bf16"), (None, "fp32")])
def test_training_uses_what_the_processor_has(
    instructions: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    has(instructions, monkeypatch)
    with runtime.start() as run:
        assert run.precision == expected
    assert (instructions or "amx_bf16") in runtime.native_precision(torch.device("cpu"))[1]


def test_a_model_is_judged_in_what_it_was_judged_in_while_it_was_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    has("avx512_bf16", monkeypatch)
    assert chosen({"precision": "bf16"})[0] == "bf16"
    assert chosen({"precision": "fp32"})[0] == "fp32"
    assert chosen({})[0] == "fp32"  # released weights: published figures are fp32
    assert chosen({"precision": "bf16"}, "fp32") == ("fp32", ["computed in fp32: as asked"])
    assert chosen({}, "bf16")[0] == "bf16"
    has(None, monkeypatch)
    assert chosen({"precision": "bf16"})[0] == "fp32"
    assert "here the processor is not known" in chosen({"precision": "bf16"})[1][0]
    assert chosen({"precision": "bf16"}, "bf16")[0] == "bf16"


def test_a_precision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="'fp64' is not one of auto, fp32, bf16"), runtime.start("fp64"):
        pass


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_recipe_and_checkpoint_say_in_what_a_run_was_judged(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, precision: str
) -> None:
    run = tmp_path / "run"
    result = convnext.train(pictures(), settings=tiny | {"precision": precision}, out=run, report=False)
    assert from_json((run / "recipe.json").read_text()).precision == precision
    assert load_checkpoint_metadata(run / "model.safetensors")["precision"] == precision
    found = convnext.evaluate(run / "model.safetensors", tmp_path / "data")
    assert found["top1"] == pytest.approx(result.metric)
    convnext.convert(run / "model.safetensors", tmp_path / "other.safetensors")
    assert load_checkpoint_metadata(tmp_path / "other.safetensors")["precision"] == precision


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="process 2 of 2 finds no GPU of its own: this machine shows 1; pass --nproc 1"):
        runtime.default_device()


def words(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=True)


@contextmanager
def training(data: Path, arguments: list[str]) -> Iterator[None]:
    """A second process that trains on all cores."""
    command = [*COMMAND, "train", str(data), "--out", str(data.parent / "busy"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            yield
            assert child.poll() is None, "the training ended before the judging did"
        finally:
            child.kill()


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_the_same_question_has_the_same_answer_beside_a_training_run(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, as_arguments: AsArguments, times: int
) -> None:
    data = pictures(train=60, val=300, classes=3)
    settings = {name: value for name, value in tiny.items() if name != "precision"} | {"steps": 3}  # hardly learned
    run = tmp_path / "run"
    result = convnext.train(data, settings=settings, out=run, report=False)
    model = run / "model.safetensors"
    with training(data, as_arguments(settings | {"steps": 100_000, "eval_every": 10_000, "save_every": 10_000})):
        answers = [words("evaluate", model, data) for _ in range(times)]
        table = words("predict", model, data / "val", "--top", 1, "--csv")
    assert len({answer.stdout for answer in answers}) == 1
    precision = from_json((run / "recipe.json").read_text()).precision
    assert all(f"computed in {precision}" in answer.stderr for answer in answers)
    figure = re.search(r"top1 +([\d.]+)", answers[0].stdout)
    assert figure is not None
    top1 = float(figure[1])
    assert top1 == pytest.approx(result.metric, abs=1e-4)
    rows = list(csv.DictReader(io.StringIO(table.stdout)))
    assert len(rows) == 300
    right = sum(Path(row["path"]).parent.name == row["class"] for row in rows)
    assert 100 * right / len(rows) == pytest.approx(top1, abs=1e-4)
    assert f"computed in {precision}" in table.stderr
