"""Regression, from a request for pictures to the page at the end: what `train` does differently for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..data.source import Source
from ..data.splits import Splits
from ..errors import UserError
from ..image_level.setup import exact, from_weights, make_network, ready, require_batch, sources
from ..recipes import everyday, length
from ..recipes.recipe import Recipe
from ..training import log
from ..training.run_folder import result
from ..training.runtime import Runtime
from .model import Regressor
from .pixel_baselines import pixel_baselines
from .report import gather, write_report
from .task import Regress
from .weights import load, protocol


def derive(
    given: Recipe, splits: Splits[Source], settings: dict[str, Any], run: Runtime
) -> tuple[Recipe, list[everyday.Choice]]:
    """The recipe for this data; `settings` gains what `given` and the weights fix. UserError for what cannot be."""
    settings |= {name: value for name, value in everyday.own_settings(given).items() if name not in settings}
    given, start = from_weights(given, settings)
    targets = len(splits.train.classes)
    facts = everyday.Facts(
        images=len(splits.train),
        classes=targets,
        size=splits.train.typical_size,
        smallest_class=len(splits.train),
        largest_class=len(splits.train),
        no_accelerator=run.device.type == "cpu",
    )
    resolved, choices = everyday.derive(given, facts, settings)
    resolved = length.asked(resolved, settings)
    in_fp32 = exact(resolved, settings, run)
    precision = "fp32" if in_fp32 else run.precision
    resolved = replace(resolved, precision=precision, num_classes=resolved.num_classes or targets)
    require_batch(resolved, facts.images, run)
    if resolved.num_classes != targets:
        raise UserError(
            f"the recipe is for {resolved.num_classes} numbers, {splits.name} has {targets}; "
            "pass --set num_classes=none to take the data's"
        )
    return resolved, start + choices + in_fp32


def make_task(splits: Splits[Source], recipe: Recipe, run: Runtime) -> Regress:
    """The sources of a data set under a recipe."""
    train, val = sources(splits, recipe, run)
    return Regress(train, val, recipe, replace(protocol(recipe.image_size), levels=recipe.levels), run)


def make_model(recipe: Recipe, task: Regress, run: Runtime) -> nn.Module:
    model = Regressor(make_network(recipe, task.num_classes), task.mean, task.std)
    model.targets = task.targets
    return ready(model, recipe, run, load)


def finish(path: Path, task: Regress, model: nn.Module) -> None:
    """Adds to the log what a simpler method reaches on the same data, and writes the report."""
    if not result(path).comparisons:
        with log.Log(path / "log.jsonl", 0) as rows:
            for method, value in pixel_baselines(task.train, task.val):
                rows.row("comparison", task.recipe.steps or 0, method=method, value=value)
    write_report(path, gather(path, task, model))
