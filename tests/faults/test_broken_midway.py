"""A picture or mask that breaks while a run learns from it, of a set too large to be decoded beforehand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixture_types import AsArguments, MakeDense, MakePictures

from convnext.commands.main import main
from convnext.image_level import setup as image_level
from convnext.training import engine, state
from convnext.training.log import read

pytestmark = pytest.mark.fault


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def note(path: Path) -> None:
    path.write_text("This is a note, not a picture.\n")


Breaks = Callable[[Path, str], None]
BREAK: dict[str, Callable[[Path], None]] = {"cut short": cut, "gone": Path.unlink, "a note": note}

AHEAD = 30  # steps after which a run has met every picture again that its loader processes had not read ahead


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Breaks:
    """From then on a file breaks as soon as a run has recorded its first evaluation."""
    monkeypatch.setattr(image_level, "CACHE_SHARE", 0.0)
    real = engine.record

    def arrange(victim: Path, how: str) -> None:
        waiting = [victim]

        def recorded(*given: Any) -> None:
            real(*given)
            if waiting:
                BREAK[how](waiting.pop())

        monkeypatch.setattr(engine, "record", recorded)

    return arrange


def stops_and_goes_on(
    words: list[str], run: Path, victim: Path, breaks: Breaks, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run ends with one sentence that names the file, keeps what it has, and ends well once the file is back."""
    sound = victim.read_bytes()
    breaks(victim, how)
    assert main(["train", *words, "--out", str(run), "--no-report"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"convnext train: {victim}")
    kept = (run / "last").read_text().strip()
    assert state.damage(run / "checkpoints" / kept) is None
    assert [row["step"] for row in read(run / "log.jsonl") if row["kind"] == "eval"]
    assert (run / "model.safetensors").exists()
    assert main(["train", "--resume", "--out", str(run), "--no-report"]) == 2
    assert str(victim) in capsys.readouterr().err
    victim.write_bytes(sound)
    assert main(["train", "--resume", "--out", str(run), "--no-report"]) == 0
    assert f"continuing at step {kept.removeprefix('step-')}" in capsys.readouterr().out
    assert read(run / "log.jsonl")[-1]["kind"] == "end"


def without(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


@pytest.mark.parametrize(
    ("split", "how", "workers"),
    [("train", "cut short", 0), ("train", "cut short", 2), ("train", "a note", 2), ("val", "cut short", 2),
     ("val", "a note", 0)],
)  # fmt: skip
def test_a_classifier_stops_and_goes_on(
    split: str,
    how: str,
    workers: int,
    pictures: MakePictures,
    tiny: dict[str, Any],
    tmp_path: Path,
    as_arguments: AsArguments,
    breaks: Breaks,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = pictures()
    victim = sorted((data / split).rglob("*.png"))[3]
    words = [str(data), *as_arguments(tiny | {"workers": workers, "steps": AHEAD, "eval_every": 2})]
    stops_and_goes_on(words, tmp_path / "run", victim, breaks, how, capsys)


@pytest.mark.parametrize(
    ("folder", "how", "workers"),
    [("images/train", "cut short", 2), ("annotations/train", "a note", 0), ("annotations/train", "cut short", 2),
     ("annotations/val", "cut short", 0)],
)  # fmt: skip
def test_a_segmenter_stops_and_goes_on(
    folder: str,
    how: str,
    workers: int,
    masked: MakeDense,
    tiny_detection: dict[str, Any],
    tmp_path: Path,
    as_arguments: AsArguments,
    breaks: Breaks,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = masked()
    victim = sorted((data / folder).iterdir())[1]
    small = without(tiny_detection, "micro_batch", "detection.regions", "weights")
    small |= {"image_size": 32, "segmentation.channels": 8, "steps": AHEAD, "workers": workers, "eval_every": 2}
    stops_and_goes_on([str(data), *as_arguments(small)], tmp_path / "run", victim, breaks, how, capsys)


@pytest.mark.parametrize(
    ("split", "how", "workers"),
    [("train2017", "cut short", 2), pytest.param("val2017", "a note", 0, marks=pytest.mark.slow)],
)
def test_a_detector_stops_and_goes_on(
    split: str,
    how: str,
    workers: int,
    annotated: MakeDense,
    tiny_detection: dict[str, Any],
    tmp_path: Path,
    as_arguments: AsArguments,
    breaks: Breaks,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = annotated()
    victim = sorted((data / split).iterdir())[1]
    small = without(tiny_detection, "micro_batch", "weights")
    small |= {"steps": 20, "workers": workers, "eval_every": 2}
    stops_and_goes_on([str(data), *as_arguments(small)], tmp_path / "run", victim, breaks, how, capsys)


@pytest.mark.parametrize("split", ["train", "val"])
def test_what_is_taken_out_midway_is_named_and_done_without(
    split: str,
    pictures: MakePictures,
    tiny: dict[str, Any],
    tmp_path: Path,
    as_arguments: AsArguments,
    breaks: Breaks,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, run = pictures(), tmp_path / "run"
    victim = sorted((data / split).rglob("*.png"))[3]
    breaks(victim, "gone")
    assert main(["train", str(data), *as_arguments(tiny), "--out", str(run), "--no-report"]) == 2
    assert capsys.readouterr().err == (
        f"convnext train: {victim} cannot be opened (No such file or directory); check the path\n"
    )
    assert main(["train", "--resume", "--out", str(run), "--no-report"]) == 0
    assert "1 picture is gone" in capsys.readouterr().out
    assert read(run / "log.jsonl")[-1]["kind"] == "end"
