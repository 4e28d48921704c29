"""A trained detector at work: its average precision on annotated pictures, and what it finds in others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image

from .. import files
from ..data.images import open_image, readable, within_memory
from ..data.keep_ratio import KeepRatio
from ..data.output_paths import targets
from ..dense.classes import require_known
from ..errors import UserError
from ..system.tables import Row
from ..training import runtime
from ..training.run_folder import learned_by
from ..training.slice import EvaluateOptions, ImageIds, PredictOptions, Result
from ..weights.info import info_of
from .coco_format import NamedRow
from .data import open_detection_for_judging
from .draw import draw_objects
from .metrics import by_class, named
from .model.rcnn import Detector
from .source import DetectionSource
from .task import DetectionEvaluator, found_in

LEAST_SCORE = 0.3  # of an object that is reported
SIDES = ("x", "y", "width", "height")
UNKNOWN_CATEGORY = -1  # of classes that the data does not have: COCO's evaluation leaves their detections out


@dataclass(frozen=True)
class DetectionPrediction:
    """The objects of one image, surest first."""

    path: str
    rows: tuple[NamedRow, ...] = ()  # COCO result rows without image ids, with the class's name
    error: str | None = None  # why the file could not be read

    columns: ClassVar[tuple[str, ...]] = ("path", "class", "score", *SIDES, "error")
    faults_in_json: ClassVar[bool] = False  # which is COCO's result format

    def line(self) -> str:
        """For people."""
        return ", ".join(f"{row['class']} {row['score']:.2f}" for row in self.rows) or "nothing"

    def table(self) -> list[Row]:
        """Of a table with `columns`."""
        return [
            {"path": self.path, "class": row["class"], "score": round(row["score"], 6)}
            | dict(zip(SIDES, (round(value, 2) for value in row["bbox"]), strict=True))
            for row in self.rows
        ]

    def json(self, image_ids: ImageIds) -> list[Row]:
        """Objects of a JSON array, in COCO's result format."""
        return [as_result(row, image_ids[self.path]) for row in self.rows]


def unreadable(path: str, error: str) -> DetectionPrediction:
    """The answer for a file that cannot be read."""
    return DetectionPrediction(path, error=error)


def evaluate(model: Detector, checkpoint: str | Path, data: str | Path | None, options: EvaluateOptions) -> Result:
    """COCO's figures of a detector on annotated pictures and each class's AP, in percent; classes go by their names.

    Raises UserError when no data is named or one of its classes is unknown to the detector.
    """
    if data is None:
        raise UserError(f"{checkpoint} is a detector: pass a folder with COCO annotations to judge it on")
    found, note = open_detection_for_judging(data, options.split, learned=learned_by(model))
    source = matched(model, checkpoint, replace(found, masks=found.masks and model.masked))
    if options.say is not None:
        options.say(f"{note}: {source.judged:,} objects; no interval is given for average precision")
    with runtime.start_judging(model, options.precision, options.say) as run:
        preprocess = KeepRatio.from_dict(info_of(model).preprocess)
        evaluator = DetectionEvaluator(source, preprocess, run)
        figures = evaluator.evaluate(model.to(run.device).eval())
    return {**figures, **by_class(source.raw, evaluator.details)}


def matched(model: Detector, checkpoint: str | Path, source: DetectionSource) -> DetectionSource:
    """`source` with the categories in the order of the model's classes. Raises UserError where they do not meet."""
    require_known(model, checkpoint, source.classes)
    names = info_of(model).classes
    if names is None:
        return source
    number = dict(zip(source.classes, source.category_ids, strict=True))
    return replace(source, category_ids=tuple(number.get(name, UNKNOWN_CATEGORY) for name in names))


def predict(
    model: Detector, checkpoint: str | Path, paths: Sequence[str], options: PredictOptions
) -> Iterator[DetectionPrediction]:
    """What is in each picture with a score of at least that of the options (None: 0.3); `out` is a folder for the
    pictures drawn on.

    Raises UserError, before anything is done, where a drawing would take the place of another or of a picture.
    """
    drawn = {} if options.out is None else targets(paths, options.out)
    least = LEAST_SCORE if options.least_score is None else options.least_score
    preprocess = KeepRatio.from_dict(info_of(model).preprocess)
    with runtime.start_judging(model, options.precision, options.say) as run:
        model = model.to(run.device).eval()
        for path in paths:
            try:
                image = open_image(path, name=path, levels=preprocess.levels)
                with within_memory(readable(path)):
                    rows = tuple(_rows(model, image, preprocess, run, least))
            except UserError as error:
                yield unreadable(path, str(error))
                continue
            if path in drawn:
                with files.atomic(drawn[path]) as temporary:
                    draw_objects(image, rows).save(temporary, "PNG")
            yield DetectionPrediction(path, rows)


def image_ids(paths: Sequence[str]) -> dict[str, int | str]:
    """Each file's image id in COCO's result format: the number that it is named by, as COCO's are, where no other file
    has the same, else its path."""
    stems = {path: Path(path).stem for path in paths}
    numbers = Counter(int(stem) for stem in stems.values() if stem.isdecimal())
    alone = {path for path, stem in stems.items() if stem.isdecimal() and numbers[int(stem)] == 1}
    return {path: int(stem) if path in alone else path for path, stem in stems.items()}


def as_result(row: NamedRow, image_id: int | str) -> dict[str, object]:
    """One object in COCO's result format, with its category's name."""
    values = {key: value for key, value in row.items() if key != "class"}
    return {"image_id": image_id, **values, "category": row["class"]}


def _rows(
    model: Detector, image: Image.Image, preprocess: KeepRatio, run: runtime.Runtime, least_score: float
) -> Iterator[NamedRow]:
    info = info_of(model)
    numbers = info.category_ids or list(range(model.num_classes))
    classes = info.classes or [str(label) for label in range(model.num_classes)]
    name = dict(zip(numbers, classes, strict=True))
    with torch.inference_mode():
        rows = found_in(model, preprocess(image).to(run.device), image.size[::-1], run, 0, numbers, least_score)
    for row in rows:
        yield named(row, name[row["category_id"]])
