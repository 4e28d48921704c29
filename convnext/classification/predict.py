"""A trained classifier at work: its accuracy on a folder, and its answers for single pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from ..catalog.class_lists import as_folders_name_them
from ..data.preprocess import Preprocess
from ..data.source import Source, relabelled
from ..data.splits import Split
from ..errors import UserError
from ..image_level.predict import NO_ANSWER, answered, require_pictures, views_of
from ..models.task_model import TaskModel
from ..system.tables import Row
from ..training import runtime
from ..training.run_folder import learned_by
from ..training.slice import EvaluateOptions, ImageIds, PredictOptions, Result
from ..weights.info import info_of
from ..weights.metadata import groups_of
from .data import open_for_judging
from .metrics import SMALLEST, MultiLabelCounter, class_rows, of_classifier, of_labels
from .task import ClassificationEvaluator, ClassifiedImage, class_probabilities


@dataclass(frozen=True)
class Prediction:
    """The classes of one image, most probable first."""

    path: str
    top: tuple[tuple[str, float], ...]
    error: str | None = None  # why the file could not be read

    columns: ClassVar[tuple[str, ...]] = ("path", "rank", "class", "probability", "error")
    faults_in_json: ClassVar[bool] = True

    def line(self) -> str:
        """For people."""
        return "  ".join(f"{name} {value:.1%}" for name, value in self.top)

    def table(self) -> list[Row]:
        """Of a table with `columns`."""
        return [
            {"path": self.path, "rank": rank, "class": name, "probability": round(value, 6)}
            for rank, (name, value) in enumerate(self.top, 1)
        ]

    def json(self, image_ids: ImageIds) -> list[Row]:
        """Objects of a JSON array."""
        top = [{"class": name, "probability": value} for name, value in self.top]
        return [{"path": self.path, "error": self.error, "top": top}]


def unreadable(path: str, error: str) -> Prediction:
    """The answer for a file that cannot be read."""
    return Prediction(path, (), error)


def evaluate(model: nn.Module, checkpoint: str | Path, data: str | Path | None, options: EvaluateOptions) -> Result:
    """A classifier's figures as `api.evaluate` has them; several views are averaged where the options ask for them."""
    require_classifier(model, checkpoint)
    preprocess = Preprocess.from_dict(info_of(model).preprocess)
    source, note = matched(checkpoint, model, data, split=options.split, labels=options.labels)
    if options.say is not None:
        options.say(note)
    with runtime.start_judging(model, options.precision, options.say) as run:
        views, count = views_of(preprocess, options)
        evaluator = ClassificationEvaluator(source, preprocess, run, options.batch_size, views=views, views_each=count)
        losses: list[float] = []
        labels: list[tuple[np.ndarray, np.ndarray]] = []

        def keep(record: ClassifiedImage) -> None:
            if source.multi_label:
                labels.append(_labels_found(record))
            else:
                losses.append(_loss(record))

        figures = evaluator.evaluate(model.to(run.device).eval(), keep)
        parts = run.gather((losses, labels))
    if math.isnan(figures.get("loss", 0.0)):
        raise UserError(NO_ANSWER.format(checkpoint))
    if isinstance(evaluator.counter, MultiLabelCounter):
        hits, seen = (np.stack(column) for column in zip(*(row for _, own in parts for row in own), strict=True))
        ends = of_labels(evaluator.counter, hits, seen)
    else:
        ends = of_classifier(evaluator.counter, [loss for own, _ in parts for loss in own])
    found: Result = {**figures, "intervals": ends}
    if options.per_class:
        rows = class_rows(*evaluator.counter.classes.numpy())
        found["classes"] = [{"class": name, **row} for name, row in zip(source.classes, rows, strict=True)]
    return found


def _loss(record: ClassifiedImage) -> float:
    true = record["target"]
    assert isinstance(true, int)
    return -math.log(max(float(record["probabilities"][true]), SMALLEST))


def _labels_found(record: ClassifiedImage) -> tuple[np.ndarray, np.ndarray]:
    """(K,) labels that are there and were found; there, plus found."""
    there, said = np.asarray(record["target"]) > 0.5, record["probabilities"] >= 0.5
    return (there & said).astype(np.uint8), there.astype(np.uint8) + said.astype(np.uint8)


def matched(
    checkpoint: str | Path,
    model: nn.Module,
    data: str | Path | None,
    *,
    split: Split = "val",
    labels: str | Path | None = None,
) -> tuple[Source, str]:
    """The pictures of `data` to judge `model`, read from `checkpoint`, on, and a sentence that says which they are.

    Their labels are the model's positions, matched by class name. Raises UserError as `evaluate`.
    """
    source, note = open_for_judging(data, split=split, multi_label_csv=labels, learned=learned_by(model))
    names, count = info_of(model).classes, classes_of(model)
    if names is None and len(source.classes) != count:
        raise UserError(
            f"{checkpoint} knows {count} classes without names, the data has {len(source.classes)}; "
            "they cannot be matched"
        )
    if source.multi_label != _several(model, default=source.multi_label):
        raise UserError(f"{checkpoint} and the data differ in whether an image carries one label or several")
    return relabelled(source, as_folders_name_them(names, source.classes)), note


def predict(
    model: nn.Module, checkpoint: str | Path, paths: Sequence[str], options: PredictOptions
) -> Iterator[Prediction]:
    """Names and probabilities for pictures, so many at once as the options say (None: what suits the device).

    Raises UserError, before anything is answered, for a model that names no class.
    """
    require_classifier(model, checkpoint)
    return answered(model, paths, options, partial(_named, model, options.top), unreadable)


def classes_of(model: nn.Module) -> int:
    """How many classes a network of the family, or a baseline, tells apart; 0 of one without a head."""
    return int(getattr(model, "num_classes", 0))


def require_classifier(model: nn.Module, checkpoint: str | Path) -> None:
    """UserError for a model without a head, for a detector or segmenter, or for other channels."""
    if isinstance(model, TaskModel):
        raise UserError(f"{checkpoint} is a {type(model).__name__.lower()}; this needs a classifier")
    if not classes_of(model) or getattr(model, "dense", False):
        raise UserError(f"{checkpoint} has no classifier, so it names no classes; train one with --weights")
    require_pictures(model, checkpoint)


def _several(model: nn.Module, *, default: bool) -> bool:
    """Whether the model was trained for several labels an image; `default` where its file does not say."""
    task = info_of(model).metadata.get("task")
    return default if task is None else task == "multi_label"


def _named(model: nn.Module, top: int, paths: Sequence[str], logits: Tensor) -> list[Prediction]:
    """The most probable classes of each picture, by name."""
    info, several = info_of(model), _several(model, default=False)
    groups = groups_of(info.metadata, classes_of(model), info.source)
    probabilities = class_probabilities(logits, several=several, groups=groups)
    values, indices = probabilities.topk(min(top, probabilities.shape[1]))
    found = []
    for path, row, places in zip(paths, values.tolist(), indices.tolist(), strict=True):
        names = [info.classes[i] if info.classes else str(i) for i in places]
        found.append(Prediction(path, tuple(zip(names, row, strict=True))))
    return found
