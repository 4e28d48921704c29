"""Classification, from a request for pictures to the page at the end: what `train` does differently for it."""

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
from .mirrors import what_a_mirror_changes
from .pixel_baselines import pixel_baselines
from .report import gather, write_report
from .task import Classify
from .weights import load


def derive(
    given: Recipe, splits: Splits[Source], settings: Settings, run: Runtime
) -> tuple[Recipe, list[everyday.Choice]]:
    """The recipe for this data; `settings` gains what `given` and the weights fix. UserError for what cannot be."""
    settings |= {name: value for name, value in everyday.own_settings(given).items() if name not in settings}
    begun = from_weights(given, settings)
    counts = splits.train.class_counts()
    facts = everyday.Facts(
        images=len(splits.train),
        classes=len(splits.train.classes),
        size=splits.train.typical_size,
        smallest_class=min(counts),
        largest_class=max(counts),
        multi_label=splits.train.multi_label,
        no_accelerator=run.device.type == "cpu",
        mirror=_mirror(begun[0], settings, splits.train),
    )
    return resolve(begun, facts, settings, run, data=splits.name)


def _mirror(given: Recipe, settings: Settings, train: Source) -> str:
    """Why the pictures are not mirrored, where nothing else has decided it and their classes can say."""
    asked = "augment.hflip" in settings or given.derive == "none"
    if asked or train.multi_label or train.typical_size <= everyday.TINY_SIDE:
        return ""
    return what_a_mirror_changes(train)  # each process asks: they come here one after another, where none may wait


make_task = Classify.on


def make_model(recipe: Recipe, task: Classify, run: Runtime) -> nn.Module:
    return ready(make_network(recipe, task.num_classes), recipe, run, load)


def finish(path: Path, task: Classify, model: nn.Module) -> None:
    """Adds to the log what simpler methods reach on the same data, and writes the report."""
    note_others(path, task.recipe.steps or 0, partial(pixel_baselines, task.train, task.val))
    write_report(path, gather(path, task, model))
