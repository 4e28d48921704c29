"""A trained model at work: its accuracy on a folder, and its answers for single pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from . import detecting, intervals, segmenting
from .data import sources
from .data.images import explained, open_image, readable
from .data.labelled import Source
from .data.listing import Listing, list_images
from .data.look import Task, look_at, require_for_model
from .data.transforms import Preprocess, views
from .detecting import Found
from .errors import UserError
from .metrics import SMALLEST, class_rows
from .models import from_pretrained
from .models.dense import DenseModel
from .models.labels import as_folders_name_them
from .models.metadata import groups_of
from .models.rcnn import Detector
from .models.upernet import Segmenter
from .recipe import Recipe
from .run_folder import learned_by
from .segmenting import Areas
from .tasks.classify import Classify, class_probabilities
from .tasks.label_maps import Mode
from .training import runtime
from .training.runtime import Runtime

CPU_BATCH, DEVICE_BATCH = 8, 64  # pictures that are answered at once: more are no faster on a CPU, and answers wait
LEAST_SCORE = 0.3  # of an object that a detector reports
NO_ANSWER = "{} gives answers that are no numbers, so its weights are damaged; fetch or save it again"
Split = Literal["val", "train", "all", "test"]


@dataclass(frozen=True)
class Prediction:
    """The classes of one image, most probable first."""

    path: str
    top: tuple[tuple[str, float], ...]
    error: str | None = None  # why the file could not be read


def evaluate(checkpoint: str | Path, data: str | Path | None = None, *, flip: bool = False, crops: int = 1,
             batch_size: int = 256, split: Split = "val", labels: str | Path | None = None, mode: Mode | None = None,
             precision: str = "auto", per_class: bool = False,
             say: Callable[[str], None] | None = None) -> dict[str, Any]:  # fmt: skip
    """Accuracy of a checkpoint on a data set by the protocol stored with it; `flip` and `crops` average more views.

    Classes are matched by name, so a folder may hold fewer of them in any order. Of a folder without a split all
    images count, but for those that the model learned from; `say` is told which were judged. Raises UserError when a
    class of the folder is unknown to the checkpoint, or where one has several labels an image and the other one.

    "intervals" holds 95 % intervals of those figures that have one, and with `per_class` "classes" has a row for each.
    `precision`: "fp32", "bf16", or "auto" for the one that the model's own figure was measured in (fp32 where its file
    does not say). Of a detector: COCO's figures. Of a segmenter: mIoU, seen as `mode` says (None: in sliding windows).
    """
    if batch_size < 1:
        raise UserError(f"a batch of {batch_size} holds no image; pass a positive --batch-size")
    model = from_pretrained(checkpoint)
    require_for_model(look_at(data, labels), _task_of(model), checkpoint)
    if isinstance(model, DenseModel) and (flip or crops > 1):
        instead = "; --test-mode multiscale averages mirrored images, too" if isinstance(model, Segmenter) else ""
        raise UserError(f"{checkpoint} is no classifier; leave out --flip and --crops{instead}")
    if isinstance(model, Segmenter):
        return segmenting.evaluate(
            model, checkpoint, data, split=split, labels=labels, mode=mode or "slide", precision=precision, say=say
        )
    if mode is not None:
        raise UserError(f"{checkpoint} is no segmenter; leave out --test-mode")
    if isinstance(model, Detector):
        return detecting.evaluate(model, checkpoint, data, split=split, precision=precision, say=say)
    require_classifier(model, checkpoint)
    preprocess = Preprocess.from_dict(model.preprocess)
    source, note = matched(checkpoint, model, data, split=split, labels=labels)
    if say is not None:
        say(note)
    with runtime.start_judging(model, precision, say) as run:
        recipe = Recipe(image_size=preprocess.size, batch_size=1, loss="bce" if source.multi_label else "softmax")
        several = Views(preprocess, flip, crops) if flip or crops > 1 else None
        count = crops * (2 if flip else 1)
        task = Classify(source, source, recipe, preprocess, run, eval_batch=batch_size, views=several, views_each=count)
        own: list[Any] = []
        keep = _labels_found if source.multi_label else _loss
        figures = task.evaluate(model.to(run.device).eval(), lambda record: own.append(keep(record)))
        every = [row for part in run.gather(own) for row in part]
    if math.isnan(figures.get("loss", 0.0)):
        raise UserError(NO_ANSWER.format(checkpoint))
    if source.multi_label:
        hits, seen = (np.stack(column) for column in zip(*every, strict=True))
        ends = intervals.of_labels(task.counter, hits, seen)
    else:
        ends = intervals.of_classifier(task.counter, every)
    found: dict[str, Any] = {**figures, "intervals": ends}
    if per_class:
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
    checkpoint: str | Path, model: Any, data: str | Path | None, *, split: Split = "val",
    labels: str | Path | None = None,
) -> tuple[Source, str]:  # fmt: skip
    """The pictures of `data` to judge `model`, read from `checkpoint`, on, and a sentence that says which they are.

    Their labels are the model's positions, matched by class name. Raises UserError as `evaluate`.
    """
    source, note = sources.open_for_judging(data, split=split, multi_label_csv=labels, **learned_by(model))
    if model.classes is None and len(source.classes) != model.num_classes:
        raise UserError(
            f"{checkpoint} knows {model.num_classes} classes without names, the data has {len(source.classes)}; "
            "they cannot be matched"
        )
    if source.multi_label != _several(model, default=source.multi_label):
        raise UserError(f"{checkpoint} and the data differ in whether an image carries one label or several")
    return sources.relabelled(source, as_folders_name_them(model.classes, source.classes)), note


def predict(checkpoint: str | Path, images: Iterable[str | Path], *, top: int = 5, batch_size: int | None = None,
            precision: str = "auto", least_score: float | None = None, mode: Mode | None = None,
            out: str | Path | None = None,
            say: Callable[[str], None] | None = None) -> list[Prediction] | list[Found] | list[Areas]:  # fmt: skip
    """Names and probabilities for files, folders and glob patterns; what is missing or unreadable has an `error`.

    Of a detector: the objects with a score of at least `least_score` (None: 0.3); `out` is a folder for the pictures
    with them drawn in. Of a segmenter: the share of each class; `out` is a folder for masks and pictures under them.
    Raises UserError when there is nothing at any of the places, or `out` is asked of a classifier.
    """
    return list(predictions(checkpoint, list_images(images), top=top, batch_size=batch_size, precision=precision,
                            least_score=least_score, mode=mode, out=out, say=say))  # fmt: skip


def predictions(checkpoint: str | Path, listing: Listing, *, top: int = 5, batch_size: int | None = None,
                precision: str = "auto", least_score: float | None = None, mode: Mode | None = None,
                out: str | Path | None = None,
                say: Callable[[str], None] | None = None) -> Iterator[Any]:  # fmt: skip
    """The answers of `predict` one by one, in the order of the listing, as they come: none is kept here.

    A classifier answers `batch_size` pictures at once (None: what suits the device).
    """
    if top < 1:
        raise UserError(f"--top {top} names no class; pass at least 1")
    model = from_pretrained(checkpoint)
    if least_score is not None and not isinstance(model, Detector):
        raise UserError(f"{checkpoint} is no detector; leave out --score")
    folder = None if out is None else Path(out)
    paths = [path for path in listing.paths if path not in listing.lost]
    answers: Iterator[Any]
    kind: type[Prediction] | type[Found] | type[Areas]
    if isinstance(model, Segmenter):
        kind = Areas
        answers = segmenting.find(model, paths, mode=mode or "slide", out=folder, precision=precision, say=say)
    elif mode is not None:
        raise UserError(f"{checkpoint} is no segmenter; leave out --test-mode")
    elif isinstance(model, Detector):
        kind = Found
        least = LEAST_SCORE if least_score is None else least_score
        answers = detecting.find(model, paths, least_score=least, out=folder, precision=precision, say=say)
    else:
        require_classifier(model, checkpoint)
        if out is not None:
            raise UserError(f"{checkpoint} is a classifier, which draws nothing; leave out --out")
        kind = Prediction
        answers = _classified(model, paths, top, batch_size, precision, say)
    for path in listing.paths:
        yield kind(path, (), listing.lost[path]) if path in listing.lost else next(answers)


def _classified(model: Any, paths: Sequence[str], top: int, batch_size: int | None, precision: str,
                say: Callable[[str], None] | None) -> Iterator[Prediction]:  # fmt: skip
    with runtime.start_judging(model, precision, say) as run:
        model = model.to(run.device).eval()
        size = batch_size or (CPU_BATCH if run.device.type == "cpu" else DEVICE_BATCH)
        for i in range(0, len(paths), size):
            yield from _predict_batch(model, paths[i : i + size], top, run)


def _task_of(model: Any) -> Task:
    return "segment" if isinstance(model, Segmenter) else "detect" if isinstance(model, Detector) else "classify"


@dataclass(frozen=True)
class Views:
    """Several views of one image, (V, 3, S, S); a class so that loader processes can be sent it."""

    preprocess: Preprocess
    flip: bool
    crops: int

    def __call__(self, image: Any) -> Tensor:
        return views(image, self.preprocess, flip=self.flip, crops=self.crops)


def usable(checkpoint: str | Path) -> Any:
    """A model that turns pictures into classes. Raises UserError for one that does not."""
    model = from_pretrained(checkpoint)
    require_classifier(model, checkpoint)
    return model


def require_classifier(model: Any, checkpoint: str | Path) -> None:
    """UserError for a model without a head, for a detector or segmenter, or for other channels."""
    if isinstance(model, DenseModel):
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
