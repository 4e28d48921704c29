"""A disk that is really full: a file system of some megabytes, or a limit on the size of files."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import AsArguments, MakePictures, SameRun
from torch import nn

from convnext import api, from_pretrained, save_weights
from convnext.errors import UserError
from convnext.training import state
from convnext.weights.backbone import create_model

pytestmark = [pytest.mark.fault, pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system of Linux")]
MIB = 1 << 20
WIDE = {"dims": (32, 64, 96, 160), "ema": 0.9, "optim.muon": None, "steps": 9}  # a checkpoint takes some 6 MB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a file system of so many megabytes."""
    place = tmp_path / "disk"

    def make(megabytes: int) -> Path:
        place.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
        if os.geteuid() or subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("only the superuser, and not everywhere, may mount a file system")
        return place

    yield make
    if place.is_mount():
        subprocess.run(["umount", str(place)], check=True)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a file system without room for more, and open to any user."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def left_over(run: Path) -> list[str]:
    return [str(path.relative_to(run)) for path in run.rglob("*") if ".tmp" in path.name]


@pytest.mark.parametrize("megabytes", [2, 3, 6, 12, 16, 20])
def test_training_ends_with_a_sentence_and_what_was_saved_is_whole(
    disk: Callable[[int], Path], pictures: MakePictures, tiny: dict[str, Any], megabytes: int
) -> None:
    run = disk(megabytes) / "run"
    with pytest.raises(UserError, match=rf"the disk is full at {run}.* \(No space left on device\); free some space"):
        api.train(pictures(), settings=tiny | WIDE, out=run, report=False)
    assert left_over(run) == []
    for checkpoint in state.checkpoints(run):
        assert state.damage(checkpoint) is None
    if (run / "model.safetensors").exists():
        assert from_pretrained(run / "model.safetensors").num_classes == 3


def test_the_command_line_says_it_in_one_line(
    disk: Callable[[int], Path], pictures: MakePictures, tiny: dict[str, Any], as_arguments: AsArguments
) -> None:
    run = disk(6) / "run"
    command = [sys.executable, "-m", "convnext", "train", str(pictures()), "--out", str(run), "--no-report"]
    words = [*command, *as_arguments(tiny | WIDE)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"convnext train: the disk is full at {run}")
    assert done.stderr.count("\n") == 1


def test_a_run_goes_on_where_it_was_once_there_is_room(
    disk: Callable[[int], Path], pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, same_run: SameRun
) -> None:
    data = pictures()
    api.train(data, settings=tiny | WIDE, out=tmp_path / "whole", report=False)
    place = disk(16)
    with pytest.raises(UserError, match="the disk is full"):
        api.train(data, settings=tiny | WIDE, out=place / "run", report=False)
    subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
    api.train(out=place / "run", resume=True, report=False)
    same_run(tmp_path / "whole", place / "run")


@pytest.mark.parametrize("size", [100, 20_000, 100_000, 1_000_000])
def test_a_checkpoint_that_does_not_fit_leaves_nothing(
    size: int, pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    model = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 1000))
    now = state.TrainState(model, torch.optim.AdamW(model.parameters()), step=3)
    now.start_average()
    model(torch.zeros(1, 100)).sum().backward()
    now.optimiser.step()
    state.save(now, tmp_path)
    now.step = 4
    if size < 1_000_000:
        with files_of_at_most(size), pytest.raises(UserError, match=r"the disk is full at .*step-4 "):
            state.save(now, tmp_path)
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-3"]
        assert (tmp_path / "last").read_text() == "step-3\n"
    else:
        state.save(now, tmp_path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("size", [10, 3_000, 30_000])
def test_a_model_that_does_not_fit_leaves_the_old_one(suffix: str, size: int, tmp_path: Path) -> None:
    model = create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), num_classes=5)
    path = save_weights(model, tmp_path / f"model{suffix}")
    before = path.read_bytes()
    with files_of_at_most(size), pytest.raises(UserError, match=rf"the disk is full at .*model{suffix} \(File too"):
        save_weights(model, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_run_whose_folder_is_removed_says_so(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, as_arguments: AsArguments
) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "convnext", "train", str(pictures()), "--out", str(run), "--no-report"]
    words = as_arguments(tiny | {"steps": 100_000, "eval_every": 1000, "save_every": 1000})
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        while not ((run / "log.jsonl").exists() and '"train"' in (run / "log.jsonl").read_text()):
            assert child.poll() is None
        run.rename(tmp_path / "bin")  # at once: rm would race the run for its folder, file by file
        assert child.wait(60) == 2
        assert child.stderr is not None
        assert (
            child.stderr.read()
            == f"convnext train: {run} is gone: the run's folder was removed while it was written to\n"
        )
