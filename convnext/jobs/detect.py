"""Detection, from a request for annotated pictures to the end of the run: what `train` does differently for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..average_precision import library
from ..data.coco import DetectionSplits
from ..data.detection import DetectionPreprocess
from ..detection_report import DetectionEvidence, write_detection_report
from ..errors import UserError
from ..models import create_model, from_pretrained, load_weights
from ..models.layers import init_fan_in
from ..models.rcnn import Detector, build_detector
from ..recipe import Recipe, override
from ..recipes.folder import Choice
from ..run_folder import first_row
from ..tasks.detect import Detect
from ..training.runtime import Runtime

WARMUP_SHARE = 0.1  # of the run, where the recipe's warm-up would be longer
LEAST_IMAGE = 32  # pixels of the short side


def derive(given: Recipe, splits: DetectionSplits, settings: dict[str, Any],
           run: Runtime) -> tuple[Recipe, list[Choice]]:  # fmt: skip
    """The recipe for this data: batch and warm-up no longer than it allows. Raises UserError for what cannot be."""
    library()  # said now, not after the first epoch
    recipe = override(given, settings)
    if "steps" not in settings and {"epochs", "minutes", "batch_size"} & settings.keys():
        recipe = replace(recipe, steps=None)
    choices: list[Choice] = []
    images = len(splits.train)
    if recipe.batch_size > images:
        choices.append(Choice("batch_size", images, f"there are {images} training images"))
        recipe = replace(recipe, batch_size=images)
    if recipe.auto_batch:
        raise UserError("a detector's images differ in size, so the largest batch cannot be measured; set micro_batch")
    if recipe.batch_size < run.world:
        raise UserError(f"the batch of {recipe.batch_size} leaves some of the {run.world} processes without an image; "
                        "pass a larger --batch-size or fewer processes")  # fmt: skip
    if recipe.image_size < LEAST_IMAGE:
        raise UserError(f"--image-size {recipe.image_size} is the pictures' short side; pass at least {LEAST_IMAGE}")
    if recipe.schedule.kind == "steps" and "schedule.warmup_steps" not in settings and recipe.minutes is None:
        steps = recipe.steps or max(1, round(recipe.epochs * (images // recipe.batch_size)))
        shortest = max(1, round(WARMUP_SHARE * steps))
        if shortest < recipe.schedule.warmup_steps:
            choices.append(Choice("schedule.warmup_steps", shortest, f"a tenth of the run's {steps} steps"))
            recipe = replace(recipe, schedule=replace(recipe.schedule, warmup_steps=shortest))
    classes = len(splits.train.classes)
    if recipe.num_classes not in (None, classes):
        raise UserError(f"the recipe is for {recipe.num_classes} classes, {splits.name} has {classes}; "
                        "pass --set num_classes=none to take the data's")  # fmt: skip
    return replace(recipe, num_classes=classes, precision=run.precision), choices


def make_task(splits: DetectionSplits, recipe: Recipe, run: Runtime) -> Detect:
    return Detect(splits.train, splits.val, recipe, DetectionPreprocess.for_size(recipe.image_size), run)


def make_model(recipe: Recipe, task: Detect, run: Runtime) -> Detector:
    """The detector on this process's device, its weights loaded: a whole detector's or a classifier's."""
    torch.manual_seed(recipe.seed)
    backbone = create_model(
        recipe.model, drop_path_rate=recipe.drop_path, layer_scale_init_value=recipe.layer_scale,
        depths=recipe.depths, dims=recipe.dims, patch_size=recipe.patch_size, out_norms=True,
    )  # fmt: skip
    detector = build_detector(recipe.detection.detector, backbone, task.num_classes)  # type: ignore[arg-type]
    detector.roi_head.sample = replace(detector.roi_head.sample, count=recipe.detection.regions)
    if recipe.init == "fan_in":
        init_fan_in(backbone)
    if recipe.weights is not None:
        found = load_weights(detector, recipe.weights)
        if run.main:
            print(found)
    if recipe.grad_checkpointing:
        detector.set_grad_checkpointing(True)
    if run.world > 1 and run.device.type == "cuda":  # SyncBN, as the released cascades were trained with
        detector = nn.SyncBatchNorm.convert_sync_batchnorm(detector)
    layout = torch.channels_last if recipe.channels_last else torch.preserve_format
    return detector.to(run.device, memory_format=layout)  # type: ignore[call-overload]


def finish(path: Path, task: Detect) -> None:
    """Judges the published weights once more and writes the report."""
    model = from_pretrained(path / "model.safetensors").to(task.run.device)
    found: dict[str, list[dict[str, Any]]] = {}
    task.evaluate(model, lambda record: found.update({record["id"]: record["rows"]}))
    write_detection_report(path, DetectionEvidence(task.val, found, first_row(path)["command"]))
