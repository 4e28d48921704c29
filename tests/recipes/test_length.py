"""What follows from a run's length and batch: for every recipe, however the length was given, and always said."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from fixture_types import MakePictures

from convnext import api
from convnext.errors import UserError
from convnext.recipes import RECIPES, get_recipe
from convnext.recipes.everyday import Choice, Facts, derive
from convnext.recipes.length import (
    EMA_SHARE,
    LEAST_PASSES,
    LEAST_SIDE,
    affordable_side,
    asked,
    at_side,
    makes_average,
    replayed,
    require_one,
    settle,
)
from convnext.recipes.recipe import Recipe, Settings, field_names, from_json, override, to_json
from convnext.training.schedule import schedule_of

RULES = ("scratch", "classify", "finetune", "probe")
PAPER = [name for name, recipe in RECIPES.items() if recipe.derive == "none"]
FLOWERS = Facts(images=3000, classes=5, size=300, smallest_class=500, largest_class=700)
# Steps of an epoch in the paper's runs.
PUBLISHED = {"imagenet1k": 312, "imagenet22k": 3466, "imagenet1k_ft384": 2502, "imagenet22k_ft1k": 2502,
             "imagenet22k_ft1k_384": 2502, "isotropic": 312, "roadmap": 312, "coco": 7330, "ade20k": 1263,
             "pretrain": 625}  # fmt: skip


def value_of(recipe: Recipe, field: str) -> Any:
    return reduce(getattr, field.split("."), recipe)


def run(name: str, per_epoch: int, **settings: Any) -> tuple[Recipe, list[Choice]]:
    """The recipe as a run would settle it, on data of so many steps an epoch."""
    mine = {key.replace("__", "."): value for key, value in settings.items()}
    given = get_recipe(name)
    recipe = asked(
        derive(given, FLOWERS, mine | ({"weights": "in22k"} if name in ("finetune", "probe") else {}))[0], mine
    )
    steps = recipe.steps or max(1, round(recipe.epochs * per_epoch))
    return settle(recipe, given, steps, per_epoch, mine)


def warm_up(recipe: Recipe, per_epoch: int) -> int:
    found: int = schedule_of(recipe, per_epoch).warmup
    return found


def horizon(recipe: Recipe) -> float:
    return 0 if recipe.ema is None else 1 / (1 - recipe.ema)


def fields_of(choices: list[Choice]) -> list[str]:
    return [choice.field for choice in choices]


@pytest.mark.parametrize("name", PAPER)
def test_a_paper_recipe_at_its_own_length_and_batch_is_the_published_one(name: str) -> None:
    """Isotropic networks warm up for 50 of 300 epochs, and keep an average of 10,000 of 93,600 steps."""
    given = get_recipe(name)
    settled, choices = run(name, PUBLISHED[name.split("/")[0]])
    assert choices == []
    assert settled == replace(given, steps=settled.steps)


@pytest.mark.parametrize("per_epoch", [1, 3, 11, 312, 5004])
@pytest.mark.parametrize(
    ("name", "length"),
    [("imagenet1k/tiny", {"epochs": 1.0}), ("imagenet1k/tiny", {"epochs": 3.0}), ("imagenet1k/tiny", {"epochs": 20.0}),
     ("imagenet1k/tiny", {"epochs": 10.0}), ("isotropic/small", {"epochs": 30.0}),
     ("imagenet22k/tiny", {"epochs": 5.0}),
     ("roadmap/tiny", {"epochs": 15.0}), ("imagenet22k_ft1k/xlarge", {"epochs": 2.0}), ("ade20k/upernet/tiny",
     {"epochs": 1.0}), ("coco/mask_rcnn/tiny", {"epochs": 0.3}), *[(rule, {"steps": 60}) for rule in RULES],
     *[(rule, {"epochs": 4.0}) for rule in RULES], ("imagenet1k/tiny", {"steps": 60})],
)  # fmt: skip
def test_warm_up_and_horizon_take_a_tenth_of_a_run_of_another_length(
    name: str, length: dict[str, Any], per_epoch: int
) -> None:
    settled, choices = run(name, per_epoch, **length)
    assert settled.steps is not None
    assert warm_up(settled, per_epoch) <= 0.1 * settled.steps
    assert horizon(settled) <= 0.1 * settled.steps + 1e-6
    given = get_recipe(name)
    changed = {
        field
        for field in ("ema", "schedule.warmup_epochs", "schedule.warmup_steps")
        if value_of(settled, field) != value_of(given, field)
    }
    assert changed == set(fields_of(choices)) & changed


@pytest.mark.parametrize("name", RULES)
def test_settings_are_counted_in_the_epochs_that_are_printed(name: str) -> None:
    settled, choices = run(name, 22, steps=60)
    assert settled.epochs == pytest.approx(60 / 22, abs=1e-3)
    assert ("epochs", settled.epochs) in [(choice.field, choice.value) for choice in choices]


def test_a_given_number_of_steps_is_as_good_as_their_epochs() -> None:
    """E2: `--set steps=220` had a warm-up of all of it and no average; `--epochs 10` of the same 220 did not."""
    by_steps, by_epochs = (run("scratch", 22, **length)[0] for length in ({"steps": 220}, {"epochs": 10.0}))
    assert by_steps == by_epochs


def test_a_recipe_of_steps_on_other_data_says_how_many_epochs_they_are() -> None:
    settled, choices = run("ade20k/upernet/tiny", 6)
    assert settled.steps == 160_000
    (choice,) = choices
    assert choice.field == "epochs"
    assert choice.value == pytest.approx(160_000 / 6, abs=1e-3)
    assert "--minutes" in choice.why


@pytest.mark.parametrize(
    ("name", "batch", "rate"),
    [("imagenet1k/tiny", 8, 4e-3 * 8 / 4096), ("imagenet1k/tiny", 1024, 1e-3), ("coco/mask_rcnn/tiny", 8, 5e-5),
     ("ade20k/upernet/tiny", 4, 2.5e-5), ("imagenet22k_ft1k/tiny", 64, 5e-5 / 8)],
)  # fmt: skip
def test_the_rate_of_a_paper_recipe_follows_its_batch(name: str, batch: int, rate: float) -> None:
    settled, choices = run(name, 100, batch_size=batch)
    assert settled.optim.lr == pytest.approx(rate, rel=5e-3)
    (choice,) = [choice for choice in choices if choice.field == "optim.lr"]
    assert f"{RECIPES[name].batch_size:,}" in choice.why
    mine = run(name, 100, batch_size=batch, optim__lr=0.7)
    assert mine[0].optim.lr == 0.7
    assert "optim.lr" not in fields_of(mine[1])


def test_a_replayed_folder_recipe_keeps_its_own_rule_for_the_rate() -> None:
    first = derive(get_recipe("scratch"), FLOWERS, {"batch_size": 64})[0]
    settled, _ = settle(replace(first, batch_size=16), first, 100, 10, {"batch_size": 16})
    assert settled.optim.lr == pytest.approx(first.optim.lr / 2, rel=5e-3)


def test_a_rate_that_somebody_else_has_adapted_is_left_alone() -> None:
    given = get_recipe("coco/mask_rcnn/tiny")
    adapted = replace(given, batch_size=2, optim=replace(given.optim, lr=3e-5))
    assert settle(adapted, given, 1000, 100, {})[0].optim.lr == 3e-5


@pytest.mark.parametrize("name", ["imagenet1k/tiny", "scratch", "finetune", "ade20k/upernet/tiny"])
def test_what_the_user_set_stays(name: str) -> None:
    mine: Settings = {"ema": 0.99999, "schedule.warmup_epochs": 7.0, "schedule.warmup_steps": 77, "augment.cutmix": 0.3}
    given = get_recipe(name)
    settled, choices = settle(override(given, mine), given, 3500, 100, mine)
    assert {field: value_of(settled, field) for field in mine} == mine
    assert not set(fields_of(choices)) & mine.keys()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("steps", "per_epoch"), [(20, 1), (100, 10), (1000, 333), (93_600, 312), (500, 5000)])
def test_whatever_is_settled_has_a_reason(name: str, steps: int, per_epoch: int) -> None:
    given = get_recipe(name)
    settled, choices = settle(given, given, steps, per_epoch, {})
    changed = {field for field in field_names() if value_of(settled, field) != value_of(given, field)}
    assert changed <= {*fields_of(choices), "steps"}
    assert horizon(settled) == pytest.approx(min(steps // 10, max(10, round(EMA_SHARE * steps))))
    for choice in choices:
        assert value_of(settled, choice.field) == choice.value
        assert choice.why.strip()


def test_a_run_too_short_for_an_average_keeps_none() -> None:
    settled, choices = run("scratch", 1, steps=12)
    assert settled.ema is None
    assert "ema" in fields_of(choices)


@pytest.mark.parametrize("name", [*RULES, "imagenet1k/tiny", "isotropic/small"])
def test_a_settled_recipe_replays_from_its_file_unchanged(name: str) -> None:
    settled, _ = run(name, 50, epochs=20.0)
    read = from_json(to_json(settled))
    assert settle(read, read, settled.steps or 0, 50, {}) == (read, [])


def test_a_replay_counts_steps_on_the_same_pictures_and_epochs_on_others() -> None:
    recipe = replace(get_recipe("imagenet1k/tiny"), steps=12, epochs=4.0, minutes=2.0)
    assert replayed(recipe, {}, same_data=True) == (recipe, [])
    found, choices = replayed(recipe, {}, same_data=False)
    assert (found.steps, found.minutes, found.epochs) == (None, None, 4.0)
    assert [(choice.field, choice.value) for choice in choices] == [("epochs", 4.0)]
    lengths: list[Settings] = [{"steps": 5}, {"epochs": 1}, {"minutes": 1}]
    for length in lengths:
        assert replayed(recipe, length, same_data=False) == (recipe, [])


@pytest.mark.parametrize("two", [("minutes", "steps"), ("epochs", "steps"), ("epochs", "minutes")])
def test_two_lengths_are_refused(two: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=f"{two[0]} and {two[1]} each say"):
        require_one(dict.fromkeys(two, 3))
    require_one({two[0]: 3, two[1]: "none"})


def test_two_lengths_on_the_command_line_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="minutes and steps each say"):
        api.train(None, out=tmp_path / "run", settings={"minutes": 1, "steps": "60"})
    assert not (tmp_path / "run").exists()


SMALL = ("model", "depths", "dims", "patch_size", "image_size", "workers", "precision")


def choices_of(path: Path) -> dict[str, Any]:
    row = json.loads((path / "log.jsonl").read_text().splitlines()[0])
    return {choice["field"]: choice["value"] for choice in row["choices"]}


def test_a_real_run_of_a_shortened_paper_recipe(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    data = pictures(train=80)
    mine = {
        name: tiny[name] for name in ("model", "depths", "dims", "patch_size", "image_size", "workers", "precision")
    }
    result = api.train(
        data, "imagenet1k/tiny", out=tmp_path / "run", report=False, settings=mine | {"batch_size": 8, "epochs": 3}
    )
    recipe = from_json((result.path / "recipe.json").read_text())
    assert (recipe.steps, warm_up(recipe, 10), round(horizon(recipe))) == (30, 3, 3)
    assert recipe.optim.lr == pytest.approx(4e-3 * 8 / 4096, rel=5e-3)
    assert {"schedule.warmup_epochs", "ema", "optim.lr"} <= choices_of(result.path).keys()
    rates = [row["lr"] for row in result.history if row["kind"] == "train"]
    assert max(rates) == pytest.approx(recipe.optim.lr, rel=0.02)
    assert rates[-1] < 0.2 * max(rates)  # it has left the warm-up, and come down


def test_a_recipe_value_of_a_papers_name_is_shortened_like_the_name(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """As a sweep of the roadmap hands it over."""
    mine = {
        name: tiny[name] for name in ("model", "depths", "dims", "patch_size", "image_size", "workers", "precision")
    }
    recipe = override(get_recipe("imagenet1k/tiny"), mine | {"batch_size": 8, "epochs": 3})
    result = api.train(pictures(train=80), recipe, out=tmp_path / "run", report=False)
    assert {"schedule.warmup_epochs", "ema", "optim.lr"} <= choices_of(result.path).keys()


def test_a_replay_on_other_pictures_has_as_many_epochs(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del tiny["steps"]
    small, large = pictures("small", train=24), pictures("large", train=48)
    first = api.train(small, out=tmp_path / "a", settings=tiny | {"epochs": 2}, report=False)
    capsys.readouterr()
    again, other = (
        api.train(data, first.path / "recipe.json", out=tmp_path / name, report=False).path
        for data, name in ((small, "b"), (large, "c"))
    )
    steps = [from_json((path / "recipe.json").read_text()).steps for path in (first.path, again, other)]
    assert steps == [6, 6, 12]
    assert "epochs" not in choices_of(again)
    assert choices_of(other)["epochs"] == 2


def test_what_disturbs_training_from_scratch_follows_from_epochs_pictures_and_classes() -> None:
    light, mixed, papers = (0.2, 0.0, 1.0, 0), (0.2, 1.0, 0.5, 0), (0.8, 1.0, 1.0, 9)
    cases = (
        ((12, 40, 10), light),
        ((30, 40, 10), mixed),
        ((150, 40, 10), mixed),
        ((300, 3, 10), mixed),
        ((300, 40, 2), mixed),
        ((300, 40, 10), papers),
    )
    for (epochs, per_epoch, classes), expected in cases:
        augment = run("scratch", per_epoch, epochs=epochs, num_classes=classes)[0].augment
        assert (augment.mixup, augment.cutmix, augment.mix_prob, augment.randaugment) == expected


def test_a_recipe_file_that_lies_alone_keeps_its_steps(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written by hand, or copied out of its run: nothing says that its steps were counted on other pictures."""
    mine = {name: tiny[name] for name in (*SMALL, "batch_size")}
    (tmp_path / "mine.json").write_text(json.dumps(mine | {"steps": 7}))
    path = api.train(pictures(), str(tmp_path / "mine.json"), out=tmp_path / "run", report=False).path
    assert from_json((path / "recipe.json").read_text()).steps == 7
    said = capsys.readouterr().out
    assert "epochs = 2.333: 7 steps, the recipe's own" in said
    assert "not the pictures" not in said


