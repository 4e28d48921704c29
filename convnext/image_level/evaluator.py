"""What a network answers for whole pictures: each one once, on whatever process it lands.

An evaluator of a slice is an `ImageEvaluator` with its counts. A run's task holds one; a checkpoint is judged by one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..data import Batch
from ..data.loader import Plain, load
from ..data.preprocess import Preprocess
from ..data.source import Source
from ..recipes.recipe import Recipe
from ..training.runtime import Runtime, default_workers, out_of_memory
from .predict import Views

LEAST_EVALUATED, MOST_EVALUATED = 32, 256  # images of an evaluation batch; without gradients, twice as many fit
EVALUATED_ALONE = 512  # images that one process prepares for an evaluation


@dataclass
class ImageEvaluator(ABC):
    """Pictures, how they are shown, and this process's share of them.

    `batch`: images at once; where memory does not suffice for them, half as many from then on. `workers`: loader
    processes, None for what the machine has. `views`: what is averaged of each picture, None for the one view of
    `preprocess`.
    """

    source: Source
    preprocess: Preprocess
    run: Runtime
    batch: int = MOST_EVALUATED
    workers: int | None = None
    channels_last: bool = True
    views: Views | None = None
    views_each: int = 1

    def __post_init__(self) -> None:
        self.source = self.source.within(self.preprocess.levels)
        self.batch = max(1, self.batch // self.views_each)

    @classmethod
    def under(cls, recipe: Recipe, source: Source, preprocess: Preprocess, run: Runtime) -> Self:
        """As a run evaluates: no more memory than its steps take."""
        share = -(-recipe.batch_size // run.world)
        derived = min(MOST_EVALUATED, max(LEAST_EVALUATED, 2 * min(recipe.micro_batch or share, share)))
        batch = recipe.eval_batch or derived
        return cls(source, preprocess, run, batch, recipe.workers, recipe.channels_last)

    @property
    @abstractmethod
    def collate(self) -> Callable[[list[Any]], Batch]:
        """Rows of a picture, its label and its name -> a batch."""

    def meaning(self, outputs: Tensor) -> Tensor:
        """(N, K) outputs of the network as what is averaged over views: probabilities of logits."""
        return outputs

    def answered(self, model: nn.Module) -> Iterator[tuple[Batch, Tensor]]:
        """This process's share of the pictures, each once, with the answers of `model`, on the CPU."""
        for batch in self._batches():
            batch = batch.to(self.run.device, channels_last=self.channels_last and self.views is None)
            yield batch, self._in_parts(model, batch.images).cpu()

    def answers(self, model: nn.Module, images: Tensor) -> Tensor:
        """(N, 3, S, S) or (N, V, 3, S, S) -> (N, K); views of one image are averaged."""
        shape = images.shape[:-3]
        with self.run.autocast():
            outputs = model(images.flatten(0, -4)).float()
        values = self.meaning(outputs)
        return values.unflatten(0, shape).flatten(1, -2).mean(1) if len(shape) > 1 else values

    def _in_parts(self, model: nn.Module, images: Tensor) -> Tensor:
        """`answers` of a batch, in halves from then on where memory does not suffice for the whole."""
        if len(images) <= self.batch:
            try:
                return self.answers(model, images)
            except RuntimeError as error:
                if not out_of_memory(error) or len(images) == 1:
                    raise
                self.batch = len(images) // 2
        return torch.cat([self._in_parts(model, part) for part in images.split(self.batch)])

    def _batches(self) -> Iterator[Batch]:
        mine = list(range(self.run.rank, len(self.source), self.run.world))
        chunks: Sequence[list[int]] = [mine[i : i + self.batch] for i in range(0, len(mine), self.batch)]
        workers = default_workers(self.run.device) if self.workers is None else self.workers
        # Of few images the processes would take longer to start than to prepare them.
        workers = min(workers, len(chunks)) if len(mine) * self.views_each > EVALUATED_ALONE else 0
        return load(Plain(self.source, self.views or self.preprocess), chunks, self.collate, workers)
