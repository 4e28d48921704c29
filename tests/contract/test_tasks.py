"""What every task keeps: a run judged is its checkpoint judged, it goes on bit for bit, it has a page and answers."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fixture_types import SameRun
from torch import Tensor, nn

from convnext import api, from_pretrained
from convnext.commands.main import main
from convnext.errors import UserError
from convnext.recipes.recipe import TaskName
from convnext.tasks import TASKS, slice_of, task_slice
from convnext.training import Task

FIXTURES: dict[TaskName, tuple[str, str, str]] = {  # data, settings, the recipe
    "classify": ("pictures", "tiny", "classify"),
    "regress": ("measured", "tiny_numbers", "regress"),
    "detect": ("annotated", "tiny_detection", "detect"),
    "segment": ("masked", "tiny_masks", "segment"),
}


@dataclass(frozen=True)
class Case:
    """A task with a folder that is made for it and settings of a run of seconds."""

    name: TaskName
    data: Path
    settings: dict[str, Any]
    recipe: str

    @property
    def picture(self) -> Path:
        return min(path for path in self.data.rglob("*.png") if "annotations" not in path.parts)


@pytest.fixture(params=TASKS)
def case(request: pytest.FixtureRequest) -> Case:
    data, settings, recipe = FIXTURES[request.param]
    return Case(request.param, request.getfixturevalue(data)(), request.getfixturevalue(settings), recipe)


def test_a_run_is_judged_as_its_checkpoint_is_and_tells_about_itself(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = api.train(case.data, case.recipe, out=tmp_path / "run", settings=case.settings)
    model = run.path / "model.safetensors"
    assert task_slice(case.name) is slice_of(from_pretrained(model))
    found = api.evaluate(model, case.data, precision="fp32")
    assert found[run.best["metric"]] == pytest.approx(run.metric, abs=1e-6)
    page = (run.path / "report" / "index.html").read_text()
    assert page.count("<section") >= 4
    assert not re.search(r">[^<]*\b(nan|inf|None)\b", page)
    capsys.readouterr()
    assert main(["predict", str(model), str(case.picture), "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)
    assert main(["predict", str(model), str(case.picture), str(tmp_path / "none.png"), "--csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert next(row["error"] for row in rows if row["path"].endswith("none.png"))
    assert main(["evaluate", str(model), str(case.data), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again.get("intervals", {}).keys() <= again.keys()


def test_a_run_goes_on_bit_for_bit(
    case: Case, tmp_path: Path, same_run: SameRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = case.settings | {"ema": 0.9}
    whole = api.train(case.data, case.recipe, out=tmp_path / "whole", settings=settings, report=False)
    calls, wanted = iter(range(1000)), whole.history[-1]["step"] * 2 // 3
    kind = type(_task_of(case, tmp_path, settings))
    plain = kind.losses

    def failing(task: Task[object, object], model: nn.Module, batch: object) -> dict[str, Tensor]:
        if next(calls) == wanted:
            raise KeyboardInterrupt
        return plain(task, model, batch)

    monkeypatch.setattr(kind, "losses", failing)
    with pytest.raises(KeyboardInterrupt):
        api.train(case.data, case.recipe, out=tmp_path / "cut", settings=settings, report=False)
    monkeypatch.undo()
    api.train(out=tmp_path / "cut", resume=True, report=False)
    same_run(tmp_path / "whole", tmp_path / "cut")


def _task_of(case: Case, tmp_path: Path, settings: dict[str, Any]) -> Task[object, object]:
    """The task that a run of the case learns."""
    from convnext.data.request import DataRequest
    from convnext.recipes import get_recipe
    from convnext.tasks import derive, open_data
    from convnext.training import runtime

    given = get_recipe(case.recipe)
    splits = open_data(DataRequest(str(case.data)), given)
    with runtime.start("fp32") as run:
        resolved, _ = derive(given, splits, dict(settings), run)
        return task_slice(case.name).make_task(splits, resolved, run)


@pytest.mark.parametrize("other", TASKS.values())
def test_what_another_task_is_told_is_refused(case: Case, other: str, tmp_path: Path) -> None:
    field = {"detection": "detection.hflip", "segmentation": "segmentation.hflip", "regression": "regression.loss",
             "classification": "loss"}[other]  # fmt: skip
    if other == TASKS[case.name]:
        return
    with pytest.raises(UserError, match=f"does not read {field}, which would change nothing"):
        api.train(case.data, case.recipe, out=tmp_path / "run", settings={**case.settings, field: 0.5})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("other", TASKS)
def test_a_folder_for_another_task_is_refused_and_the_recipe_for_it_named(
    case: Case, other: TaskName, tmp_path: Path
) -> None:
    if other == case.name:
        return
    with pytest.raises(UserError, match=f"--recipe {case.recipe}"):
        api.train(case.data, FIXTURES[other][2], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_check_finds_the_folder_fit(case: Case) -> None:
    report = api.check(case.data)
    assert report.ok
    assert report.total > 0
