"""What detection and segmentation do alike between a request for pictures and the first step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ..catalog.releases import RELEASES
from ..data.splits import Pictures, Splits
from ..errors import UserError
from ..recipes import EVERYDAY, dense, length
from ..recipes.everyday import Choice
from ..recipes.recipe import Recipe, Settings, differing, override
from ..training.first_weights import start_from
from ..training.runtime import Runtime
from ..weights.backbone import Load, starting_point
from .model import DenseModel

LEAST_IMAGE = 32  # pixels of the short side
GPU_MODEL = "convnext_tiny"  # whose weights a released tag means where no network is named

M = TypeVar("M", bound=DenseModel)


def fitted(
    given: Recipe, splits: Splits[Pictures], facts: dense.DenseFacts, settings: Settings, run: Runtime
) -> tuple[Recipe, list[Choice]]:
    """The recipe for this data: batch and warm-up no longer than it allows. Raises UserError for what cannot be.

    `settings` gains what `given` and the weights fix.
    """
    _require_released(override(given, settings), given, settings)
    start = _from_weights(given, settings)
    recipe, choices = dense.derive(given, facts, settings)
    recipe = length.asked(recipe, settings)
    choices = start + choices
    if recipe.freeze_backbone and recipe.weights is None:
        raise UserError("freeze_backbone keeps a backbone as it is, and without --weights that is noise; name weights")
    images = len(splits.train)
    if recipe.batch_size > images:
        choices.append(Choice("batch_size", images, f"there are {images} training images"))
        recipe = replace(recipe, batch_size=images)
    recipe = _judged_often(recipe, given, images, settings, choices)
    if recipe.auto_batch:
        raise UserError("the largest batch of a detector or segmenter is not measured; set micro_batch instead")
    if recipe.batch_size < run.world:
        raise UserError(
            f"the batch of {recipe.batch_size} leaves some of the {run.world} processes without an image; "
            "pass a larger --batch-size or fewer processes"
        )
    if recipe.image_size < LEAST_IMAGE:
        raise UserError(f"--image-size {recipe.image_size} is the pictures' short side; pass at least {LEAST_IMAGE}")
    classes = len(splits.train.classes)
    if recipe.num_classes not in (None, classes):
        raise UserError(
            f"the recipe is for {recipe.num_classes} classes, {splits.name} has {classes}; "
            "pass --set num_classes=none to take the data's"
        )
    return replace(recipe, num_classes=classes, precision=run.precision), choices


def _judged_often(recipe: Recipe, given: Recipe, images: int, settings: Settings, choices: list[Choice]) -> Recipe:
    """A finished recipe of another length than its own is judged and saved as often as an everyday one."""
    if given.derive in dense.RECIPES or recipe.minutes is not None or not {"epochs", "steps"} & settings.keys():
        return recipe
    for name, (often, why) in dense.every_tenth(dense.epochs_of(recipe, images)).items():
        if name not in settings and often < getattr(recipe, name):
            choices.append(Choice(name, often, why))
            recipe = override(recipe, {name: often})
    return recipe


def memory_of(run: Runtime) -> int | None:
    """Bytes of this process's accelerator; None: it has none."""
    return torch.cuda.get_device_properties(run.device).total_memory if run.device.type == "cuda" else None


def _from_weights(given: Recipe, settings: Settings) -> list[Choice]:
    """The network that an everyday recipe starts from where the user named weights and no network."""
    if given.derive not in dense.RECIPES:
        return []
    settings |= {
        name: value for name, value in differing(given, dense.RECIPES[given.derive]).items() if name not in settings
    }
    weights = override(given, settings).weights
    if weights is None or "weights" not in settings or "model" in settings:
        return []
    try:
        found = starting_point(weights, GPU_MODEL)
    except UserError as error:
        raise UserError(f"{error}; --model says whose weights they are") from None
    own = [Choice(name, value, "the weights' own") for name, value in found.settings.items() if name != "image_size"]
    settings |= {choice.field: choice.value for choice in own}
    return own


def _require_released(recipe: Recipe, given: Recipe, settings: Settings) -> None:
    """UserError where a paper recipe's first weights were not released for the network that the user chose instead."""
    if "weights" in settings or recipe.weights is None or recipe.model == given.model or Path(recipe.weights).exists():
        return
    tags = {release.tag for release in RELEASES if release.variant == recipe.model}
    if recipe.weights in {release.tag for release in RELEASES} - tags:
        raise UserError(
            f"{given.name} starts from the released weights {recipe.weights}, and there are none of "
            f"{recipe.model}: add --weights none to start from scratch, or leave --recipe out for the "
            f"everyday recipe, {EVERYDAY[recipe.task]}"
        )


def placed(model: M, recipe: Recipe, run: Runtime, load: Load[M]) -> M:
    """The model on this process's device, the recipe's weights loaded: a whole model's or a classifier's."""
    start_from(recipe.weights, model, run, load)
    if recipe.freeze_backbone:
        model.backbone.requires_grad_(False)
    if recipe.grad_checkpointing:
        model.set_grad_checkpointing(True)
    if run.world > 1 and run.device.type == "cuda":  # SyncBN, as the released models were trained with
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    elif run.is_main and run.world > 1 and any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        print(f"BatchNorm averages over each of the {run.world} processes' own pictures: only GPUs share them")
    layout = torch.channels_last if recipe.channels_last else torch.preserve_format
    return model.to(run.device).to(memory_format=layout)
