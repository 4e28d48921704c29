"""The detection and segmentation recipes are the published ones (tests/fixtures/paper_tables.json `coco_settings`)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from narrow import backbone_of

from convnext.detection.model import rcnn, rpn
from convnext.detection.model.roi_head import POSITIVE_SHARE, SAMPLES, Stage
from convnext.recipes import get_recipe
from convnext.training.schedule import FALL, STEPS_START, Poly, Steps, schedule_of
from convnext.weights.backbone import create_model

TABLES = Path(__file__).parents[1] / "fixtures" / "paper_tables.json"
PUBLISHED = {  # the extracted name of a model -> our recipe
    "Mask R-CNN T 1K": "coco/mask_rcnn/tiny", "Cascade T 1K": "coco/cascade_mask_rcnn/tiny",
    "Cascade S 1K": "coco/cascade_mask_rcnn/small", "Cascade B 1K": "coco/cascade_mask_rcnn/base",
    "Cascade B 22K": "coco/cascade_mask_rcnn/base_22k", "Cascade L 22K": "coco/cascade_mask_rcnn/large_22k",
    "Cascade XL 22K": "coco/cascade_mask_rcnn/xlarge_22k",
}  # fmt: skip

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


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return dict(json.loads(TABLES.read_text(encoding="utf-8"))["coco_settings"])


def test_every_published_detector_has_a_recipe(settings: dict[str, Any]) -> None:
    assert settings["per_model"].keys() == PUBLISHED.keys()


@pytest.mark.parametrize("model", PUBLISHED)
def test_a_detectors_settings_are_the_published_ones(settings: dict[str, Any], model: str) -> None:
    recipe, theirs = get_recipe(PUBLISHED[model]), settings["per_model"][model]
    ours = {
        "optimizer": type(recipe.optim).__name__,
        "lr": recipe.optim.lr,
        "betas": list(recipe.optim.betas),
        "weight_decay": recipe.optim.weight_decay,
        "layer_decay_rate": recipe.optim.layer_decay,
        "decay_type": f"{recipe.optim.layer_rule}_wise",
        "drop_path": recipe.drop_path,
        "apex_fp16": recipe.precision == "auto",
    }
    assert ours == {name: value for name, value in theirs.items() if name != "num_layers"}
    with torch.device("meta"):
        backbone = backbone_of(create_model(recipe.model, out_norms=True))
    assert backbone.num_layer_ids - 2 == theirs["num_layers"]  # theirs counts neither the stem nor what is after all


@pytest.mark.parametrize("model", PUBLISHED)
def test_what_all_detectors_have_in_common(settings: dict[str, Any], model: str) -> None:
    recipe, common = get_recipe(PUBLISHED[model]), settings["common"]
    assert (recipe.epochs, recipe.batch_size) == (common["epochs"], common["total_batch"])
    assert recipe.micro_batch == common["samples_per_gpu"]
    assert recipe.optim.clip_grad == common["grad_clip"]
    assert recipe.layer_scale == common["layer_scale_init"]
    assert f"linear {recipe.schedule.warmup_steps} iters" in common["warmup"]
    per_epoch = 7330  # COCO's, but for its pictures without objects
    schedule = schedule_of(replace(recipe, steps=round(recipe.epochs * per_epoch)), per_epoch)
    assert isinstance(schedule, Steps)
    assert [milestone / per_epoch for milestone in schedule.milestones] == common["lr_steps"]
    assert (FALL, f"ratio {STEPS_START}") == (common["lr_gamma"], common["warmup"].split(", ")[1])
    assert f"short {recipe.image_size} /" in common["test"]
    assert recipe.weights == ("in22k" if model.endswith("22K") else "in1k_noema")
    rules = recipe.detection
    assert rules.detector == ("mask_rcnn" if model.startswith("Mask") else "cascade_mask_rcnn")
    assert rules.short_sides == tuple(range(480, 801, 32))
    assert (rules.hflip, rules.crop, recipe.ema) == (0.5, True, None)


def test_the_heads_are_the_published_ones(settings: dict[str, Any]) -> None:
    heads, region, test = settings["cascade_head"], settings["rpn"], settings["test"]
    assert [list(stage.stds) for stage in rcnn.CASCADE] == heads["stds"]
    assert [stage.positive for stage in rcnn.CASCADE] == heads["pos_iou"]
    assert [stage.weight for stage in rcnn.CASCADE] == heads["stage_loss_weights"]
    assert {stage.allow_low_quality_matches for stage in rcnn.CASCADE} == {heads["match_low_quality"]}
    single, rules = Stage(), settings["mask_rcnn_head"]
    assert (list(single.stds), single.positive, single.allow_low_quality_matches) == (
        rules["stds"],
        rules["pos_iou"],
        rules["match_low_quality"],
    )
    assert rules["sampler"] == heads["sampler"] == {"num": SAMPLES, "pos_fraction": POSITIVE_SHARE, "add_gt": True}
    for kind in ("mask_rcnn", "cascade_mask_rcnn"):
        with torch.device("meta"):
            detector = rcnn.build_detector(kind, backbone_of(create_model("convnext_atto", out_norms=True)))
        shown, proposals = detector.roi_head.test, detector.rpn_head.settings
        assert (shown.score, shown.nms, shown.most, shown.mask) == (
            test["score_thr"],
            test["nms"],
            test["max_per_img"],
            test["mask_thr"],
        )
        assert (
            proposals.train_proposals == region["train_max_mask_rcnn" if kind == "mask_rcnn" else "train_max_cascade"]
        )
        assert (proposals.train_candidates, proposals.test_candidates, proposals.test_proposals, proposals.nms) == (
            region["train_nms_pre"],
            region["test_nms_pre"],
            region["test_max"],
            region["nms"],
        )
        assert proposals.inside_only == (kind == "cascade_mask_rcnn")
        assert (region["anchor_scales"][0], tuple(region["ratios"])) == (rpn.SCALE, rpn.RATIOS)
        assert list(detector.rpn_head.strides) == region["strides"]


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
