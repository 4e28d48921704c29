"""What detection and segmentation do alike between a request for pictures and the first step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import UserError
from ..models import create_model, load_weights
from ..models.dense import DenseModel
from ..models.layers import init_fan_in
from ..recipe import Recipe, override
from ..recipes import length
from ..recipes.folder import Choice
from ..training.runtime import Runtime

LEAST_IMAGE = 32  # pixels of the short side

M = TypeVar("M", bound=DenseModel)


def fitted(given: Recipe, splits: Any, settings: dict[str, Any], run: Runtime) -> tuple[Recipe, list[Choice]]:
    """The recipe for this data: its batch no larger than the data. Raises UserError for what cannot be."""
    recipe = length.asked(override(given, settings), settings)
    choices: list[Choice] = []
    images = len(splits.train)
    if recipe.batch_size > images:
        choices.append(Choice("batch_size", images, f"there are {images} training images"))
        recipe = replace(recipe, batch_size=images)
    if recipe.auto_batch:
        raise UserError("the largest batch of a detector or segmenter is not measured; set micro_batch instead")
    if recipe.batch_size < run.world:
        raise UserError(f"the batch of {recipe.batch_size} leaves some of the {run.world} processes without an image; "
                        "pass a larger --batch-size or fewer processes")  # fmt: skip
    if recipe.image_size < LEAST_IMAGE:
        raise UserError(f"--image-size {recipe.image_size} is the pictures' short side; pass at least {LEAST_IMAGE}")
    classes = len(splits.train.classes)
    if recipe.num_classes not in (None, classes):
        raise UserError(f"the recipe is for {recipe.num_classes} classes, {splits.name} has {classes}; "
                        "pass --set num_classes=none to take the data's")  # fmt: skip
    return replace(recipe, num_classes=classes, precision=run.precision), choices


def backbone_of(recipe: Recipe) -> Any:
    """The recipe's network as a backbone with output norms, seeded."""
    torch.manual_seed(recipe.seed)
    backbone = create_model(
        recipe.model, drop_path_rate=recipe.drop_path, layer_scale_init_value=recipe.layer_scale,
        depths=recipe.depths, dims=recipe.dims, patch_size=recipe.patch_size, out_norms=True,
    )  # fmt: skip
    if recipe.init == "fan_in":
        init_fan_in(backbone)
    return backbone


def placed(model: M, recipe: Recipe, run: Runtime) -> M:
    """The model on this process's device, the recipe's weights loaded: a whole model's or a classifier's."""
    if recipe.weights is not None:
        found = load_weights(model, recipe.weights)
        if run.main:
            print(found)
    if recipe.grad_checkpointing:
        model.set_grad_checkpointing(True)
    if run.world > 1 and run.device.type == "cuda":  # SyncBN, as the released models were trained with
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    elif run.main and run.world > 1 and any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        print(f"BatchNorm averages over each of the {run.world} processes' own pictures: only GPUs share them")
    layout = torch.channels_last if recipe.channels_last else torch.preserve_format
    return model.to(run.device, memory_format=layout)  # type: ignore[call-overload]
