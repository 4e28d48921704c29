"""A trained classifier at work: its accuracy on a folder, and its answers for single pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from ..catalog.class_lists import as_folders_name_them
from ..data.preprocess import Preprocess
from ..data.source import Source, relabelled
from ..data.splits import Split
from ..errors import UserError
from ..image_level.predict import NO_ANSWER, answered, require_pictures, views_of
from ..models.task_model import TaskModel
from ..recipes.recipe import Recipe
from ..training import runtime
from ..training.run_folder import learned_by
from ..training.slice import EvaluateOptions, PredictOptions, Rows
from ..weights.metadata import groups_of
from .data import open_for_judging
from .metrics import SMALLEST, class_rows, of_classifier, of_labels
from .task import Classify, class_probabilities


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

    def table(self) -> Rows:
        """Of a table with `columns`."""
        return [
            {"path": self.path, "rank": rank, "class": name, "probability": round(value, 6)}
            for rank, (name, value) in enumerate(self.top, 1)
        ]

    def json(self, image_ids: Mapping[str, Any]) -> Rows:
        """Objects of a JSON array."""
        top = [{"class": name, "probability": value} for name, value in self.top]
        return [{"path": self.path, "error": self.error, "top": top}]


def unreadable(path: str, error: str) -> Prediction:
    """The answer for a file that cannot be read."""
    return Prediction(path, (), error)


def evaluate(model: Any, checkpoint: str | Path, data: str | Path | None, options: EvaluateOptions) -> dict[str, Any]:
    """A classifier's figures as `api.evaluate` has them; several views are averaged where the options ask for them."""
    require_classifier(model, checkpoint)
    preprocess = Preprocess.from_dict(model.preprocess)
    source, note = matched(checkpoint, model, data, split=options.split, labels=options.labels)
    if options.say is not None:
        options.say(note)
    with runtime.start_judging(model, options.precision, options.say) as run:
        recipe = Recipe(image_size=preprocess.size, batch_size=1, loss="bce" if source.multi_label else "softmax")
        several, count = views_of(preprocess, options)
        task = Classify(
            source, source, recipe, preprocess, run, eval_batch=options.batch_size, views=several, views_each=count
        )
        own: list[Any] = []
        keep = _labels_found if source.multi_label else _loss
        figures = task.evaluate(model.to(run.device).eval(), lambda record: own.append(keep(record)))
        every = [row for part in run.gather(own) for row in part]
    if math.isnan(figures.get("loss", 0.0)):
        raise UserError(NO_ANSWER.format(checkpoint))
    if source.multi_label:
        hits, seen = (np.stack(column) for column in zip(*every, strict=True))
        ends = of_labels(task.counter, hits, seen)
    else:
        ends = of_classifier(task.counter, every)
    found: dict[str, Any] = {**figures, "intervals": ends}
    if options.per_class:
        rows = class_rows(*task.counter.classes.numpy())
        found["classes"] = [{"class": name, **row} for name, row in zip(source.classes, rows, strict=True)]
    return found


def _loss(record: dict[str, Any]) -> float:
    return -math.log(max(float(record["probabilities"][record["target"]]), SMALLEST))


def _labels_found(record: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(K,) labels that are there and were found; there, plus found."""
    there, said = np.asarray(record["target"]) > 0.5, record["probabilities"] >= 0.5
    return (there & said).astype(np.uint8), there.astype(np.uint8) + said.astype(np.uint8)


def matched(
    checkpoint: str | Path,
    model: Any,
    data: str | Path | None,
    *,
    split: Split = "val",
    labels: str | Path | None = None,
) -> tuple[Source, str]:
    """The pictures of `data` to judge `model`, read from `checkpoint`, on, and a sentence that says which they are.

    Their labels are the model's positions, matched by class name. Raises UserError as `evaluate`.
    """
    source, note = open_for_judging(data, split=split, multi_label_csv=labels, **learned_by(model))
    if model.classes is None and len(source.classes) != model.num_classes:
        raise UserError(
            f"{checkpoint} knows {model.num_classes} classes without names, the data has {len(source.classes)}; "
            "they cannot be matched"
        )
    if source.multi_label != _several(model, default=source.multi_label):
        raise UserError(f"{checkpoint} and the data differ in whether an image carries one label or several")
    return relabelled(source, as_folders_name_them(model.classes, source.classes)), note


def predict(model: Any, checkpoint: str | Path, paths: Sequence[str], options: PredictOptions) -> Iterator[Prediction]:
    """Names and probabilities for pictures, so many at once as the options say (None: what suits the device).

    Raises UserError, before anything is answered, for a model that names no class.
    """
    require_classifier(model, checkpoint)
    return answered(model, paths, options, partial(_named, model, options.top), unreadable)


def require_classifier(model: Any, checkpoint: str | Path) -> None:
    """UserError for a model without a head, for a detector or segmenter, or for other channels."""
    if isinstance(model, TaskModel):
        raise UserError(f"{checkpoint} is a {type(model).__name__.lower()}; this needs a classifier")
    if not model.num_classes or getattr(model, "dense", False):
        raise UserError(f"{checkpoint} has no classifier, so it names no classes; train one with --weights")
    require_pictures(model, checkpoint)


def _several(model: Any, *, default: bool) -> bool:
    """Whether the model was trained for several labels an image; `default` where its file does not say."""
    return model.metadata["task"] == "multi_label" if "task" in model.metadata else default


def _named(model: Any, top: int, paths: Sequence[str], logits: Tensor) -> list[Prediction]:
    """The most probable classes of each picture, by name."""
    several = _several(model, default=False)
    groups = groups_of(model.metadata, model.num_classes, model.load_report.source)
    probabilities = class_probabilities(logits, several=several, groups=groups)
    values, indices = probabilities.topk(min(top, probabilities.shape[1]))
    found = []
    for path, row, places in zip(paths, values.tolist(), indices.tolist(), strict=True):
        names = [model.classes[i] if model.classes else str(i) for i in places]
        found.append(Prediction(path, tuple(zip(names, row, strict=True))))
    return found
