"""The paper's tables as commands: what they print, and what they say to a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixture_types import MakePictures

from convnext.commands.main import main

SMALL = ["--set", "model=roadmap:tiny/16:width=0.1,depth=0.3", "--set", "image_size=32", "--set", "batch_size=12",
         "--set", "steps=3", "--set", "workers=0", "--set", "precision=fp32"]  # fmt: skip


def test_the_roadmap_is_shown_with_its_misprints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["roadmap", "show", "--regime", "tiny", "--layer-scale", "1e-6", "--form", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 18
    assert rows[16]["parameters"] == 28_589_128
    assert [row["step"] for row in rows[:17] if not row["agrees"]] == [15, 16]
    assert "misprint" in rows[15]["note"]
    assert rows[17]["change"].startswith("Swin-T")


def test_steps_are_trained_tabled_and_plotted(
    pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = str(pictures(train=36, size=32)), str(tmp_path / "sweep")
    words = ["roadmap", "train", data, "--steps", "8,7-7", "--seeds", "1", "--out", out, *SMALL, "--form", "csv"]
    assert main(words) == 0
    captured = capsys.readouterr()
    header, first, second = captured.out.strip().splitlines()[-3:]
    assert header.startswith("regime,step,change,base,seeds,top-1")
    assert first.startswith("tiny,7,move up depthwise conv,6,1,")
    assert second.startswith("tiny,8,kernel size 5,7,1,")
    assert "[1/2] step-07-seed-0" in captured.err
    assert main(["roadmap", "plot", out, "--out", str(tmp_path / "own.png")]) == 0
    assert (tmp_path / "own.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["bench"], "name networks to compare"),
        (["bench", "convnext_atto", "--plot", "x.png"], "goes with --table 1"),
        (["bench", "--table", "8"], "docs/paper.md"),
        (["bench", "--no-speed", "convnext_huge"], "unknown model"),
        (["bench", "--table", "1", "--no-speed", "--plot", "x.pdf"], "must end in .png or .svg"),
        (["roadmap"], "say what to do"),
        (["roadmap", "train", "nowhere"], "nowhere"),
        (["roadmap", "train", "digits", "--steps", "1-x"], "not a list of numbers"),
        (["roadmap", "train", "digits", "--steps", "99"], "0 to 16"),
        (["roadmap", "train", "digits", "--recipe", "scratch"], "names no step"),
        (["roadmap", "train", "digits", "--seeds", "0"], "at least 1"),
        (["roadmap", "plot", "nowhere"], r"nowhere holds no sweep.json"),
    ],
)
def test_mistakes_are_told(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert says in capsys.readouterr().err
