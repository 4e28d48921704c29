"""Regression: batches of pictures with numbers, the loss in units of their spread, evaluation over all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from ..data import Batch
from ..image_level.evaluator import ImageEvaluator
from ..image_level.task import ImageTask
from ..training import Metric, Sink
from .losses import regression_loss
from .metrics import result_of, rows_of
from .weights import TASK, protocol


def collate(rows: list[tuple[Tensor, tuple[float, ...], str]]) -> Batch:
    """Rows -> Batch with (N, T) float32 targets, not a number where one is missing."""
    images, values, ids = zip(*rows, strict=True)
    return Batch(torch.stack(images), torch.tensor(values, dtype=torch.float32), ids)


class RegressedImage(TypedDict):
    """What an evaluation found in one picture: (T,) numbers beside the true ones."""

    id: str
    target: np.ndarray
    prediction: np.ndarray


@dataclass
class RegressionEvaluator(ImageEvaluator):
    """Sets a regressor's numbers beside the true ones."""

    @property
    def collate(self) -> Callable[[list[Any]], Batch]:
        return collate

    @torch.inference_mode()
    def compared(self, model: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        """(N, T) predictions and true numbers of all pictures, in their order, on every process."""
        targets = len(self.source.classes)
        parts = [predicted.double().numpy() for _, predicted in self.answered(model)]
        mine = np.concatenate([np.empty((0, targets)), *parts])
        predicted = np.empty((len(self.source), targets))
        for rank, part in enumerate(self.run.gather(mine)):
            predicted[rank :: self.run.world] = part  # as the pictures are shared out
        return predicted, np.array(self.source.labels, dtype=np.float64).reshape(-1, targets)


@dataclass
class Regress(ImageTask):
    """One training and one validation source under a recipe, on this process."""

    evaluator: RegressionEvaluator = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.targets = self.val.classes
        self.num_classes = len(self.targets)
        values = np.array(self.train.labels, dtype=np.float64).reshape(-1, self.num_classes)
        self.mean, self.std = np.nanmean(values, 0), np.nanstd(values, 0)
        self.evaluator = RegressionEvaluator.under(self.recipe, self.val, self.preprocess, self.run)
        self.spread = torch.tensor(self.std, dtype=torch.float32, device=self.run.device)
        self.present = torch.tensor((~np.isnan(values)).mean(0), dtype=torch.float32, device=self.run.device)

    @property
    def collate(self) -> Callable[[list[Any]], Batch]:
        return collate

    protocol = staticmethod(protocol)

    @property
    def described(self) -> dict[str, str]:
        """What a checkpoint's metadata says of the task."""
        return {"task": TASK}

    @property
    def metric(self) -> Metric:
        return Metric("r2", unit="")

    def batches(self, start: int, stop: int) -> Iterator[list[Batch]]:
        """The micro-batches of each step."""
        return self.micro_batches(start, stop)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        predicted, kind = model(batch.images), self.recipe.regression.loss
        return {"loss": regression_loss(predicted, batch.targets, self.spread, kind, self.present)}

    def evaluate(self, model: nn.Module, sink: Sink[RegressedImage] | None = None) -> dict[str, float]:
        """R² and others over the validation set; every image counts once, on whatever process it lands."""
        predicted, true = self.evaluator.compared(model)
        if sink is not None:
            for name, said, value in zip(self.val.ids, predicted, true, strict=True):
                sink({"id": name, "target": value, "prediction": said})
        rows = rows_of(predicted, true, self.targets)
        own, numbers = torch.from_numpy(predicted), torch.from_numpy(true)
        present = (~numbers.isnan()).float().mean(0).clamp_min(1 / max(1, len(numbers)))
        loss = regression_loss(own, numbers, self.spread.cpu(), self.recipe.regression.loss, present)
        return {**result_of(rows, len(predicted)), "loss": float(loss) if len(numbers) else 0.0}
