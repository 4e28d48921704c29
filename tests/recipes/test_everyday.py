"""The everyday recipes: what they derive is explained, gives way to the user, and can be replayed."""

from __future__ import annotations

import itertools
import typing
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest

from convnext.errors import UserError
from convnext.recipes.everyday import (
    FINETUNE_LR,
    PROBE_LR,
    RECIPES,
    REFERENCE_BATCH,
    SCRATCH_LR,
    Choice,
    Facts,
    derive,
    own_settings,
)
from convnext.recipes.recipe import Recipe, field_names, from_json, override, to_json

DIGITS = Facts(images=1437, classes=10, size=8, smallest_class=139, largest_class=146, no_accelerator=True)
CIFAR = Facts(images=50_000, classes=10, size=32, smallest_class=5000, largest_class=5000)
FLOWERS = Facts(images=3000, classes=5, size=300, smallest_class=500, largest_class=700)
LARGE = Facts(images=1_000_000, classes=1000, size=400, smallest_class=700, largest_class=1300)
LOPSIDED = replace(FLOWERS, smallest_class=20)
TAGS = replace(FLOWERS, multi_label=True, smallest_class=3)
FEW = Facts(images=12, classes=2, size=100, smallest_class=6, largest_class=6)
DATA = {"flowers": FLOWERS, "digits": DIGITS, "cifar": CIFAR, "large": LARGE, "lopsided": LOPSIDED, "tags": TAGS,
        "few": FEW}  # fmt: skip
RULES = ("scratch", "finetune", "probe")
EVERY = [pytest.param(RECIPES[rule], facts, id=f"{rule}-{name}") for rule in RULES for name, facts in DATA.items()]


def value_of(recipe: Recipe, field: str) -> Any:
    return reduce(getattr, field.split("."), recipe)


def other(recipe: Recipe, field: str) -> object:
    """A value of the field's kind that `recipe` does not have there."""
    *path, leaf = field.split(".")
    hint = typing.get_type_hints(type(reduce(getattr, path, recipe)))[leaf]
    return _other(value_of(recipe, field), hint)


