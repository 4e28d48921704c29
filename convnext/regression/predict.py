"""A trained regressor at work: its figures on a folder, and its numbers for single pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from ..data.preprocess import Preprocess
from ..errors import UserError
from ..image_level.predict import NO_ANSWER, answered, require_pictures, views_of
from ..reports.intervals import flat
from ..system.tables import Row
from ..training import runtime
from ..training.run_folder import learned_by
from ..training.slice import EvaluateOptions, ImageIds, PredictOptions, Result
from ..weights.info import info_of
from .data import open_for_judging
from .metrics import intervals_of, result_of, rows_of
from .model import Regressor
from .task import RegressionEvaluator


@dataclass(frozen=True)
class RegressionPrediction:
    """The numbers of one image, in the units of the table that the model learned from."""

    path: str
    values: tuple[tuple[str, float], ...]  # of each target
    error: str | None = None  # why the file could not be read

    columns: ClassVar[tuple[str, ...]] = ("path", "target", "value", "error")
    faults_in_json: ClassVar[bool] = True

    def line(self) -> str:
        """For people."""
        return "  ".join(f"{name} {value:.6g}" for name, value in self.values)

    def table(self) -> list[Row]:
        """Of a table with `columns`."""
        return [{"path": self.path, "target": name, "value": value} for name, value in self.values]

    def json(self, image_ids: ImageIds) -> list[Row]:
        """Objects of a JSON array."""
        return [{"path": self.path, "error": self.error, "values": dict(self.values)}]


def unreadable(path: str, error: str) -> RegressionPrediction:
    """The answer for a file that cannot be read."""
    return RegressionPrediction(path, (), error)


def evaluate(model: Regressor, checkpoint: str | Path, data: str | Path | None, options: EvaluateOptions) -> Result:
    """A regressor's figures as `api.evaluate` has them; of several targets "targets" has a row for each."""
    require_pictures(model, checkpoint)
    preprocess = Preprocess.from_dict(info_of(model).preprocess)
    source, note = open_for_judging(
        data, names_of(model), split=options.split, labels=options.labels, learned=learned_by(model)
    )
    if options.say is not None:
        options.say(note)
    with runtime.start_judging(model, options.precision, options.say) as run:
        views, count = views_of(preprocess, options)
        evaluator = RegressionEvaluator(source, preprocess, run, options.batch_size, views=views, views_each=count)
        predicted, true = evaluator.compared(model.to(run.device).eval())
    if not np.isfinite(predicted).all():
        raise UserError(NO_ANSWER.format(checkpoint))
    rows = rows_of(predicted, true, source.classes)
    shown: list[Row] = []
    found: Result = {**result_of(rows, len(predicted)), "intervals": {}}
    for k, row in enumerate(rows):
        there = ~np.isnan(true[:, k])
        ends = intervals_of(predicted[there, k], true[there, k])
        if len(rows) == 1:
            found["intervals"] = ends
        shown.append(flat({**row, "intervals": ends}))
    if len(rows) > 1 or options.per_class:
        found["targets"] = shown
    return found


def names_of(model: Regressor) -> tuple[str, ...]:
    """The names of its targets."""
    assert model.targets is not None  # as of every model of `from_pretrained`
    return model.targets


def predict(
    model: Regressor, checkpoint: str | Path, paths: Sequence[str], options: PredictOptions
) -> Iterator[RegressionPrediction]:
    """Numbers for pictures, so many at once as the options say (None: what suits the device)."""
    require_pictures(model, checkpoint)
    return answered(model, paths, options, partial(_named, model), unreadable)


def _named(model: Regressor, paths: Sequence[str], numbers: Tensor) -> list[RegressionPrediction]:
    """The number of each target, for each picture."""
    return [
        RegressionPrediction(path, tuple(zip(names_of(model), row, strict=True)))
        for path, row in zip(paths, numbers.double().tolist(), strict=True)
    ]
