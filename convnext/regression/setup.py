"""Regression, from a request for pictures to the page at the end: what `train` does differently for it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import nn

from ..data.source import Source
from ..data.splits import Splits
from ..image_level.setup import from_weights, make_network, note_others, ready, resolve
from ..recipes import everyday
from ..recipes.recipe import Recipe, Settings
from ..training.runtime import Runtime
from .model import Regressor
from .pixel_baselines import pixel_baselines
from .report import gather, write_report
from .task import Regress
from .weights import load


def derive(
    given: Recipe, splits: Splits[Source], settings: Settings, run: Runtime
) -> tuple[Recipe, list[everyday.Choice]]:
    """The recipe for this data; `settings` gains what `given` and the weights fix. UserError for what cannot be."""
    settings |= {name: value for name, value in everyday.own_settings(given).items() if name not in settings}
    begun = from_weights(given, settings)
    count = len(splits.train)
    facts = everyday.Facts(
        images=count,
        classes=len(splits.train.classes),
        size=splits.train.typical_size,
        smallest_class=count,
        largest_class=count,
        no_accelerator=run.device.type == "cpu",
    )
    return resolve(begun, facts, settings, run, data=splits.name, outputs="targets")


make_task = Regress.on


def make_model(recipe: Recipe, task: Regress, run: Runtime) -> Regressor:
    model = Regressor(make_network(recipe, task.num_classes), task.mean, task.std)
    model.targets = task.targets
    return ready(model, recipe, run, load)


def finish(path: Path, task: Regress, model: nn.Module) -> None:
    """Adds to the log what a simpler method reaches on the same data, and writes the report."""
    note_others(path, task.recipe.steps or 0, partial(pixel_baselines, task.train, task.val))
    write_report(path, gather(path, task, model))
