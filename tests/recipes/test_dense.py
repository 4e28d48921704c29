"""The detection and segmentation recipes are the published ones (tables.json `coco_settings`, `ade20k_settings`)."""

from __future__ import annotations

import pytest

from convnext.recipes import get_recipe
from convnext.training.schedule import Poly, schedule_of

# size and pre-training -> learning rate, layer decay, drop path
CASCADE = {
    "tiny": (2e-4, 0.7, 0.4), "small": (2e-4, 0.7, 0.6), "base": (2e-4, 0.8, 0.7),
    "base_22k": (1e-4, 0.8, 0.6), "large_22k": (1e-4, 0.7, 0.7), "xlarge_22k": (1e-4, 0.7, 0.8),
}  # fmt: skip
# size and pre-training -> learning rate, drop path, crop, mixed precision
UPERNET = {
    "tiny": (1e-4, 0.4, 512, True), "small": (1e-4, 0.3, 512, True), "base": (1e-4, 0.4, 512, True),
    "base_22k": (1e-4, 0.4, 640, True), "large_22k": (1e-4, 0.4, 640, False), "xlarge_22k": (8e-5, 0.4, 640, False),
}  # fmt: skip


@pytest.mark.parametrize("name", CASCADE)
def test_cascades(name: str) -> None:
    recipe = get_recipe(f"coco/cascade_mask_rcnn/{name}")
    assert (recipe.optim.lr, recipe.optim.layer_decay, recipe.drop_path) == CASCADE[name]
    assert (recipe.epochs, recipe.batch_size, recipe.optim.layer_rule) == (36, 16, "layer")
    assert recipe.weights == ("in22k" if "22k" in name else "in1k_noema")


@pytest.mark.parametrize("name", UPERNET)
def test_upernet(name: str) -> None:
    recipe = get_recipe(f"ade20k/upernet/{name}")
    mixed = recipe.precision == "auto"
    assert (recipe.optim.lr, recipe.drop_path, recipe.image_size, mixed) == UPERNET[name]
    assert (recipe.steps, recipe.batch_size, recipe.optim.weight_decay) == (160_000, 16, 0.05)
    assert (recipe.optim.layer_decay, recipe.optim.layer_rule) == (0.9, "stage")
    assert recipe.weights == ("in22k" if "22k" in name else "in1k_noema")
    rules = recipe.segmentation
    assert (rules.channels, rules.auxiliary, rules.scale, rules.most_of_one_class) == (512, 0.4, (0.5, 2.0), 0.75)


def test_the_segmenters_rate_falls_in_a_line_after_its_warm_up() -> None:
    schedule = schedule_of(get_recipe("ade20k/upernet/tiny"), 1263)
    assert schedule == Poly(1e-4, 160_000, 1500)
    assert schedule.at(0) == pytest.approx(1e-10)
    assert schedule.at(750) == pytest.approx(1e-4 * (1 - 750 / 160_000) * (1 - 0.5 * (1 - 1e-6)))
    assert schedule.at(1500) == pytest.approx(1e-4 * (1 - 1500 / 160_000))
    assert schedule.at(80_000) == pytest.approx(5e-5)
    assert schedule.at(159_999) == pytest.approx(1e-4 / 160_000)
