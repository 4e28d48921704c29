"""A run that is killed, by one process or two, continues as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import AsArguments, MakePictures, SameRun
from torch import Tensor, nn

from convnext import api, files
from convnext.training import Task, engine, state
from convnext.training.log import read

pytestmark = [pytest.mark.fault, pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's process table")]
LATEST = 120.0  # seconds until the run must have got anywhere


def command(words: list[str], processes: int) -> list[str]:
    more = ["--nproc", str(processes)] if processes > 1 else []
    return [sys.executable, "-m", "convnext", "train", *words, *more, "--no-report"]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def kill_at(step: int, words: list[str], run: Path, processes: int) -> None:
    """Starts a run and kills all its processes, with no chance to tidy up, once the log has passed `step`."""
    child = subprocess.Popen(
        command(words, processes),
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    give_up = time.monotonic() + LATEST
    while not any(row["step"] >= step for row in (read(run / "log.jsonl") if (run / "log.jsonl").exists() else [])):
        assert child.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < give_up
        time.sleep(0.005)
    for pid in family(child.pid):  # the launcher's workers are not in its process group
        os.kill(pid, signal.SIGKILL)
    child.wait()


def family(pid: int) -> list[int]:
    """A process and its descendants, from Linux's process table."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed_is_bit_for_bit_the_uninterrupted_run(
    pictures: MakePictures,
    tiny: dict[str, Any],
    tmp_path: Path,
    as_arguments: AsArguments,
    same_run: SameRun,
    processes: int,
) -> None:
    data = pictures(train=26)
    tiny |= {"steps": 150, "save_every": 3, "eval_every": 6}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    words = [str(data), *as_arguments(tiny)]
    subprocess.run(
        command([*words, "--out", str(whole)], processes), env=environment(), check=True, capture_output=True
    )
    kill_at(31, [*words, "--out", str(cut)], cut, processes)
    assert not any(row["kind"] == "end" for row in read(cut / "log.jsonl"))
    again = command(["--out", str(cut), "--resume"], processes)
    done = subprocess.run(again, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "continuing at step" in done.stdout
    same_run(whole, cut)


# Put before the command: kills its process, with no chance to tidy up, when a function is called for the n-th time.
DIES = """
import os, signal
import {module} as module
whole, calls = module.{name}, []
def dying(*given, **named):
    calls.append(1)
    if len(calls) == {call} and os.environ.get("RANK", "0") == "{rank}":
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*given, **named)
module.{name} = dying
"""


@pytest.mark.parametrize(
    ("processes", "module", "name", "call"),
    [
        (1, "convnext.classification.metrics", "ClassificationCounter.result", 5),  # the raw weights' third evaluation
        (
            1,
            "convnext.classification.metrics",
            "ClassificationCounter.result",
            8,
        ),  # the averaged weights' fourth, the last of all
        (1, "convnext.training.engine", "record", 2),  # the log has it, the checkpoint has not
        (1, "convnext.training.engine", "record", 4),
        (2, "convnext.classification.metrics", "ClassificationCounter.result", 3),
    ],
)
def test_killed_while_it_is_judged_a_run_judges_again_and_is_the_uninterrupted_one(
    pictures: MakePictures,
    tiny: dict[str, Any],
    tmp_path: Path,
    as_arguments: AsArguments,
    same_run: SameRun,
    processes: int,
    module: str,
    name: str,
    call: int,
) -> None:
    data, whole, cut = pictures(train=26), tmp_path / "whole", tmp_path / "cut"
    words = [str(data), *as_arguments(tiny | {"steps": 12, "save_every": 1, "eval_every": 1})]
    first = subprocess.run(command([*words, "--out", str(whole)], processes), env=environment(), capture_output=True)
    assert first.returncode == 0, first.stderr
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(DIES.format(module=module, name=name, call=call, rank=processes - 1))
    here = str(Path(__file__).parents[2])
    lethal = environment() | {"PYTHONPATH": f"{site}{os.pathsep}{here}"}
    killed = subprocess.run(command([*words, "--out", str(cut)], processes), env=lethal, capture_output=True)
    assert killed.returncode == (1 if processes > 1 else -signal.SIGKILL)
    step = state.checkpoints(cut)[-1]
    assert state.damage(step) is None
    assert not (step / state.EVALUATION).exists()
    again = command(["--out", str(cut), "--resume"], processes)
    done = subprocess.run(again, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"continuing at {step.name.replace('-', ' ')}" in done.stdout
    same_run(whole, cut)


def test_an_evaluation_that_fails_costs_no_step(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_run: SameRun
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no room for the evaluation")

    data = pictures()
    api.train(data, settings=tiny, out=tmp_path / "whole", report=False)
    with monkeypatch.context() as patch:
        patch.setattr("convnext.classification.task.Classify.evaluate", fails)
        for resume in (False, True):
            with pytest.raises(RuntimeError, match="no room"):
                api.train(
                    None if resume else data,
                    settings=None if resume else tiny,
                    out=tmp_path / "cut",
                    resume=resume,
                    report=False,
                )
            assert [path.name for path in state.checkpoints(tmp_path / "cut")] == ["step-3"]
    api.train(out=tmp_path / "cut", resume=True, report=False)
    same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_run_whose_checkpoints_were_saved_after_their_evaluation_goes_on(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_run: SameRun
) -> None:
    """As runs had them before: best and stale stand in `state` itself, and nothing is left to judge."""

    def rewrite(folder: Path) -> None:
        values = torch.load(folder / "state", weights_only=True)
        judged = json.loads((folder / state.EVALUATION).read_text())
        del values["evaluated"]
        torch.save(values | judged, folder / "state")
        (folder / state.EVALUATION).unlink()
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["sha256"]["state"] = files.sha256(folder / "state")
        (folder / "manifest.json").write_text(json.dumps(manifest))

    def stops(task: Task[object, object], model: nn.Module, now: state.TrainState, *rest: Any) -> dict[str, Tensor]:
        if now.step == 7:
            raise KeyboardInterrupt
        return real(task, model, now, *rest)

    data, real = pictures(), engine.step
    tiny |= {"steps": 30, "patience": 3, "optim.lr": 0.0, "schedule.min_lr": 0.0}
    api.train(data, settings=tiny, out=tmp_path / "whole", report=False)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "step", stops)
        with pytest.raises(KeyboardInterrupt):
            api.train(data, settings=tiny, out=tmp_path / "cut", report=False)
    for folder in state.checkpoints(tmp_path / "cut"):
        rewrite(folder)
    api.train(out=tmp_path / "cut", resume=True, report=False)
    same_run(tmp_path / "whole", tmp_path / "cut")