def _other(value: object, hint: object) -> object:
    if typing.get_origin(hint) is typing.Literal:
        return next(one for one in typing.get_args(hint) if one != value)
    if isinstance(value, tuple):
        return tuple(_other(one, None) for one in value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return 0.7 * value + 0.0123 if isinstance(value, float) else "convnext_nano"


def with_weights(recipe: Recipe, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """The user's settings, with weights where the recipe needs some."""
    return (settings or {}) | ({} if recipe.derive == "scratch" else {"weights": "in22k"})


def derived(recipe: Recipe, facts: Facts, settings: dict[str, Any] | None = None) -> tuple[Recipe, list[Choice]]:
    return derive(recipe, facts, with_weights(recipe, settings))


def fields_of(choices: list[Choice]) -> list[str]:
    return [choice.field for choice in choices]


@pytest.mark.parametrize(("recipe", "facts"), EVERY)
def test_whatever_differs_from_the_template_has_a_reason(recipe: Recipe, facts: Facts) -> None:
    resolved, choices = derived(recipe, facts)
    changed = {name for name in field_names() if value_of(resolved, name) != value_of(recipe, name)}
    assert changed <= {*fields_of(choices), "derive", "weights"}
    assert resolved.derive == "none"
    assert len(set(fields_of(choices))) == len(choices) > 0
    for choice in choices:
        assert value_of(resolved, choice.field) == choice.value
        assert choice.why.strip()


@pytest.mark.parametrize(("recipe", "facts"), EVERY)
def test_the_users_setting_of_any_derived_field_stays(recipe: Recipe, facts: Facts) -> None:
    first, names = derived(recipe, facts)
    for name in fields_of(names):
        mine = other(first, name)
        resolved, choices = derived(recipe, facts, {name: mine})
        assert value_of(resolved, name) == mine != value_of(first, name)
        assert name not in fields_of(choices)


@pytest.mark.parametrize(("recipe", "facts"), EVERY)
def test_with_everything_set_nothing_is_chosen(recipe: Recipe, facts: Facts) -> None:
    mine: dict[str, Any] = {}
    resolved, choices = derived(recipe, facts)
    for _ in range(5):  # one setting may open the way to another choice, such as that of a smaller image
        mine |= {name: other(resolved, name) for name in fields_of(choices)}
        resolved, choices = derived(recipe, facts, mine)
    assert choices == []
    assert resolved == replace(override(recipe, with_weights(recipe, mine)), derive="none")


@pytest.mark.parametrize(("recipe", "facts"), EVERY)
def test_settings_may_be_the_texts_of_the_command_line(recipe: Recipe, facts: Facts) -> None:
    resolved, _ = derived(recipe, facts, {"batch_size": "6", "optim.lr": "0.004"})
    assert (resolved.batch_size, resolved.optim.lr) == (6, 0.004)


@pytest.mark.parametrize(("recipe", "facts"), EVERY)
def test_the_resolved_recipe_replays_from_its_file(recipe: Recipe, facts: Facts) -> None:
    resolved, _ = derived(recipe, facts)
    read = from_json(to_json(resolved))
    assert read == resolved
    assert derive(read, replace(facts, images=77, size=500), {}) == (read, [])


def test_a_replay_takes_the_users_settings() -> None:
    read = derived(RECIPES["scratch"], FLOWERS)[0]
    assert derive(read, FLOWERS, {"optim.lr": 5e-4}) == (override(read, {"optim.lr": 5e-4}), [])


@pytest.mark.parametrize("rule", ["finetune", "probe"])
def test_without_weights_there_is_nothing_to_start_from(rule: str) -> None:
    with pytest.raises(UserError, match=f"^{rule} starts from trained weights: add --weights"):
        derive(RECIPES[rule], FLOWERS, {})


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UserError, match=r"optim\.lr"):
        derive(RECIPES["scratch"], FLOWERS, {"optim.lrr": 1})


@pytest.mark.parametrize(("rule", "base"), [("scratch", SCRATCH_LR), ("finetune", FINETUNE_LR), ("probe", PROBE_LR)])
def test_the_rate_grows_with_the_root_of_the_batch(rule: str, base: float) -> None:
    for factor in (1 / 16, 1 / 4, 1, 2, 4, 16):
        batch = int(REFERENCE_BATCH * factor)
        resolved, _ = derived(RECIPES[rule], FLOWERS, {"batch_size": batch})
        assert resolved.optim.lr == pytest.approx(base * factor**0.5, rel=5e-3)  # three digits are kept


@pytest.mark.parametrize("rule", RULES)
def test_the_rate_belongs_to_the_batch_that_was_derived(rule: str) -> None:
    for facts in DATA.values():
        resolved, _ = derived(RECIPES[rule], facts)
        assert derived(RECIPES[rule], facts, {"batch_size": resolved.batch_size})[0].optim.lr == resolved.optim.lr


@pytest.mark.parametrize("side", [1, 8, 9, 16, 17, 28, 32, 48, 64, 65, 96, 127, 128, 160, 200, 224, 300, 4000])
def test_size_and_stem_fit_the_pictures(side: int) -> None:
    resolved, _ = derived(RECIPES["scratch"], replace(FLOWERS, size=side))
    assert resolved.image_size % 8 == 0
    assert resolved.image_size <= max(8, side)
    assert resolved.image_size <= 224
    assert resolved.image_size >= 8 * resolved.patch_size  # three halvings follow the stem


def test_smaller_pictures_never_get_a_coarser_stem_or_a_larger_size() -> None:
    made = [derived(RECIPES["scratch"], replace(FLOWERS, size=side))[0] for side in (*range(8, 68), *range(68, 400, 7))]
    for finer, coarser in itertools.pairwise(made):
        assert finer.patch_size <= coarser.patch_size
        assert finer.image_size <= coarser.image_size
    assert made[0].patch_size == 1
    assert made[-1].patch_size == 4


def test_the_stem_follows_the_users_image_size() -> None:
    assert derived(RECIPES["scratch"], FLOWERS, {"image_size": 16})[0].patch_size == 1


def test_trained_weights_keep_their_stem_and_resolution_on_tiny_pictures() -> None:
    for rule in ("finetune", "probe"):
        resolved, _ = derived(RECIPES[rule], DIGITS)
        assert (resolved.patch_size, resolved.image_size) == (4, 224)


def test_more_pictures_never_get_a_smaller_network_or_more_epochs() -> None:
    order = ["convnext_atto", "convnext_pico", "convnext_tiny"]
    counts = (10, 100, 1000, 20_000, 50_000, 150_000, 300_000, 10**7)
    made = [derived(RECIPES["scratch"], replace(FLOWERS, images=n))[0] for n in counts]
    for fewer, more in itertools.pairwise(made):
        assert order.index(fewer.model) <= order.index(more.model)
        assert fewer.epochs >= more.epochs
    assert derived(RECIPES["scratch"], replace(LARGE, no_accelerator=True))[0].model == order[0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("images", [8, 9, 31, 100, 799, 800, 1999, 2000, 3999, 4000, 10**6])
def test_an_epoch_has_at_least_four_steps(rule: str, images: int) -> None:
    resolved, _ = derived(RECIPES[rule], replace(FLOWERS, images=images))
    assert images // resolved.batch_size >= 4


@pytest.mark.parametrize("rule", RULES)
def test_a_time_budget_leaves_the_length_open(rule: str) -> None:
    resolved, choices = derived(RECIPES[rule], FLOWERS, {"minutes": 5})
    assert resolved.minutes == 5
    assert not {"epochs", "steps", "eval_every"} & set(fields_of(choices))


@pytest.mark.parametrize(("recipe", "facts"), EVERY)
def test_a_number_of_steps_leaves_no_other_length_to_choose(recipe: Recipe, facts: Facts) -> None:
    resolved, choices = derived(recipe, facts, {"steps": "60"})
    assert resolved.steps == 60
    assert not {"epochs", "minutes"} & set(fields_of(choices))
    if recipe.derive == "scratch":
        assert resolved.drop_path == 0.05  # a run of 60 steps is short, however long the recipe's default is


@pytest.mark.parametrize("rule", RULES)
def test_classes_more_than_ten_times_apart_are_drawn_as_often(rule: str) -> None:
    def sampling(smallest: int, largest: int) -> str:
        facts = replace(FLOWERS, smallest_class=smallest, largest_class=largest)
        return derived(RECIPES[rule], facts)[0].sampling

    assert sampling(50, 501) == "balanced"
    assert sampling(0, 11) == "balanced"
    assert sampling(50, 500) == "shuffle"
    assert sampling(50, 50) == "shuffle"


@pytest.mark.parametrize("rule", RULES)
def test_imbalance_is_made_up_for_once(rule: str) -> None:
    weighted, choices = derived(RECIPES[rule], LOPSIDED, {"class_weights": "balanced"})
    assert (weighted.sampling, weighted.class_weights) == ("shuffle", "balanced")
    assert not {"sampling", "class_weights"} & set(fields_of(choices))
    assert derived(RECIPES[rule], LOPSIDED)[0].class_weights == "none"
    for recipe in (RECIPES[rule], Recipe()):
        with pytest.raises(UserError, match="set one of them"):
            derived(recipe, LOPSIDED, {"sampling": "balanced", "class_weights": "balanced"})


@pytest.mark.parametrize("rule", RULES)
def test_several_labels_an_image_are_learnt_one_by_one(rule: str) -> None:
    resolved, _ = derived(RECIPES[rule], TAGS)
    assert (resolved.loss, resolved.augment.smoothing, resolved.sampling) == ("bce", 0, "shuffle")
    assert derived(RECIPES[rule], FLOWERS)[0].loss == "softmax"


def test_tiny_pictures_are_neither_cut_nor_mirrored_nor_erased() -> None:
    augment = derived(RECIPES["scratch"], DIGITS)[0].augment
    assert (augment.crop, augment.hflip, augment.erase, augment.randaugment) == ("shift", 0, 0, 0)


@pytest.mark.parametrize("rule", RULES)
def test_a_baseline_keeps_its_own_stem_and_has_no_drop_path(rule: str) -> None:
    resolved, choices = derived(RECIPES[rule], FLOWERS, {"model": "torchvision:resnet18"})
    assert resolved.model == "torchvision:resnet18"
    assert resolved.drop_path == 0
    assert "patch_size" not in fields_of(choices)


def test_the_stem_pools_where_images_are_few_and_nothing_is_known_of_it() -> None:
    assert derived(RECIPES["scratch"], FLOWERS)[0].stem == "pool"
    assert derived(RECIPES["scratch"], CIFAR)[0].stem == "patch"
    assert derived(RECIPES["scratch"], DIGITS)[0].stem == "patch"  # of single pixels
    assert derive(RECIPES["classify"], FLOWERS, {})[0].stem == "patch"  # the start's
    assert derive(RECIPES["classify"], replace(FLOWERS, images=9000), {})[0].stem == "pool"
    for named in ("convnext_tiny", "torchvision:resnet18", "convnext_isotropic_small"):
        assert derived(RECIPES["scratch"], FLOWERS, {"model": named})[0].stem == "patch"
    assert derived(RECIPES["scratch"], FLOWERS, {"patch_size": 3})[0].stem == "patch"
    assert derived(RECIPES["scratch"], FLOWERS, {"weights": "mine.safetensors"})[0].stem == "patch"


def test_what_a_mirror_makes_into_others_is_not_mirrored_by_any_recipe() -> None:
    for rule in (*RULES, "classify"):
        recipe = derived(RECIPES[rule], replace(FLOWERS, mirror="b is d"))[0]
        assert recipe.augment.hflip == 0
        assert derived(RECIPES[rule], FLOWERS)[0].augment.hflip == 0.5


def test_probe_trains_the_head_alone() -> None:
    assert derived(RECIPES["probe"], FLOWERS)[0].freeze_backbone


@pytest.mark.parametrize("rule", RULES)
def test_what_was_changed_of_a_recipe_counts_as_the_users(rule: str) -> None:
    assert own_settings(RECIPES[rule]) == {}
    mine = {"epochs": 7.0, "optim.lr": 3e-3, "augment.mixup": 0.7}
    assert own_settings(override(RECIPES[rule], mine)) == mine
    assert own_settings(replace(override(RECIPES[rule], mine), derive="none")) == {}
