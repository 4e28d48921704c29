"""What `train` does alike for every answer of a whole picture: where it starts, what fits, sources, network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ..catalog.releases import parse_name
from ..catalog.variants import STARTER
from ..data.source import FileReader, Source, cached
from ..data.splits import Splits
from ..errors import UserError
from ..recipes import everyday, length
from ..recipes.recipe import Recipe, Settings, override
from ..system import machine
from ..system.progress import Progress
from ..training import B, log, optim
from ..training.first_weights import start_from
from ..training.run_folder import result
from ..training.runtime import Runtime
from ..training.slice import RunTask
from ..weights.backbone import Load, M, network_of, starting_point

BASELINE_STRIDE = 32  # pixels to a position of a baseline's last map
CACHE_SHARE = 0.25  # of free memory: decoded images are kept when they take no more than this


Begun = tuple[Recipe, list[everyday.Choice]]  # a recipe and what was chosen so far


def from_weights(given: Recipe, settings: Settings) -> Begun:
    """The recipe for the weights that are to be started from; `settings` gains what these fix.

    That is nothing where there are none, or those that ship, whose network has its own rule.
    """
    weights = override(given, settings).weights  # "none" is none
    learns_all = given.derive in everyday.LEARNS_ALL
    if not weights or given.derive == "none" or (learns_all and weights == STARTER):
        return given, []
    named = str(settings["model"]) if "model" in settings else None
    size = parse_name(named).variant if named and ":" not in named else None
    found = starting_point(weights, size or (None if given.model == "auto" else given.model))
    given, freed = everyday.suited(given, found.pictures)
    learns_all = learns_all and given.derive in everyday.LEARNS_ALL
    start = [
        everyday.Choice(name, value, "the weights' own")
        for name, value in found.settings.items()
        if name not in settings and (not learns_all if name == "image_size" else named is None)
    ]
    settings |= {choice.field: choice.value for choice in start}
    return given, freed + start


def resolve(
    begun: Begun, facts: everyday.Facts, settings: Settings, run: Runtime, *, data: str, outputs: str = "classes"
) -> Begun:
    """The recipe for the pictures of `facts`; `outputs` is what those of a network are called.

    Raises UserError where a batch does not fit the training images, or the processes, or the recipe is for another
    number of outputs.
    """
    given, start = begun
    resolved, choices = everyday.derive(given, facts, settings)
    resolved = length.asked(resolved, settings)
    in_fp32 = _exact(resolved, settings, run)
    precision = "fp32" if in_fp32 else run.precision
    resolved = replace(resolved, precision=precision, num_classes=resolved.num_classes or facts.classes)
    if resolved.batch_size > facts.images:
        raise UserError(
            f"the batch of {resolved.batch_size} is larger than the {facts.images} training images; "
            "pass a smaller --batch-size"
        )
    if resolved.batch_size < run.world:
        raise UserError(
            f"the batch of {resolved.batch_size} leaves some of the {run.world} processes without an image; "
            "pass a larger --batch-size or fewer processes"
        )
    if resolved.num_classes != facts.classes:
        raise UserError(
            f"the recipe is for {resolved.num_classes} {outputs}, {data} has {facts.classes}; "
            "pass --set num_classes=none to take the data's"
        )
    return resolved, start + choices + in_fp32


def _exact(recipe: Recipe, settings: Settings, run: Runtime) -> list[everyday.Choice]:
    """fp32 where bf16 cannot be trusted: torch 2.14's gradient of a 3 x 3 convolution of single positions, in bf16 on a
    CPU, differs from run to run and is at times not a number; a ResNet has some below 32 pixels.
    """
    small = ":" in recipe.model and recipe.image_size < BASELINE_STRIDE and run.device.type == "cpu"
    if not small or run.precision != "bf16" or "precision" in settings:
        return []
    return [everyday.Choice("precision", "fp32", "bf16 gradients of single positions are not reliable on a CPU")]


def sources(splits: Splits[Source], recipe: Recipe, run: Runtime) -> tuple[Source, Source]:
    """The training and the validation pictures under a recipe; decoded images stay in memory where they fit."""
    limit = int(machine.free_memory() * CACHE_SHARE / machine.processes_here())
    train, val = (source.within(recipe.levels) for source in (splits.train, splits.val))
    with Progress("decoding the training pictures beforehand", quiet=not run.is_main) as progress:
        train_source = cached(train, limit, progress)
    with Progress("decoding the held-out pictures beforehand", quiet=not run.is_main) as progress:
        val_source = cached(val, limit, progress)
    if run.is_main and train_source is train and isinstance(train.read, FileReader):
        print("the pictures are too many to be decoded beforehand; convnext check finds damaged ones")
    return train_source, val_source


def note_others(path: Path, steps: int, others: Callable[[], Iterable[tuple[str, float]]]) -> None:
    """Adds to a run's log, once, what simpler methods reach on the same data."""
    if not result(path).comparisons:
        with log.Log(path / "log.jsonl", 0) as rows:
            for method, value in others():
                rows.row("comparison", steps, method=method, value=value)


def make_network(recipe: Recipe, outputs: int) -> nn.Module:
    """The seeded network of a recipe with so many outputs. UserError where its pictures are too small for it."""
    model = network_of(recipe, num_classes=outputs, drop_rate=recipe.dropout, head_init_scale=recipe.head_init_scale)
    stride = max(getattr(model, "strides", (1,)))
    if recipe.image_size < stride:
        raise UserError(
            f"pictures of {recipe.image_size} pixels vanish in a network of stride {stride}; pass a larger "
            f"--image-size or a smaller stem (--set patch_size=1)"
        )
    return model


def ready(model: M, recipe: Recipe, run: Runtime, load: Load[M]) -> M:
    """The model with its first weights, frozen as the recipe says, on the device."""
    start_from(recipe.weights, model, run, load)
    if recipe.grad_checkpointing:
        _capability(model, "set_grad_checkpointing", recipe.model)(True)
    if recipe.freeze_backbone:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = optim.is_head(name)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UserError(f"{recipe.model} has no head that could be trained alone; use another recipe than probe")
    layout = torch.channels_last if recipe.channels_last else torch.preserve_format
    return model.to(run.device).to(memory_format=layout)


def attempt(recipe: Recipe, task: RunTask[B, object], model: nn.Module, size: int) -> torch.Tensor:
    """Something to differentiate from `size` empty images, to see whether they fit into memory."""
    side = recipe.image_size
    outputs: torch.Tensor = model(torch.zeros(size, 3, side, side, device=task.run.device))
    return outputs.float().sum()


def _capability(model: nn.Module, method: str, name: str) -> Callable[[bool], None]:
    if not hasattr(getattr(model, "body", model), method):
        raise UserError(f"{name} cannot recompute its activations; leave out --set grad_checkpointing=true")
    return getattr(model, method)
