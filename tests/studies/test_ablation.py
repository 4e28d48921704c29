"""A sweep is one resumable whole: nothing runs twice, nothing is lost, another sweep's folder is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from fixture_types import MakePictures

from convnext import RunResult, api, files
from convnext.data.request import DataRequest
from convnext.errors import UserError
from convnext.paper import figures
from convnext.recipes import get_recipe
from convnext.recipes.roadmap import jobs
from convnext.studies import ablation as sweep

SMALL = {"model": "roadmap:tiny/16:width=0.1,depth=0.3", "image_size": 32, "batch_size": 12, "steps": 4, "workers": 0,
         "precision": "fp32", "eval_every": 100, "save_every": 1}  # fmt: skip


def ablate(data: Path, out: Path, seeds: int = 2) -> list[sweep.StepRow]:
    return api.ablate(data, steps=[7, 8, 9], out=out, settings=SMALL, seeds=seeds)


def test_differences_are_paired_with_the_base_step(pictures: MakePictures, tmp_path: Path) -> None:
    rows = ablate(pictures(train=36, size=32), tmp_path / "sweep", seeds=2)
    assert [(row["step"], row["base"], row["seeds"]) for row in rows] == [(7, 6, 2), (8, 7, 2), (9, 7, 2)]
    assert rows[0]["over base"] is None
    for row in rows[1:]:
        assert row["over base"] == pytest.approx(row["top-1"] - rows[0]["top-1"])
        assert row["std of pairs"] is not None
        assert row["pairs"] == 2
    assert rows[0]["MMACs"] < rows[1]["MMACs"] < rows[2]["MMACs"]
    assert sweep.unfinished(tmp_path / "sweep") == []
    picture = figures.plot_roadmap(rows, tmp_path / "plot.svg")
    assert "kernel size 5" in picture.read_text() or picture.stat().st_size > 5000


def test_the_smallest_difference_pools_the_spread_of_the_steps() -> None:
    # sqrt((2 * 1 + 2 * 4) / 4) = 1.5811 pooled over 4 degrees of freedom, t(97.5 %, 4) = 2.7764, 3 seeds
    found = ((3, 1.0), (3, 2.0), (1, None))
    rows = [cast(sweep.StepRow, {"pairs": pairs, "std of pairs": spread}) for pairs, spread in found]
    assert sweep.smallest_difference(rows) == pytest.approx(2.7764 * 1.5811 / 3**0.5, rel=1e-4)
    assert sweep.smallest_difference(rows[2:]) is None


def test_a_killed_sweep_goes_on_where_it_was(
    pictures: MakePictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = pictures(train=36, size=32), tmp_path / "sweep"
    ablate(data, tmp_path / "whole", seeds=1)
    real, made = api.train, []

    def train(*args: Any, **options: Any) -> RunResult:
        made.append((options["out"].name, options["resume"]))
        if len(made) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(api, "train", train)
    with pytest.raises(KeyboardInterrupt):
        ablate(data, out, seeds=1)
    assert sweep.unfinished(out) == ["step-08-seed-0", "step-09-seed-0"]
    assert [row["step"] for row in sweep.table(out)] == [7]
    before = (out / "runs" / "step-07-seed-0" / "log.jsonl").read_bytes()
    ablate(data, out, seeds=1)
    assert made[2:] == [("step-08-seed-0", False), ("step-09-seed-0", False)]
    assert (out / "runs" / "step-07-seed-0" / "log.jsonl").read_bytes() == before
    last = Path("runs/step-09-seed-0/checkpoints/step-4/raw.safetensors")
    assert (out / last).read_bytes() == (tmp_path / "whole" / last).read_bytes()


def test_a_run_that_was_begun_is_resumed(pictures: MakePictures, tmp_path: Path) -> None:
    data, out, seen = pictures(train=36, size=32), tmp_path / "sweep", []
    plan = jobs(replace(get_recipe("roadmap/small"), steps=2), [7], [0])
    (run := out / "runs" / "step-07-seed-0").mkdir(parents=True)
    (run / "recipe.json").write_text("{}")
    (out / "sweep.json").write_text(json.dumps({"request": {}, "jobs": {}}))
    with pytest.raises(UserError, match="another sweep"):
        sweep.run(out, DataRequest(str(data)), plan, lambda *a: seen.append(a), print)
    (out / "sweep.json").unlink()
    with pytest.raises(UserError, match="holds no sweep"):
        sweep.run(out, DataRequest(str(data)), plan, lambda *a: seen.append(a), print)
    assert seen == []
    sweep._open(tmp_path / "other", DataRequest(str(data)), plan)
    (tmp_path / "other" / "runs").mkdir()
    run.rename(tmp_path / "other" / "runs" / run.name)
    sweep.run(tmp_path / "other", DataRequest(str(data)), plan, lambda *a: seen.append(a), print)
    assert [(path.name, resume) for _, path, resume in seen] == [("step-07-seed-0", True)]


def test_a_run_that_another_process_works_on_is_left_to_it(pictures: MakePictures, tmp_path: Path) -> None:
    out, seen = tmp_path / "sweep", []
    plan = jobs(get_recipe("roadmap/small"), [7, 8], [0])
    request = DataRequest(str(pictures()))
    (claim := out / "claims" / "step-07-seed-0").mkdir(parents=True)
    (claim / "lock").touch()
    (out / "claims").rename(tmp_path / "claims")
    sweep._open(out, request, plan)
    (tmp_path / "claims").rename(out / "claims")
    with files.locked(claim):
        sweep.run(out, request, plan, lambda *a: seen.append(a), print)
    assert [path.name for _, path, _ in seen] == ["step-08-seed-0"]


def test_a_users_mistake_inside_a_run_is_told(pictures: MakePictures, tmp_path: Path) -> None:
    def execute(*_: object) -> None:
        raise UserError("no such folder")

    with pytest.raises(UserError, match="no such folder"):
        sweep.run(tmp_path / "s", DataRequest("x"), jobs(get_recipe("roadmap/small"), [7], [0]), execute, print)


def test_the_first_step_has_the_recipe_of_its_time() -> None:
    made = jobs(get_recipe("roadmap/tiny"), [0, 1], [3])
    old, new = made["step-00-seed-3"], made["step-01-seed-3"]
    assert (old.augment.mixup, old.augment.smoothing, old.drop_path, old.optim.weight_decay) == (0, 0, 0, 1e-4)
    assert (new.augment.mixup, new.augment.smoothing, new.drop_path, new.optim.weight_decay) == (0.8, 0.1, 0.1, 0.05)
    assert old.seed == new.seed == 3
    assert old.ema is new.ema is None
    assert [recipe.model for recipe in made.values()] == [
        "roadmap:tiny/0:layer_scale=1e-06",
        "roadmap:tiny/1:layer_scale=1e-06",
    ]


@pytest.mark.parametrize("name", ["plot.pdf", "plot"])
def test_plots_are_png_or_svg(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.png or \.svg"):
        figures.plot_roadmap(figures.published_roadmap("base"), tmp_path / name)


def test_figure_2_is_drawn_from_the_papers_figures(tmp_path: Path) -> None:
    rows = figures.published_roadmap("tiny")
    assert [row["top-1"] for row in rows][-2:] == [81.97, 81.30]
    assert figures.plot_roadmap(rows, tmp_path / "figure2.png").read_bytes().startswith(b"\x89PNG")


def test_a_mistyped_folder_leaves_no_sweep_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        ablate(tmp_path / "nowhere", tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(("score", "shown"), [(80.35, "80.4"), (81.85, "81.9"), (83.35, "83.4"), (80.34, "80.3")])
def test_scores_are_rounded_as_the_paper_does(score: float, shown: str) -> None:
    assert figures._tenths(score) == shown


def test_the_figure_shows_what_the_misprinted_steps_cost() -> None:
    costs = {row["step"]: row["cost"] for row in figures.published_roadmap("tiny")}
    assert (costs[14], costs[15], costs[16]) == (4.15, 4.15, 4.46)


def test_a_wide_spread_stays_in_the_picture(tmp_path: Path) -> None:
    rows: list[figures.Bar] = [
        {"step": 0, "change": "a", "top-1": 50.0, "std": 30.0, "MMACs": 1.0},
        {"step": 1, "change": "b", "top-1": 51.0, "std": 25.0, "MMACs": 2.0},
    ]
    assert figures.plot_roadmap(rows, tmp_path / "wide.png").stat().st_size > 5000  # warnings are errors here


def test_a_folder_without_a_sweep_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no sweep\.json"):
        sweep.table(tmp_path)
