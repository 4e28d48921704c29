"""Segmentation, from a request for pictures with masks to the end of the run: what `train` does differently for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

from ..data.source import typical_size
from ..dense.setup import fitted, memory_of, placed
from ..errors import UserError
from ..models.convnext import Backbone
from ..recipes.dense import DenseFacts
from ..recipes.everyday import Choice
from ..recipes.recipe import Recipe, Settings, micro_batches
from ..training.run_folder import first_row, result
from ..training.runtime import Runtime
from ..weights.backbone import network_of
from .data import SegmentationSplits
from .mask_scan import require_sound
from .model import Segmenter, build_segmenter
from .report import SegmentationEvidence, write_segmentation_report
from .task import Segment
from .weights import load


def derive(given: Recipe, splits: SegmentationSplits, settings: Settings, run: Runtime) -> tuple[Recipe, list[Choice]]:
    """The recipe for this data. Raises UserError for what cannot be."""
    train = splits.train
    facts = DenseFacts(
        len(train), len(train.classes), typical_size(Path(), list(map(str, train.images))), memory=memory_of(run)
    )
    recipe, choices = fitted(given, splits, facts, settings, run)
    for note in require_sound(splits):
        if run.is_main:
            print(note)
    if run.world == 1 or run.device.type != "cuda":  # elsewhere BatchNorm sees all processes' pictures
        recipe = _batched(recipe, run.world, choices)
    return recipe, sorted(choices, key=lambda choice: choice.field)


def _batched(recipe: Recipe, world: int, choices: list[Choice]) -> Recipe:
    """Every micro-batch has two pictures: BatchNorm cannot learn from one, whose average over all is one value."""
    shares = {recipe.batch_size // world, -(-recipe.batch_size // world)}
    if min(shares) < 2:
        raise UserError(
            f"a batch of {recipe.batch_size} on {world} processes leaves one picture to a process, too few "
            "for BatchNorm; pass a --batch-size of at least two a process"
        )
    micro = min(recipe.micro_batch or max(shares), max(shares))
    sizes = range(max(2, micro), max(shares) + 1)
    fits = next(m for m in sizes if min(shares) // micro_batches(recipe.batch_size, world, m) > 1)
    if fits != micro:
        choices.append(Choice("micro_batch", fits, "BatchNorm needs two pictures in each part of a batch"))
        recipe = replace(recipe, micro_batch=fits)
    return recipe


def make_task(splits: SegmentationSplits, recipe: Recipe, run: Runtime) -> Segment:
    return Segment.of(splits.train, splits.val, recipe, run)


def make_model(recipe: Recipe, task: Segment, run: Runtime) -> Segmenter:
    rules = recipe.segmentation
    backbone = cast(Backbone, network_of(recipe, out_norms=True))
    segmenter = build_segmenter(backbone, task.num_classes, rules.channels, rules.auxiliary > 0)
    return placed(segmenter, recipe, run, load)


def finish(path: Path, task: Segment, model: Segmenter) -> None:
    """Judges the published weights once more and writes the report."""
    outcome = result(path)
    command, mode = first_row(path)["command"], task.recipe.segmentation.test
    evidence = SegmentationEvidence(task.val, command, outcome.judged_split, mode, outcome.headline)
    evidence.result = task.evaluate(model, evidence.add)
    evidence.counter = task.evaluator.counter
    write_segmentation_report(path, evidence)
