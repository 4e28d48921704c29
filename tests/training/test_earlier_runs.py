"""Runs of the first version (commit 20e8d99) go on, and their checkpoints are judged as they were.

tests/fixtures/runs_of_the_first_version.zip holds the pictures, and of each run its folder after the first of two
epochs: `convnext train classes --recipe scratch`, `convnext train masks --recipe ade20k/upernet/tiny`, with networks of
a few thousand parameters (`--set depths=[1,1,1,1] --set dims=[8,8,16,16]`). A detector's would be 50 MB.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from convnext import api

RUNS = Path(__file__).parents[1] / "fixtures" / "runs_of_the_first_version.zip"


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.unpack_archive(RUNS, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluations(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == "eval"]


@pytest.mark.parametrize(("run", "data"), [("run-classify", "classes"), ("run-segment", "masks")])
def test_an_earlier_checkpoint_is_judged_as_it_was(run: str, data: str, earlier: Path) -> None:
    first = evaluations(earlier / run)[0]
    found = api.evaluate(earlier / run / "model.safetensors", data)
    assert found[first["metric"]] == pytest.approx(first["value"], abs=1e-9)


@pytest.mark.parametrize("run", ["run-classify", "run-segment"])
def test_an_earlier_run_goes_on_to_its_end(run: str, earlier: Path) -> None:
    """Its log tells what became of it then; cut back to the checkpoint that is there, it is trained to the end now."""
    log = earlier / run / "log.jsonl"
    rows = log.read_text().splitlines(keepends=True)
    before = evaluations(earlier / run)
    log.write_text("".join(row for row in rows if json.loads(row)["step"] <= 3))
    outcome = api.train(out=run, resume=True)
    assert [row["step"] for row in outcome.evaluations] == [row["step"] for row in before] == [3, 6]
    assert outcome.history[-1]["kind"] == "end"
    losses = [row["loss"] for row in outcome.history if row["kind"] == "train"]
    if run == "run-classify":  # each step is what it was then
        then = [json.loads(row)["loss"] for row in rows if json.loads(row)["kind"] == "train"]
        assert losses == pytest.approx(then, abs=1e-6)
        assert outcome.evaluations[1]["raw"]["top1"] == before[1]["raw"]["top1"]
    else:  # an eleventh crop is taken since, as in mmsegmentation: the pictures of a step are others
        assert all(0 < loss < 2 for loss in losses)
    assert (earlier / run / "report" / "index.html").exists()
