"""A trained classifier at work: its accuracy on a folder, and its answers for single pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..catalog.class_lists import as_folders_name_them
from ..data.images import explained, open_image, readable
from ..data.preprocess import Preprocess, views
from ..data.source import Source, relabelled
from ..data.splits import Split
from ..errors import UserError
from ..models.task_model import TaskModel
from ..recipes.recipe import Recipe
from ..training import runtime
from ..training.run_folder import learned_by
from ..training.runtime import Runtime
from ..training.slice import EvaluateOptions, PredictOptions, Rows
from ..weights.metadata import groups_of
from .data import open_for_judging
from .metrics import SMALLEST, class_rows, of_classifier, of_labels
from .task import Classify, class_probabilities

CPU_BATCH, DEVICE_BATCH = 8, 64  # pictures that are answered at once: more are no faster on a CPU, and answers wait
NO_ANSWER = "{} gives answers that are no numbers, so its weights are damaged; fetch or save it again"


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
        flip, crops = options.flip, options.crops
        several = Views(preprocess, flip, crops) if flip or crops > 1 else None
        count = crops * (2 if flip else 1)
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
    return _answers(model, paths, options)


def _answers(model: Any, paths: Sequence[str], options: PredictOptions) -> Iterator[Prediction]:
    with runtime.start_judging(model, options.precision, options.say) as run:
        model = model.to(run.device).eval()
        size = options.batch_size or (CPU_BATCH if run.device.type == "cpu" else DEVICE_BATCH)
        for i in range(0, len(paths), size):
            yield from _predict_batch(model, paths[i : i + size], options.top, run)


@dataclass(frozen=True)
class Views:
    """Several views of one image, (V, 3, S, S); a class so that loader processes can be sent it."""

    preprocess: Preprocess
    flip: bool
    crops: int

    def __call__(self, image: Any) -> Tensor:
        return views(image, self.preprocess, flip=self.flip, crops=self.crops)


def require_classifier(model: Any, checkpoint: str | Path) -> None:
    """UserError for a model without a head, for a detector or segmenter, or for other channels."""
    if isinstance(model, TaskModel):
        raise UserError(f"{checkpoint} is a {type(model).__name__.lower()}; this needs a classifier")
    if not model.num_classes or getattr(model, "dense", False):
        raise UserError(f"{checkpoint} has no classifier, so it names no classes; train one with --weights")
    if model.in_chans != 3:
        raise UserError(f"{checkpoint} takes images of {model.in_chans} channels; pictures have 3")


def _several(model: Any, *, default: bool) -> bool:
    """Whether the model was trained for several labels an image; `default` where its file does not say."""
    return model.metadata["task"] == "multi_label" if "task" in model.metadata else default


def _predict_batch(model: Any, paths: Sequence[str], top: int, run: Runtime) -> list[Prediction]:
    preprocess = Preprocess.from_dict(model.preprocess)
    tensors: dict[str, Tensor] = {}
    results: dict[str, Prediction] = {}
    for path in paths:
        try:
            with explained(readable(path)):
                tensors[path] = preprocess(open_image(path, name=path, levels=preprocess.levels))
        except UserError as error:
            results[path] = Prediction(path, (), str(error))
    if tensors:
        batch = torch.stack(list(tensors.values())).to(run.device, memory_format=torch.channels_last)
        with torch.inference_mode(), run.autocast():
            logits = model(batch).float().cpu()
        if not bool(logits.isfinite().all()):
            raise UserError(NO_ANSWER.format(model.load_report.source))
        several = _several(model, default=False)
        groups = groups_of(model.metadata, model.num_classes, model.load_report.source)
        probabilities = class_probabilities(logits, several=several, groups=groups)
        values, indices = probabilities.topk(min(top, probabilities.shape[1]))
        for path, row, places in zip(tensors, values.tolist(), indices.tolist(), strict=True):
            names = [model.classes[i] if model.classes else str(i) for i in places]
            results[path] = Prediction(path, tuple(zip(names, row, strict=True)))
    return [results[path] for path in paths]
