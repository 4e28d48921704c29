"""A trained regressor at work: its figures on a folder, and its numbers for single pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from ..data.preprocess import Preprocess
from ..errors import UserError
from ..image_level.predict import NO_ANSWER, answered, require_pictures, views_of
from ..recipes.recipe import Recipe
from ..reports.intervals import flat
from ..training import runtime
from ..training.run_folder import learned_by
from ..training.slice import EvaluateOptions, PredictOptions, Rows
from .data import open_for_judging
from .metrics import intervals_of, result_of, rows_of
from .task import Regress


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

    def table(self) -> Rows:
        """Of a table with `columns`."""
        return [{"path": self.path, "target": name, "value": value} for name, value in self.values]

    def json(self, image_ids: Mapping[str, Any]) -> Rows:
        """Objects of a JSON array."""
        return [{"path": self.path, "error": self.error, "values": dict(self.values)}]


def unreadable(path: str, error: str) -> RegressionPrediction:
    """The answer for a file that cannot be read."""
    return RegressionPrediction(path, (), error)


def evaluate(model: Any, checkpoint: str | Path, data: str | Path | None, options: EvaluateOptions) -> dict[str, Any]:
    """A regressor's figures as `api.evaluate` has them; of several targets "targets" has a row for each."""
    require_pictures(model, checkpoint)
    preprocess = Preprocess.from_dict(model.preprocess)
    source, note = open_for_judging(
        data, tuple(model.classes), split=options.split, labels=options.labels, **learned_by(model)
    )
    if options.say is not None:
        options.say(note)
    with runtime.start_judging(model, options.precision, options.say) as run:
        recipe = Recipe(task="regress", image_size=preprocess.size, batch_size=1)
        several, count = views_of(preprocess, options)
        task = Regress(
            source, source, recipe, preprocess, run, eval_batch=options.batch_size, views=several, views_each=count
        )
        predicted, true = task.compared(model.to(run.device).eval())
    if not np.isfinite(predicted).all():
        raise UserError(NO_ANSWER.format(checkpoint))
    rows = rows_of(predicted, true, source.classes)
    found: dict[str, Any] = {**result_of(rows, len(predicted)), "intervals": {}}
    for k, row in enumerate(rows):
        there = ~np.isnan(true[:, k])
        ends = intervals_of(predicted[there, k], true[there, k])
        if len(rows) == 1:
            found["intervals"] = ends
        rows[k] = flat({**row, "intervals": ends})
    if len(rows) > 1 or options.per_class:
        found["targets"] = rows
    return found


def predict(
    model: Any, checkpoint: str | Path, paths: Sequence[str], options: PredictOptions
) -> Iterator[RegressionPrediction]:
    """Numbers for pictures, so many at once as the options say (None: what suits the device)."""
    require_pictures(model, checkpoint)
    return answered(model, paths, options, partial(_named, model), unreadable)


def _named(model: Any, paths: Sequence[str], numbers: Tensor) -> list[RegressionPrediction]:
    """The number of each target, for each picture."""
    return [
        RegressionPrediction(path, tuple(zip(model.classes, row, strict=True)))
        for path, row in zip(paths, numbers.double().tolist(), strict=True)
    ]
