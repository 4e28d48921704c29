"""The everyday recipes for boxes and masks: what they derive from strangers' pictures and machines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from narrow import not_none

from convnext.catalog.variants import STARTER
from convnext.recipes import length
from convnext.recipes.dense import RECIPES, DenseFacts, derive
from convnext.recipes.recipe import Recipe

STREET = DenseFacts(images=400, classes=3, short=720, object_side=90)
CITY = DenseFacts(images=367, classes=11, short=240)
GPU = 80 * 10**9


def made(name: str, facts: DenseFacts, **fixed: Any) -> Recipe:
    return derive(RECIPES[name], facts, fixed)[0]


@pytest.mark.parametrize("name", RECIPES)
def test_every_choice_has_its_reason_and_the_users_own_stay(name: str) -> None:
    recipe, choices = derive(RECIPES[name], STREET, {"image_size": 128, "epochs": 3})
    assert (recipe.image_size, recipe.epochs, recipe.eval_every, recipe.derive) == (128, 3, 1, "none")
    assert not {choice.field for choice in choices} & {"image_size", "epochs"}
    assert all(len(choice.why) > 10 for choice in choices)


def test_two_cores_get_a_small_network_and_no_download() -> None:
    for name in RECIPES:
        recipe = made(name, STREET)
        assert (recipe.model, recipe.weights, recipe.init) == ("convnext_atto", STARTER, "paper")
        assert recipe.image_size <= 320
        scratch = made(name, STREET, weights=None)
        assert (scratch.model, scratch.weights, scratch.init) == ("convnext_atto", None, "fan_in")
        assert scratch.optim.lr == recipe.optim.lr  # drawn pictures teach too little to be held back by
    assert made("segment", CITY).segmentation.channels == 128
    assert made("detect", STREET).detection.regions == 128


def test_an_accelerator_gets_the_papers_smallest() -> None:
    for name in RECIPES:
        recipe = made(name, replace(STREET, memory=GPU))
        assert (recipe.model, recipe.weights, recipe.batch_size) == ("convnext_tiny", None, 16)
        assert recipe.micro_batch in range(2, 17)
    assert not_none(made("segment", replace(STREET, memory=8 * 10**9)).micro_batch) < 16


@pytest.mark.parametrize(("short", "side", "size"), [
    (4000, 1200, 160),  # large objects in large photographs: a small picture shows them
    (4000, 60, 256),  # tiny ones: as large as the machine carries
    (100, 50, 160),  # small pictures: never below what the anchors need
    (480, 120, 192),
])  # fmt: skip
def test_pictures_are_as_large_as_their_objects_need(short: int, side: float, size: int) -> None:
    assert made("detect", replace(STREET, short=short, object_side=side)).image_size == size


@pytest.mark.parametrize(("short", "size"), [(4000, 256), (240, 256), (64, 64), (20, 64), (100, 96)])
def test_masks_are_seen_at_the_pictures_size_at_most(short: int, size: int) -> None:
    assert made("segment", replace(CITY, short=short)).image_size == size


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("images", [2, 7, 20, 1_000, 200_000])
@pytest.mark.parametrize("memory", [None, GPU])
def test_any_number_of_pictures(name: str, images: int, memory: int | None) -> None:
    recipe = made(name, replace(STREET, images=images, memory=memory))
    assert 2 <= recipe.batch_size <= max(2, images)
    assert recipe.epochs * (images // recipe.batch_size) >= 12
    assert 1 <= recipe.eval_every <= recipe.epochs


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_is_judged_and_saved_by_the_length_that_the_user_took(name: str) -> None:
    few = replace(STREET, images=60)
    assert made(name, few, epochs=3).eval_every == made(name, few, epochs=3).save_every == 1
    assert made(name, few, epochs=50).save_every == 5
    steps = made(name, replace(STREET, images=8), steps=600)  # epochs of four steps
    assert (steps.eval_every, steps.save_every) == (300 * steps.batch_size / 4 // 10,) * 2
    settled, _ = length.settle(
        replace(made(name, few, minutes=3.0), eval_every=7.0), RECIPES[name], 600, 30, {"minutes": 3.0}
    )
    assert settled.save_every == 7


def test_a_micro_batch_is_no_larger_than_the_users_batch() -> None:
    assert made("detect", replace(STREET, memory=GPU), batch_size=4).micro_batch == 4


def test_trained_weights_move_less() -> None:
    recipe = made("detect", STREET, weights="in1k")
    assert recipe.optim.layer_decay == 0.95
    assert recipe.optim.lr < made("detect", STREET).optim.lr
    assert recipe.init == "paper"


def test_a_budget_of_minutes_leaves_the_length_open() -> None:
    derived, choices = derive(RECIPES["segment"], CITY, {"minutes": 3.0})
    assert "epochs" not in {choice.field for choice in choices}
    _, settled = length.settle(derived, RECIPES["segment"], 600, 30, {"minutes": 3.0})
    said = [choice.field for choice in (*choices, *settled)]
    assert said.count("save_every") == 1
    assert len(said) == len(set(said))


def test_an_average_is_kept_of_segmenters_alone() -> None:
    """Both weights are judged, and of a detector that takes longer than a short run trains."""
    for name, kept in (("detect", False), ("segment", True)):
        settled, _ = length.settle(made(name, STREET), RECIPES[name], 600, 30, {})
        assert (settled.ema is not None) == kept
        assert settled.schedule.warmup_steps <= 60
