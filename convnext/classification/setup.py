"""Classification, from a request for pictures to the page at the end: what `train` does differently for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..catalog.releases import parse_name
from ..catalog.variants import STARTER
from ..data.preprocess import Preprocess
from ..data.source import FileReader, Source, cached
from ..data.splits import Splits
from ..errors import UserError
from ..recipes import everyday, length
from ..recipes.recipe import Recipe, override
from ..system import machine
from ..system.progress import Progress
from ..training import log, optim
from ..training.first_weights import start_from
from ..training.run_folder import result
from ..training.runtime import Runtime
from ..weights.backbone import network_of, starting_point
from .mirrors import what_a_mirror_changes
from .pixel_baselines import pixel_baselines
from .report import gather, write_report
from .task import Classify
from .weights import load

BASELINE_STRIDE = 32  # pixels to a position of a baseline's last map
CACHE_SHARE = 0.25  # of free memory: decoded images are kept when they take no more than this


def derive(
    given: Recipe, splits: Splits[Source], settings: dict[str, Any], run: Runtime
) -> tuple[Recipe, list[everyday.Choice]]:
    """The recipe for this data; `settings` gains what `given` and the weights fix. UserError for what cannot be."""
    settings |= {name: value for name, value in everyday.own_settings(given).items() if name not in settings}
    start: list[everyday.Choice] = []
    weights = override(given, settings).weights  # "none" is none
    learns_all = given.derive in everyday.LEARNS_ALL
    if weights and given.derive != "none" and not (learns_all and weights == STARTER):  # whose network has its rule
        named = settings.get("model")
        size = parse_name(named).variant if named and ":" not in named else None
        found = starting_point(weights, size or (None if given.model == "auto" else given.model))
        for name, value in found.settings.items():
            if name not in settings and (not learns_all if name == "image_size" else named is None):
                start.append(everyday.Choice(name, value, "the weights' own"))
        settings |= {choice.field: choice.value for choice in start}
        if given.derive == "finetune":
            given, freed = everyday.after_few(given, found.pictures)
            start = freed + start
    counts = splits.train.class_counts()
    facts = everyday.Facts(
        images=len(splits.train),
        classes=len(splits.train.classes),
        size=splits.train.typical_size,
        smallest_class=min(counts),
        largest_class=max(counts),
        multi_label=splits.train.multi_label,
        no_accelerator=run.device.type == "cpu",
        mirror=_mirror(given, settings, splits.train),
    )
    resolved, choices = everyday.derive(given, facts, settings)
    resolved = length.asked(resolved, settings)
    exact = _exact(resolved, settings, run)
    choices = start + choices + exact
    precision = "fp32" if exact else run.precision
    resolved = replace(resolved, precision=precision, num_classes=resolved.num_classes or facts.classes)
    _require_fitting(resolved, facts, splits.name, run)
    return resolved, choices


def _require_fitting(resolved: Recipe, facts: everyday.Facts, data: str, run: Runtime) -> None:
    """UserError where the recipe and the pictures, or the processes, do not go together."""
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
            f"the recipe is for {resolved.num_classes} classes, {data} has {facts.classes}; "
            "pass --set num_classes=none to take the data's"
        )


def _mirror(given: Recipe, settings: dict[str, Any], train: Source) -> str:
    """Why the pictures are not mirrored, where nothing else has decided it and their classes can say."""
    asked = "augment.hflip" in settings or given.derive == "none"
    if asked or train.multi_label or train.typical_size <= everyday.TINY_SIDE:
        return ""
    return what_a_mirror_changes(train)  # each process asks: they come here one after another, where none may wait


def _exact(recipe: Recipe, settings: dict[str, Any], run: Runtime) -> list[everyday.Choice]:
    """fp32 where bf16 cannot be trusted: torch 2.14's gradient of a 3 x 3 convolution of single positions, in bf16 on a
    CPU, differs from run to run and is at times not a number; a ResNet has some below 32 pixels.
    """
    small = ":" in recipe.model and recipe.image_size < BASELINE_STRIDE and run.device.type == "cpu"
    if not small or run.precision != "bf16" or "precision" in settings:
        return []
    return [everyday.Choice("precision", "fp32", "bf16 gradients of single positions are not reliable on a CPU")]


def make_task(splits: Splits[Source], recipe: Recipe, run: Runtime) -> Classify:
    """The sources of a data set under a recipe; decoded images stay in memory where they fit."""
    limit = int(machine.free_memory() * CACHE_SHARE / machine.processes_here())
    train, val = (source.within(recipe.levels) for source in (splits.train, splits.val))
    with Progress("decoding the training pictures beforehand", quiet=not run.is_main) as progress:
        train_source = cached(train, limit, progress)
    with Progress("decoding the held-out pictures beforehand", quiet=not run.is_main) as progress:
        val_source = cached(val, limit, progress)
    if run.is_main and train_source is train and isinstance(train.read, FileReader):
        print("the pictures are too many to be decoded beforehand; convnext check finds damaged ones")
    preprocess = replace(Preprocess.for_size(recipe.image_size), levels=recipe.levels)
    return Classify(train_source, val_source, recipe, preprocess, run)


def make_model(recipe: Recipe, task: Classify, run: Runtime) -> nn.Module:
    model = network_of(
        recipe, num_classes=task.num_classes, drop_rate=recipe.dropout, head_init_scale=recipe.head_init_scale
    )
    _require_room(model, recipe)
    start_from(recipe.weights, model, run, load)
    if recipe.grad_checkpointing:
        _capability(model, "set_grad_checkpointing", recipe.model)(True)
    if recipe.freeze_backbone:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = optim.is_head(name)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UserError(f"{recipe.model} has no head that could be trained alone; use another recipe than probe")
    layout = torch.channels_last if recipe.channels_last else torch.preserve_format
    return model.to(run.device, memory_format=layout)  # type: ignore[call-overload]


def attempt(recipe: Recipe, task: Classify, model: nn.Module, size: int) -> torch.Tensor:
    """Something to differentiate from `size` empty images, to see whether they fit into memory."""
    side = recipe.image_size
    logits: torch.Tensor = model(torch.zeros(size, 3, side, side, device=task.run.device))
    return logits.float().sum()


def finish(path: Path, task: Classify, model: nn.Module) -> None:
    """Adds to the log what simpler methods reach on the same data, and writes the report."""
    if not result(path).comparisons:
        with log.Log(path / "log.jsonl", 0) as rows:
            for method, value in pixel_baselines(task.train, task.val):
                rows.row("comparison", task.recipe.steps or 0, method=method, value=value)
    write_report(path, gather(path, task, model))


def _require_room(model: nn.Module, recipe: Recipe) -> None:
    """UserError unless the pictures leave the network at least one position at its coarsest map."""
    stride = max(getattr(model, "strides", (1,)))
    if recipe.image_size < stride:
        raise UserError(
            f"pictures of {recipe.image_size} pixels vanish in a network of stride {stride}; pass a larger "
            f"--image-size or a smaller stem (--set patch_size=1)"
        )


def _capability(model: nn.Module, method: str, name: str) -> Callable[..., Any]:
    if not hasattr(model, method):
        raise UserError(f"{name} cannot recompute its activations; leave out --set grad_checkpointing=true")
    return getattr(model, method)
