"""Recipes as values: overrides by dotted name, JSON and back, and errors that name the remedy."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from convnext.errors import UserError
from convnext.recipes import RECIPES, _joined, get_recipe, list_recipes
from convnext.recipes.recipe import (
    Augment,
    Recipe,
    check_field,
    field_names,
    from_dict,
    from_json,
    override,
    parse_settings,
    to_dict,
    to_json,
)


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_survives_json(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.name == name
    assert from_json(to_json(recipe)) == recipe


def test_json_keeps_fields_that_are_not_defaults() -> None:
    recipe = Recipe(depths=(1, 2, 3, 4), dims=(8, 8, 8, 8), augment=Augment(scale=(0.3, 0.7)), steps=17, minutes=2.5)
    assert from_json(to_json(recipe)) == recipe


def test_a_recipe_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        Recipe().epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "given", "expected"),
    [
        ("epochs", "2.5", 2.5),
        ("batch_size", "64", 64),
        ("batch_size", 64.0, 64),
        ("optim.lr", "1e-3", 1e-3),
        ("optim.betas", "0.8, 0.9", (0.8, 0.9)),
        ("optim.layer_decay", "none", None),
        ("optim.layer_decay", "0.7", 0.7),
        ("augment.crop", "shift", "shift"),
        ("augment.scale", [0.2, 1], (0.2, 1.0)),
        ("depths", "(2,2,6,2)", (2, 2, 6, 2)),
        ("depths", "null", None),
        ("ema", "off", None),
        ("weights", "None", None),
        ("weights", "in22k", "in22k"),
        ("compile", "yes", True),
        ("compile", "0", False),
        ("compile", True, True),
        ("name", "none", "none"),  # not optional: a word like any other
    ],
)
def test_overrides_are_read_by_type(field: str, given: object, expected: object) -> None:
    value: object = override(Recipe(), {field: given})
    for part in field.split("."):
        value = getattr(value, part)
    assert value == expected
    assert type(value) is type(expected)


def test_an_override_changes_nothing_else() -> None:
    changed = override(Recipe(), {"augment.mixup": 0.2, "epochs": 5})
    assert changed == replace(Recipe(), epochs=5, augment=replace(Augment(), mixup=0.2))


@pytest.mark.parametrize(
    ("field", "nearest"),
    [
        ("lr", "optim.lr"),
        ("betas", "optim.betas"),
        ("optim.lrr", "optim.lr"),
        ("otpim.lr", "optim.lr"),
        ("optim.mixup", "augment.mixup"),
        ("epoch", "epochs"),
        ("batchsize", "batch_size"),
        ("optim.lr.x", "optim.lr"),
        ("optim", "optim.lr"),
    ],
)
def test_an_unknown_field_suggests_the_nearest(field: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"did you mean '{nearest}'"):
        override(Recipe(), {field: "1"})
    with pytest.raises(UserError, match=f"did you mean '{nearest}'"):
        check_field(field)


def test_a_field_like_nothing_lists_them_all() -> None:
    with pytest.raises(UserError, match=r"fields: name, .*optim\.lr"):
        override(Recipe(), {"zzzzzzzz": 1})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", "many"),
        ("batch_size", "2.5"),
        ("batch_size", 2.5),
        ("batch_size", True),
        ("epochs", "none"),
        ("epochs", "nan"),
        ("minutes", "inf"),
        ("optim.lr", "fast"),
        ("optim.lr", [1]),
        ("optim.betas", "0.9"),
        ("optim.betas", 0.9),
        ("depths", 3),
        ("depths", "3,x"),
        ("loss", "hinge"),
        ("loss", ["bce"]),
        ("augment.crop", "resize"),
        ("compile", "perhaps"),
        ("weights", {"in22k": 1}),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(UserError, match=field.replace(".", r"\.")):
        override(Recipe(), {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 0),
        ("micro_batch", 0),
        ("epochs", 0),
        ("minutes", -1),
        ("image_size", 0),
        ("eval_every", 0),
        ("drop_path", 1),
        ("dropout", -0.1),
        ("ema", 1),
        ("ema", 0),
        ("progressive", 0),
        ("steps", 0),
        ("num_classes", 0),
        ("patience", 0),
        ("seed", -1),
        ("workers", -1),
        ("optim.lr", -1),
        ("optim.betas", "0.9,1"),
        ("optim.layer_decay", 5),
        ("optim.clip_grad", 0),
        ("schedule.warmup_epochs", -1),
        ("augment.erase", 1.5),
        ("augment.smoothing", 2),
        ("augment.mixup", -1),
        ("augment.randaugment", 11),
        ("augment.scale", "0.5,0.2"),
        ("augment.scale", "0.5,2"),
        ("augment.ratio", "0,1"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(UserError, match=field.split(".")[-1]):
        override(Recipe(), {field: value})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a recipe"),
        ("[1]", "expected a JSON object"),
        ('{"optim": 0.1}', "optim"),
        ('{"augment": null}', "augment"),
        ('{"optim": {"lrr": 1}}', "did you mean 'optim.lr'"),
        ('{"epochs": null}', "epochs"),
        ('{"depths": 3}', "depths"),
    ],
)
def test_a_damaged_recipe_file_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        from_json(text)


def test_a_partial_recipe_takes_defaults_for_the_rest() -> None:
    assert from_dict({"epochs": 3, "optim": {"lr": 0.1}}) == replace(
        Recipe(), epochs=3, optim=replace(Recipe().optim, lr=0.1)
    )


def test_field_names_are_those_of_the_saved_recipe() -> None:
    def leaves(values: dict[str, object], prefix: str = "") -> list[str]:
        return [
            leaf
            for key, value in values.items()
            for leaf in (leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key])
        ]

    assert field_names() == leaves(to_dict(Recipe()))


def test_settings_are_split_at_the_first_equals_sign() -> None:
    assert parse_settings(["optim.lr = 1e-3", "weights=a=b"]) == {"optim.lr": "1e-3", "weights": "a=b"}
    for bad in ("optim.lr", "=3"):
        with pytest.raises(UserError, match="field=value"):
            parse_settings([bad])


def test_get_recipe_takes_overrides_in_both_spellings() -> None:
    first = get_recipe("imagenet1k/tiny", optim__lr="1e-3", epochs=10)
    second = get_recipe("imagenet1k/tiny", **{"optim.lr": 1e-3}, epochs=10)
    assert first == second
    assert (first.optim.lr, first.epochs) == (1e-3, 10)
    assert RECIPES["imagenet1k/tiny"].epochs == 300


def test_get_recipe_reads_a_file_and_a_run_folder(tmp_path: Path) -> None:
    recipe = get_recipe("scratch", epochs=3, optim__lr=0.1)
    file = tmp_path / "recipe.json"
    file.write_text(to_json(recipe), encoding="utf-8")
    assert get_recipe(file) == get_recipe(str(tmp_path)) == recipe
    assert get_recipe(file, seed=4) == replace(recipe, seed=4)


def test_get_recipe_suggests_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'imagenet1k/tiny'"):
        get_recipe("imagnet1k/tiny")
    with pytest.raises(UserError, match=r"known: classify, scratch, .*imagenet1k/…"):
        get_recipe("zzzzzz")


def test_get_recipe_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no recipe at"):
        get_recipe(tmp_path / "missing.json")
    with pytest.raises(UserError, match="no recipe at"):
        get_recipe(tmp_path)
    damaged = tmp_path / "damaged.json"
    damaged.write_text(json.dumps({"epoch": 3}), encoding="utf-8")
    with pytest.raises(UserError, match=r"damaged\.json: .*did you mean 'epochs'"):
        get_recipe(damaged)
    damaged.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"cannot read a recipe from .*damaged\.json"):
        get_recipe(damaged)


def test_a_name_used_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="used twice: a"):
        _joined(({"a": Recipe()}, {"b": Recipe(), "a": Recipe()}))


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"epochs": 0}, "epochs 0 must be positive"), ({"minutes": 0}, "minutes 0 must be positive"),
     ({"batch_size": 0}, "batch_size 0 must be at least 1"), ({"micro_batch": 0}, "micro_batch 0 must be at least 1"),
     ({"epochs": "nan"}, "epochs='nan' must be finite"), ({"save_every": -1}, "save_every -1 must be positive")],
)  # fmt: skip
def test_what_is_wrong_is_named_alone(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as error:
        override(Recipe(), settings)
    assert str(error.value) == says
