"""Classification, from a request for pictures to the page at the end: what `train` does differently for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..data.preprocess import Preprocess
from ..data.source import Source
from ..data.splits import Splits
from ..errors import UserError
from ..image_level.setup import exact, from_weights, make_network, ready, require_batch, sources
from ..recipes import everyday, length
from ..recipes.recipe import Recipe
from ..training import log
from ..training.run_folder import result
from ..training.runtime import Runtime
from .mirrors import what_a_mirror_changes
from .pixel_baselines import pixel_baselines
from .report import gather, write_report
from .task import Classify
from .weights import load


def derive(
    given: Recipe, splits: Splits[Source], settings: dict[str, Any], run: Runtime
) -> tuple[Recipe, list[everyday.Choice]]:
    """The recipe for this data; `settings` gains what `given` and the weights fix. UserError for what cannot be."""
    settings |= {name: value for name, value in everyday.own_settings(given).items() if name not in settings}
    given, start = from_weights(given, settings)
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
    in_fp32 = exact(resolved, settings, run)
    choices = start + choices + in_fp32
    precision = "fp32" if in_fp32 else run.precision
    resolved = replace(resolved, precision=precision, num_classes=resolved.num_classes or facts.classes)
    require_batch(resolved, facts.images, run)
    if resolved.num_classes != facts.classes:
        raise UserError(
            f"the recipe is for {resolved.num_classes} classes, {splits.name} has {facts.classes}; "
            "pass --set num_classes=none to take the data's"
        )
    return resolved, choices


def _mirror(given: Recipe, settings: dict[str, Any], train: Source) -> str:
    """Why the pictures are not mirrored, where nothing else has decided it and their classes can say."""
    asked = "augment.hflip" in settings or given.derive == "none"
    if asked or train.multi_label or train.typical_size <= everyday.TINY_SIDE:
        return ""
    return what_a_mirror_changes(train)  # each process asks: they come here one after another, where none may wait


def make_task(splits: Splits[Source], recipe: Recipe, run: Runtime) -> Classify:
    """The sources of a data set under a recipe."""
    train, val = sources(splits, recipe, run)
    preprocess = replace(Preprocess.for_size(recipe.image_size), levels=recipe.levels)
    return Classify(train, val, recipe, preprocess, run)


def make_model(recipe: Recipe, task: Classify, run: Runtime) -> nn.Module:
    return ready(make_network(recipe, task.num_classes), recipe, run, load)


def finish(path: Path, task: Classify, model: nn.Module) -> None:
    """Adds to the log what simpler methods reach on the same data, and writes the report."""
    if not result(path).comparisons:
        with log.Log(path / "log.jsonl", 0) as rows:
            for method, value in pixel_baselines(task.train, task.val):
                rows.row("comparison", task.recipe.steps or 0, method=method, value=value)
    write_report(path, gather(path, task, model))
