"""Detection, from a request for annotated pictures to the end of the run: what `train` does differently for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from ..dense.setup import fitted, memory_of, placed
from ..errors import UserError
from ..models.convnext import Backbone
from ..recipes.dense import DenseFacts
from ..recipes.everyday import Choice
from ..recipes.recipe import Recipe, Settings
from ..training.run_folder import first_row, result
from ..training.runtime import Runtime
from ..weights.backbone import network_of
from .coco_format import ResultRow
from .model.rcnn import WITHOUT_MASKS, Detector, build_detector
from .report import DetectionEvidence, write_detection_report
from .rle import library
from .source import DetectionSource, DetectionSplits
from .task import Detect
from .weights import load


def derive(given: Recipe, splits: DetectionSplits, settings: Settings, run: Runtime) -> tuple[Recipe, list[Choice]]:
    """The recipe for this data. Raises UserError for what cannot be."""
    library()  # said now, not after the first epoch
    recipe, choices = fitted(given, splits, _facts(splits.train, run), settings, run)
    kind = recipe.detection.detector
    # A recipe that was made for data names its classes: what is replayed or resumed stays the detector that it was.
    free = given.num_classes is None and "detection.detector" not in settings
    if free and kind in WITHOUT_MASKS and not splits.train.masks:
        other = WITHOUT_MASKS[kind]
        choices = [*choices, Choice("detection.detector", other, "there are boxes and no outlines to learn masks from")]
        recipe = replace(recipe, detection=replace(recipe.detection, detector=other))
    return recipe, choices


def require_outlines(recipe: Recipe, splits: DetectionSplits) -> None:
    """UserError where the user, or a recipe.json, wants a detector with masks and the data has none to learn from."""
    kind = recipe.detection.detector
    if kind in WITHOUT_MASKS and not splits.train.masks:
        raise UserError(
            f"{splits.name} has boxes and no outlines, of which {kind} would learn masks; pass --set "
            f"detection.detector={WITHOUT_MASKS[kind]}"
        )


def _facts(train: DetectionSource, run: Runtime) -> DenseFacts:
    """Of pictures that are learned from; an object's side is the square root of its box."""
    boxes = np.concatenate([one.boxes for one in train.objects])
    sides = np.sqrt(np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0))
    return DenseFacts(
        images=len(train),
        classes=len(train.classes),
        short=round(median(min(size) for size in train.sizes)),
        object_side=float(np.median(sides)),
        memory=memory_of(run),
    )


def make_task(splits: DetectionSplits, recipe: Recipe, run: Runtime) -> Detect:
    return Detect.of(splits.train, splits.val, recipe, run)


def make_model(recipe: Recipe, task: Detect, run: Runtime) -> Detector:
    backbone = network_of(recipe, out_norms=True)
    assert isinstance(backbone, Backbone)  # `out_norms` is refused for a baseline
    detector = build_detector(recipe.detection.detector, backbone, task.num_classes)
    detector.roi_head.sample = replace(detector.roi_head.sample, count=recipe.detection.regions)
    return placed(detector, recipe, run, load)


def finish(path: Path, task: Detect, model: Detector) -> None:
    """Judges the published weights once more and writes the report."""
    found: dict[str, list[ResultRow]] = {}
    task.evaluate(model, lambda record: found.update({record["id"]: record["rows"]}))
    outcome, command = result(path), first_row(path)["command"]
    evidence = DetectionEvidence(task.val, found, command, outcome.judged_split, outcome.headline)
    write_detection_report(path, evidence)