@pytest.mark.parametrize("name", ["scratch", "finetune", "probe", "detect", "segment", "imagenet1k/tiny"])
def test_what_is_said_of_an_average_beforehand_holds(name: str) -> None:
    """A budget counts the evaluations of an average where there will be one, and only there."""
    given = get_recipe(name)
    plain = replace(given, ema=None)
    settled, _ = settle(plain, given, 1000, 10, {})
    assert (settled.ema is not None) == makes_average(given)


def test_a_run_of_few_minutes_sees_smaller_pictures_more_often() -> None:
    """At 224 pixels one minute was 1.7 passes, 18 points below logistic regression; at 80 it was 11 above."""
    given = get_recipe("scratch")
    recipe = replace(given, image_size=224, progressive=0.57)
    assert affordable_side(recipe, given, 3, {}) == 112  # four times as many passes
    assert affordable_side(recipe, given, 1.7, {}) == 80
    assert affordable_side(recipe, given, 0.1, {}) == LEAST_SIDE
    assert affordable_side(recipe, given, LEAST_PASSES, {}) is None
    assert affordable_side(recipe, given, 1.7, {"image_size": 224}) is None
    assert affordable_side(replace(recipe, image_size=LEAST_SIDE), given, 1, {}) is None
    assert affordable_side(recipe, get_recipe("finetune"), 1, {}) is None  # its weights know one size
    assert at_side(recipe, 80) == replace(recipe, image_size=80, progressive=1.0)
    assert at_side(recipe, 112) == replace(recipe, image_size=112)
