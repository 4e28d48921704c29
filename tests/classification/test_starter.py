"""The weights that ship: what they are, when training starts from them, and how such a start is made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import MakePictures
from narrow import instance_of, not_none
from PIL import Image
from safetensors import safe_open

import convnext
from convnext import files
from convnext.catalog.variants import STARTER
from convnext.classification.predict import Prediction
from convnext.classification.starter import save_starter
from convnext.commands import main as cli
from convnext.errors import UserError
from convnext.formulas import source
from convnext.pretrained import from_pretrained
from convnext.recipes import RECIPES
from convnext.recipes.everyday import KNOWS_FROM, STARTER_SIDE, STARTS_UP_TO, TINY_SIDE, Facts, derive, suited
from convnext.recipes.recipe import Recipe
from convnext.weights.backbone import create_model, starting_point
from convnext.weights.info import info_of
from convnext.weights.metadata import groups_of

FACTS = Facts(images=500, classes=5, size=100, smallest_class=100, largest_class=100, no_accelerator=True)


def chosen(**changes: Any) -> tuple[Recipe, str]:
    """The recipe of a folder, and what is said of its start."""
    facts = Facts(**{**FACTS.__dict__, **{k: v for k, v in changes.items() if k in FACTS.__dict__}})
    fixed = {k: v for k, v in changes.items() if k not in FACTS.__dict__}
    recipe, choices = derive(RECIPES["classify"], facts, fixed)
    return recipe, next((choice.why for choice in choices if choice.field == "weights"), "")


def test_what_ships_is_a_network_without_a_head_and_small() -> None:
    path = files.asset_path("starter.safetensors")
    assert path.stat().st_size < 8e6
    with safe_open(path, "pt") as held:
        metadata = held.metadata()
        assert not [name for name in held.keys() if name.startswith("head")]  # noqa: SIM118
        assert all(held.get_tensor(name).dtype == torch.float16 for name in held.keys())  # noqa: SIM118
        assert all(held.get_tensor(name).isfinite().all() for name in held.keys())  # noqa: SIM118
    card = (Path(__file__).parents[2] / "docs" / "starter.md").read_text(encoding="utf-8")
    assert hashlib.sha256(path.read_bytes()).hexdigest() in card
    assert metadata["variant"] == "convnext_atto"
    assert "no photograph" in metadata["licence"]
    assert starting_point(STARTER).pictures == 0  # nobody's
    started = create_model("convnext_atto", num_classes=3, weights=STARTER, layer_scale_init_value=1.0)
    assert not_none(info_of(started).load_report).head == "reinitialised"
    with pytest.raises(UserError, match="no head"):
        from_pretrained(STARTER)


def test_a_folder_of_few_pictures_starts_from_it() -> None:
    recipe, why = chosen()
    assert (recipe.weights, recipe.model, recipe.patch_size, recipe.depths) == (STARTER, "convnext_atto", 4, None)
    assert "500 images are few" in why
    assert recipe.image_size == 96
    assert chosen(size=30)[0].image_size == STARTER_SIDE  # at what it has learned at


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"size": TINY_SIDE}, "tiny"),
        ({"images": STARTS_UP_TO + 1}, "enough"),
        ({"model": "convnext_tiny"}, "another network"),
        ({"model": "torchvision:resnet18"}, "another network"),
        ({"dims": (8, 16, 24, 32)}, "another network"),
        ({"weights": None}, ""),
    ],
)
def test_where_it_does_not_help_training_is_from_scratch(changes: dict[str, Any], why: str) -> None:
    recipe, said = chosen(**changes)
    assert recipe.weights is None
    assert why in said
    scratch, _ = derive(
        RECIPES["scratch"],
        Facts(**{**FACTS.__dict__, **{k: v for k, v in changes.items() if k in FACTS.__dict__}}),
        {k: v for k, v in changes.items() if k not in FACTS.__dict__},
    )
    assert recipe == replace(scratch, name="classify")


def test_weights_of_few_pictures_go_on_learning_at_full_rates() -> None:
    """Held back as weights of a million photographs are, they stayed at 20.8 % where free they reached 100."""
    given = RECIPES["finetune"]
    free, said = suited(given, 1_300)
    assert (free.derive, free.name) == ("classify", "finetune")
    assert "1,300 pictures" in str(said[0])
    for pictures in (KNOWS_FROM, None):
        assert suited(given, pictures) == (given, [])


def test_released_weights_are_looked_for_at_the_size_that_was_named(
    pictures: MakePictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they know much was asked of convnext_tiny's, which would have been downloaded, whatever --model said."""
    monkeypatch.setenv("CONVNEXT_HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "convnext_small_22k_224.pth").write_bytes(b"damaged")
    with pytest.raises(UserError, match="convnext_small_22k_224"):
        convnext.train(pictures(), settings={"weights": "in22k", "model": "convnext_small"}, out=tmp_path / "run")


def test_training_starts_from_it_and_from_a_run_of_few(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {"epochs": 1, "batch_size": 4, "image_size": 32, "seed": 3}
    first = convnext.train(pictures(size=40), out=tmp_path / "first", settings=short)
    said = capsys.readouterr().out
    assert "weights: starter (official naming)" in said
    assert "by the recipe classify" in said
    convnext.train(tmp_path / "data", out=tmp_path / "second", settings=short | {"weights": str(first.path)})
    assert "recipe = as classify: the weights have learned from" in capsys.readouterr().out
    convnext.train(tmp_path / "data", out=tmp_path / "third", settings=short | {"weights": "none"})
    said = capsys.readouterr().out
    assert "weights:" not in said
    assert json.loads((tmp_path / "third" / "recipe.json").read_text())["weights"] is None


def test_a_start_is_made_by_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of few pictures, the whole way: pretrain, its file, training from it."""
    monkeypatch.setattr(source.splits, "__defaults__", (48, 16, 0))
    words = ["pretrain", "--out", str(tmp_path / "run"), "--epochs", "1", "--batch-size", "16"]
    assert cli.main([*words, "--set", "image_size=32"]) == 0
    assert "583 answers" in capsys.readouterr().out
    path = tmp_path / "run" / "starter.safetensors"
    assert starting_point(path).pictures == 0
    assert cli.main(["pretrain", "--out", str(tmp_path / "run"), "--resume"]) == 0  # finished: as it was
    Image.new("RGB", (40, 40)).save(tmp_path / "picture.png")
    (answer,) = convnext.predict(tmp_path / "run" / "model.safetensors", [tmp_path / "picture.png"], top=583)
    top = instance_of(Prediction, answer).top
    assert sum(p for _, p in top) == pytest.approx(6, abs=1e-3)  # one answer to each question
    with pytest.raises(UserError, match="no run of the recipe pretrain"):
        save_starter(_another_run(tmp_path))


def test_groups_that_are_not_all_classes_are_refused() -> None:
    assert groups_of({}, 5, "here") == []
    assert groups_of({"groups": "[2, 3]"}, 5, "here") == [2, 3]
    for damaged in ("[2]", "[2, 3, 0]", '["2", 3]', "{}", "nothing"):
        with pytest.raises(UserError, match="groups"):
            groups_of({"groups": damaged}, 5, "here")


def _another_run(tmp_path: Path) -> Path:
    (tmp_path / "other").mkdir()
    model = create_model("convnext_atto", num_classes=4, depths=(1, 1, 1, 1), dims=(4, 8, 8, 8))
    convnext.save_weights(model, tmp_path / "other" / "model.safetensors")
    return tmp_path / "other"
