"""The paper's recipes against the paper's tables, field by field."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convnext.catalog.releases import RELEASES, find_release, parse_name
from convnext.catalog.variants import VARIANTS
from convnext.recipes import RECIPES, get_recipe
from convnext.recipes.recipe import Recipe

TABLES = Path(__file__).parents[1] / "fixtures" / "paper_tables.json"

# Tables 5 and 6: lr, weight decay, batch, epochs, warm-up, layer decay, mixup, cutmix, head init, classes, size.
SETTINGS: dict[str, tuple[Any, ...]] = {
    "imagenet1k": (4e-3, 0.05, 4096, 300, 20, None, 0.8, 1.0, 1.0, None, 224),
    "imagenet22k": (4e-3, 0.05, 4096, 90, 5, None, 0.8, 1.0, 1.0, 21841, 224),
    "imagenet1k_ft384": (5e-5, 1e-8, 512, 30, 0, 0.7, 0.0, 0.0, 0.001, None, 384),
    "imagenet22k_ft1k": (5e-5, 1e-8, 512, 30, 0, 0.8, 0.0, 0.0, 0.001, None, 224),
    "imagenet22k_ft1k_384": (5e-5, 1e-8, 512, 30, 0, 0.8, 0.0, 0.0, 0.001, None, 384),
    "isotropic": (4e-3, 0.05, 4096, 300, 50, None, 0.8, 1.0, 1.0, None, 224),  # appendix A.1: Table 5 but for warm-up
    "roadmap": (4e-3, 0.05, 4096, 300, 20, None, 0.8, 1.0, 1.0, None, 224),  # appendix A.1: Table 5 but for the average
}
FROM_22K = {"tiny": 0.0, "small": 0.1, "base": 0.2, "large": 0.3, "xlarge": 0.4}
STOCHASTIC_DEPTH: dict[str, dict[str, float]] = {
    "imagenet1k": {"tiny": 0.1, "small": 0.4, "base": 0.5, "large": 0.5},
    "imagenet22k": {"tiny": 0.0, "small": 0.0, "base": 0.1, "large": 0.1, "xlarge": 0.2},
    "imagenet1k_ft384": {"base": 0.8, "large": 0.95},
    "imagenet22k_ft1k": FROM_22K,
    "imagenet22k_ft1k_384": FROM_22K,
    "isotropic": {"small": 0.1, "base": 0.2, "large": 0.5},
    "roadmap": {"tiny": 0.1, "base": 0.5},
}
ROWS = [(group, size) for group, rates in STOCHASTIC_DEPTH.items() for size in rates]
FAMILY_ROWS = [(group, size) for group, size in ROWS if group != "roadmap"]  # its networks are test_roadmap.py's


@pytest.mark.parametrize(("group", "size"), ROWS)
def test_recipe_equals_the_papers_table(group: str, size: str) -> None:
    r = get_recipe(f"{group}/{size}")
    found = (
        r.optim.lr,
        r.optim.weight_decay,
        r.batch_size,
        r.epochs,
        r.schedule.warmup_epochs,
        r.optim.layer_decay,
        r.augment.mixup,
        r.augment.cutmix,
        r.head_init_scale,
        r.num_classes,
        r.image_size,
    )
    assert found == SETTINGS[group]
    assert r.drop_path == STOCHASTIC_DEPTH[group][size]


@pytest.mark.parametrize(("group", "size"), ROWS)
def test_recipe_shares_what_the_tables_hold_constant(group: str, size: str) -> None:
    """AdamW (0.9, 0.999), RandAugment (9, 0.5), erasing 0.25, smoothing 0.1, no clipping; floor, eps: main.py."""
    r = get_recipe(f"{group}/{size}")
    assert (r.optim.betas, r.optim.eps, r.optim.clip_grad, r.schedule.min_lr) == ((0.9, 0.999), 1e-8, None, 1e-6)
    a = r.augment
    assert (a.crop, a.scale, a.ratio, a.hflip) == ("resized", (0.08, 1.0), (3 / 4, 4 / 3), 0.5)
    assert (a.randaugment, a.randaugment_std, a.randaugment_ops, a.erase, a.smoothing) == (9, 0.5, 2, 0.25, 0.1)
    assert (a.mix_prob, a.switch_prob) == (1.0, 0.5)
    assert (r.derive, r.loss, r.dropout, r.progressive, r.freeze_backbone) == ("none", "softmax", 0.0, 1.0, False)


def test_there_is_a_recipe_for_every_row_and_no_other() -> None:
    ours = {"roadmap/small"}  # the road on small images is no row of the paper's tables
    assert {name for name in RECIPES if "/" in name and not name.startswith(("coco/", "ade20k/"))} - ours == {
        f"{group}/{size}" for group, size in ROWS
    }


@pytest.mark.parametrize(("group", "size"), ROWS)
def test_an_average_is_kept_where_the_paper_kept_one(group: str, size: str) -> None:
    """Training from scratch on 1K, isotropic models, and of the fine-tuned ones xlarge alone."""
    kept = group in ("imagenet1k", "isotropic") or (group.startswith("imagenet22k_ft1k") and size == "xlarge")
    assert get_recipe(f"{group}/{size}").ema == (0.9999 if kept else None)


@pytest.mark.parametrize(("group", "size"), FAMILY_ROWS)
def test_model_and_layer_scale_are_the_variants_own(group: str, size: str) -> None:
    r = get_recipe(f"{group}/{size}")
    assert r.model == ("convnext_isotropic_" if group == "isotropic" else "convnext_") + size
    assert (r.layer_scale, r.depths, r.dims, r.patch_size) == (None, None, None, 4)
    expected = 0.0 if group == "isotropic" and size in ("small", "base") else 1e-6  # Table 5; official TRAINING.md
    assert VARIANTS[r.model].layer_scale == expected


@pytest.mark.parametrize(
    ("name", "tag", "which"),
    [
        ("imagenet1k_ft384/base", "in1k_noema", "raw"),
        ("imagenet1k_ft384/large", "in1k", "ema"),  # large alone starts from its average
        *((f"imagenet22k_ft1k/{size}", "in22k", "raw") for size in FROM_22K),
        *((f"imagenet22k_ft1k_384/{size}", "in22k", "raw") for size in FROM_22K),  # not from the 224 fine-tuned ones
    ],
)
def test_fine_tuning_starts_from_released_weights(name: str, tag: str, which: str) -> None:
    recipe = get_recipe(name)
    assert recipe.weights == tag
    release = find_release(recipe.model, tag)
    assert (release.which, release.eval_size) == (which, 224)


@pytest.mark.parametrize("group", ["imagenet1k", "imagenet22k", "isotropic"])
def test_pre_training_starts_from_nothing(group: str) -> None:
    assert all(get_recipe(f"{group}/{size}").weights is None for size in STOCHASTIC_DEPTH[group])


def test_22k_at_384_is_22k_at_224_but_for_the_size() -> None:
    for size in FROM_22K:
        small, large = get_recipe(f"imagenet22k_ft1k/{size}"), get_recipe(f"imagenet22k_ft1k_384/{size}")
        assert replace(small, name=large.name, image_size=384) == large


def test_the_docstring_states_the_published_accuracies() -> None:
    from convnext.recipes import imagenet

    tags = {
        "imagenet1k": "in1k",
        "imagenet1k_ft384": "in1k_384",
        "imagenet22k_ft1k": "in22k_ft_in1k",
        "imagenet22k_ft1k_384": "in22k_ft_in1k_384",
        "isotropic": "in1k",
    }
    assert imagenet.__doc__ is not None
    stated = {words[0]: words[1:] for line in imagenet.__doc__.splitlines() if (words := line.split())}
    for group, tag in tags.items():
        models = [get_recipe(f"{group}/{size}").model for size in STOCHASTIC_DEPTH[group]]
        published = [str(row.top1) for model in models for row in RELEASES if (row.variant, row.tag) == (model, tag)]
        assert len(published) == len(models)
        assert stated[group][: len(published)] == published


def test_every_model_name_is_known() -> None:
    assert all(parse_name(get_recipe(f"{group}/{size}").model).variant in VARIANTS for group, size in FAMILY_ROWS)


class TestExtractedTables:
    """The same against the tables as extracted from the paper, without this file's own typing."""

    SIZES = {"T": "tiny", "S": "small", "B": "base", "L": "large", "XL": "xlarge"}  # noqa: RUF012

    def compare(self, table: dict[str, Any], group: str) -> None:
        assert set(table["stochastic_depth"]) == {s for s, size in self.SIZES.items() if f"{group}/{size}" in RECIPES}
        for short, rate in table["stochastic_depth"].items():
            recipe: Recipe = get_recipe(f"{group}/{self.SIZES[short]}")
            ema = table["ema"][short] if isinstance(table["ema"], dict) else table["ema"]
            assert (recipe.drop_path, recipe.ema) == (rate, ema)
            o, a = recipe.optim, recipe.augment
            assert (o.lr, o.weight_decay, o.layer_decay, o.clip_grad) == (
                table["base_lr"],
                table["weight_decay"],
                table["layer_decay"],
                table["gradient_clip"],
            )
            assert (list(o.betas), o.eps) == (table["opt_betas"], table["opt_eps"])
            assert (recipe.batch_size, recipe.epochs) == (table["batch_size"], table["epochs"])
            assert (recipe.schedule.warmup_epochs, recipe.schedule.min_lr) == (table["warmup_epochs"], table["min_lr"])
            assert (a.mixup or None, a.cutmix or None) == (table["mixup"], table["cutmix"])
            assert [a.randaugment, a.randaugment_std] == table["randaugment"]
            assert (a.erase, a.smoothing) == (table["random_erasing"], table["label_smoothing"])
            assert recipe.head_init_scale == (table["head_init_scale"] or 1.0)

    def test_table_5(self) -> None:
        tables = json.loads(TABLES.read_text(encoding="utf-8"))["table5_pretrain"]
        self.compare(tables["in1k"], "imagenet1k")
        self.compare(tables["in22k"], "imagenet22k")
        self.compare({**tables["in1k"], **tables["isotropic_1k"]}, "isotropic")

    def test_table_6(self) -> None:
        tables = json.loads(TABLES.read_text(encoding="utf-8"))["table6_finetune"]
        self.compare(tables["from_in1k"], "imagenet1k_ft384")
        self.compare(tables["from_in22k"], "imagenet22k_ft1k")
        self.compare(tables["from_in22k"], "imagenet22k_ft1k_384")
