"""Where a run may not be written, and what a stopped one leaves: nothing that was there is ever lost."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fixture_types import MakeDense, MakePictures
from torch import Tensor

from convnext import api, files
from convnext.classification.data import open_data
from convnext.commands.main import main
from convnext.errors import UserError
from convnext.image_level import setup as image_level
from convnext.training import state

pytestmark = pytest.mark.fault


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_folder_that_holds_something_is_refused_and_left_alone(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter.txt").write_text("years of work")
    with pytest.raises(UserError, match="exists and is not empty"):
        api.train(pictures(), out=out, settings=tiny)
    assert contents(out) == {"chapter.txt": b"years of work"}


def test_a_file_in_the_place_of_the_folder_is_refused(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UserError, match="run"):
        api.train(pictures(), out=tmp_path / "run", settings=tiny)
    assert (tmp_path / "run").read_text() == "a file"


def test_a_folder_in_use_is_refused(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    data = pictures()
    api.train(data, out=tmp_path / "run", settings=tiny, report=False)
    before = contents(tmp_path / "run")
    with files.locked(tmp_path / "run"), pytest.raises(UserError, match=r"in use|another process"):
        api.train(out=tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused_before_work_starts(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(UserError, match=r"cannot write|writable"):
        api.train(pictures(), out=tmp_path / "locked" / "run", settings=tiny)


def test_a_folder_on_a_file_system_that_cannot_be_written_is_refused(
    pictures: MakePictures, tiny: dict[str, Any]
) -> None:
    if not Path("/proc").is_dir():
        pytest.skip("needs /proc, where nobody may make folders")
    with pytest.raises(UserError, match="/proc/run"):
        api.train(pictures(), out="/proc/run", settings=tiny)


def test_bad_data_is_refused_before_the_folder_is_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["train", str(tmp_path / "empty"), "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()


def test_resuming_refuses_pictures_that_have_changed(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    data = pictures()
    api.train(data, out=tmp_path / "run", settings=tiny, report=False)
    for extra in list((data / "train").rglob("*.png"))[:4]:  # one would be as if it had been taken out
        extra.rename(extra.with_name(f"renamed {extra.name}"))
    before = contents(tmp_path / "run")
    with pytest.raises(UserError, match="has changed since"):
        api.train(out=tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before


def test_resuming_finds_pictures_that_were_moved(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    data = pictures()
    api.train(data, out=tmp_path / "run", settings=tiny, report=False)
    data.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="data"):
        api.train(out=tmp_path / "run", resume=True)
    assert api.train(tmp_path / "moved", out=tmp_path / "run", resume=True, report=False).metric > 0


def test_resuming_remembers_how_the_pictures_were_split(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    data = pictures(train=30) / "train"
    api.train(data, out=tmp_path / "run", settings=tiny, val_fraction=0.4, report=False)
    assert api.train(out=tmp_path / "run", resume=True, report=False).history[1]["step"] == 1
    start = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    assert "--val-fraction 0.4" in start["command"]


def test_how_a_step_is_computed_may_change_on_resuming(
    pictures: MakePictures,
    tiny: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, quiet = pictures(), tiny | {"drop_path": 0, "dropout": 0, "augment.mixup": 0, "augment.cutmix": 0}

    def losses(run: Path) -> list[float]:
        rows = map(json.loads, (run / "log.jsonl").read_text().splitlines())
        return [row["loss"] for row in rows if row["kind"] == "train"]

    def stop(*_: object) -> None:
        raise RuntimeError("stopped")

    api.train(data, out=tmp_path / "whole", settings=quiet, report=False)
    with monkeypatch.context() as patch:
        patch.setattr("convnext.training.engine.record", stop)
        with pytest.raises(RuntimeError, match="stopped"):
            api.train(data, out=tmp_path / "run", settings=quiet, report=False)
    for settings, says in (
        ({"precision": "bf16", "micro_batch": 2}, "leave out precision or start a new run .what may change is micro"),
        ({"optim.lr": 1.0}, "leave out optim.lr"),
        ({"steps": 99}, "leave out steps"),
    ):
        with pytest.raises(UserError, match=says):
            api.train(out=tmp_path / "run", resume=True, settings=settings, report=False)
    before = json.loads((tmp_path / "run" / "recipe.json").read_text())
    changed = {"micro_batch": "2", "eval_batch": "3", "workers": "1", "grad_checkpointing": "true"}
    words = [word for pair in changed.items() for word in ("--set", "=".join(pair))]
    assert main(["train", "--resume", "--out", str(tmp_path / "run"), "--no-report", *words]) == 0
    assert "micro_batch = 2: from here on; it was None" in capsys.readouterr().out
    after = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert after == before | {"micro_batch": 2, "eval_batch": 3, "workers": 1, "grad_checkpointing": True}
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), abs=1e-4)


def test_what_a_detector_does_not_read_is_refused_on_resuming_too(
    annotated: MakeDense, tiny_detection: dict[str, Any], tmp_path: Path
) -> None:
    api.train(annotated(), "detect", out=tmp_path / "run", settings=tiny_detection | {"steps": 1}, report=False)
    with pytest.raises(UserError, match="a detector does not read eval_batch"):
        api.train(out=tmp_path / "run", resume=True, settings={"eval_batch": 2}, report=False)


def test_no_run_to_resume_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", "--out", str(tmp_path)]) == 2
    assert "holds no run to resume" in capsys.readouterr().err


def test_all_checkpoints_damaged_is_said_by_name(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    data = pictures()
    api.train(data, out=tmp_path / "run", settings=tiny, report=False)
    log = tmp_path / "run" / "log.jsonl"
    log.write_text("".join(line + "\n" for line in log.read_text().splitlines() if '"end"' not in line))
    for checkpoint in state.checkpoints(tmp_path / "run"):
        (checkpoint / "state").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"no checkpoint of .* can be used: step-\d+"):
        api.train(out=tmp_path / "run", resume=True)


def test_a_full_disk_stops_the_run_and_keeps_the_checkpoint_before(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def full(tensors: dict[str, Tensor], path: Path) -> None:
        if len(written) >= 3:  # raw and averaged of the first checkpoint, raw of the second
            raise OSError(28, "No space left on device")
        written.append(path)
        real(tensors, path)

    real = state.save_file
    monkeypatch.setattr(state, "save_file", full)
    with pytest.raises(UserError, match=r"No space left on device.*nothing already saved was touched"):
        api.train(pictures(), out=tmp_path / "run", settings=tiny, report=False)
    (kept,) = state.checkpoints(tmp_path / "run")
    assert state.damage(kept) is None
    assert (tmp_path / "run" / "last").read_text().strip() == kept.name


def test_a_picture_that_breaks_during_training_is_named(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pictures()
    victim = sorted((data / "train").rglob("*.png"))[3]
    victim.write_bytes(victim.read_bytes()[:60])
    monkeypatch.setattr(image_level, "CACHE_SHARE", 0.0)
    for workers in (0, 2):
        with pytest.raises(UserError, match=victim.name) as caught:
            api.train(data, out=tmp_path / f"run{workers}", settings=tiny | {"workers": workers}, report=False)
        assert "Traceback" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_results_never_become_a_class(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pictures(train=32) / "train"
    for out in (data / "run", data / "class 0" / "run"):
        with pytest.raises(UserError, match=r"lies in the data folder .*; choose an --out outside of it"):
            api.train(data, out=out, settings=tiny)
        with pytest.raises(UserError, match="lies in the data folder"):
            api.train_folds(data, folds=2, out=out, settings=tiny)
    assert sorted(path.name for path in data.iterdir()) == ["class 0", "class 1", "class 2"]
    monkeypatch.chdir(data)
    run = api.train(".", settings=tiny, report=False).path
    assert run == Path("runs/classify-1")
    assert open_data(".").train.classes == ("class 0", "class 1", "class 2")
    (data / run).rename(data / "run")  # as earlier versions left it
    (data / "run" / "drawn.png").write_bytes((data / "class 0" / "000.png").read_bytes())
    assert open_data(".").train.classes == ("class 0", "class 1", "class 2")
    assert [problem.path for problem in api.check(".").problems if problem.kind == "unused folder"] == ["run", "runs"]
    (data / "run").rename(data / "class 0" / "run")
    assert not [name for part in (open_data(".").train, open_data(".").val) for name in part.ids if "drawn" in name]


def test_a_class_may_be_called_runs(tmp_path: Path, pictures: MakePictures) -> None:
    data = pictures() / "train"
    (data / "class 0").rename(data / "runs")
    assert open_data(data).train.classes == ("class 1", "class 2", "runs")


def test_only_a_run_is_said_to_go_on(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    data, odd = pictures(), tmp_path / "odd"
    odd.mkdir()
    (odd / "picture.png").write_bytes((data / "train" / "class 0" / "000.png").read_bytes())
    for out, says in ((odd / "picture.png", "is a file, not a folder"), (odd, "is not empty; choose another --out")):
        with pytest.raises(UserError, match=says):
            api.train(data, out=out, settings=tiny)


def test_every_file_of_a_run_follows_the_umask(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    """The weights in checkpoints could be read by nobody else."""
    before = os.umask(0o027)
    try:
        api.train(pictures(), out=tmp_path / "run", settings=tiny, report=False)
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert {"raw.safetensors", "ema.safetensors", "state", "model.safetensors"} <= modes.keys()
    assert set(modes.values()) == {"0o640"}, modes
