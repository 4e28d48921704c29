"""What answers of whole pictures are learned and judged by, whatever they are: order, augmentation, evaluation batches.

A task of a slice is an `ImageTask` with its losses and its counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..data import Batch
from ..data.loader import Augmented, Order, Plain, load
from ..data.preprocess import Preprocess
from ..data.source import Source
from ..data.splits import Splits
from ..recipes.progressive import training_size
from ..recipes.recipe import Recipe
from ..training.runtime import Runtime, default_workers, out_of_memory
from .setup import sources
from .transforms import TrainTransform

LEAST_EVALUATED, MOST_EVALUATED = 32, 256  # images of an evaluation batch; without gradients, twice as many fit
EVALUATED_ALONE = 512  # images that one process prepares for an evaluation


@dataclass
class ImageTask(ABC):
    """One training and one validation source under a recipe, on this process."""

    train: Source
    val: Source
    recipe: Recipe
    preprocess: Preprocess
    run: Runtime
    eval_batch: int | None = None  # None: the recipe's
    views: Callable[..., Tensor] | None = None  # image -> (V, 3, S, S); None: the one view of the protocol
    views_each: int = 1
    order: Order = field(init=False)

    def __post_init__(self) -> None:
        self.train, self.val = (one.within(self.preprocess.levels) for one in (self.train, self.val))
        recipe = self.recipe
        self.order = Order(len(self.train), recipe.batch_size, recipe.seed, self.sample_weights())
        share = -(-recipe.batch_size // self.run.world)
        derived = min(MOST_EVALUATED, max(LEAST_EVALUATED, 2 * min(recipe.micro_batch or share, share)))
        self.eval_batch_size = max(1, (self.eval_batch or recipe.eval_batch or derived) // self.views_each)
        self.workers = default_workers(self.run.device) if recipe.workers is None else recipe.workers

    @property
    @abstractmethod
    def collate(self) -> Callable[[list[Any]], Batch]:
        """Rows of a picture, its label and its name -> a batch."""

    def sample_weights(self) -> tuple[float, ...] | None:
        """How often each picture is drawn, over the others; None: each once an epoch."""
        return None

    @staticmethod
    def protocol(size: int) -> Preprocess:
        """How pictures are judged at a size."""
        return Preprocess.for_size(size)

    @classmethod
    def on(cls, splits: Splits[Source], recipe: Recipe, run: Runtime) -> Self:
        """The sources of a data set under a recipe."""
        train, val = sources(splits, recipe, run)
        return cls(train, val, recipe, replace(cls.protocol(recipe.image_size), levels=recipe.levels), run)

    def under(self, recipe: Recipe) -> Self:
        """The same pictures under another recipe, shown at its size."""
        preprocess = replace(self.protocol(recipe.image_size), levels=self.preprocess.levels)
        return replace(self, recipe=recipe, preprocess=preprocess)

    @property
    def steps_per_epoch(self) -> int:
        return self.order.steps_per_epoch

    def micro_batches(self, start: int, stop: int) -> Iterator[list[Batch]]:
        """This process's micro-batches of each step; same samples in the same order on any number of processes."""
        micro = self.recipe.micro_batch or self.recipe.batch_size
        dataset = Augmented(self.train, self.transform_of, self.recipe.seed)
        return self.run.step_loader(self.order, self.collate, micro, self.workers)(dataset, start, stop)

    def transform_of(self, epoch: int) -> TrainTransform:
        """The training transform of an epoch: with `progressive`, early epochs see smaller pictures."""
        recipe, size = self.recipe, self.recipe.image_size
        if recipe.steps is not None and recipe.progressive < 1:
            # By the epoch's end, so that the last one has the full size however short the run is.
            size = training_size(recipe, (epoch + 1) * self.steps_per_epoch / recipe.steps)
        return TrainTransform(recipe.augment, size, self.preprocess.mean, self.preprocess.std)

    def answered(self, model: nn.Module) -> Iterator[tuple[Batch, Tensor]]:
        """This process's share of the validation set, each image once, with the answers of `model`, on the CPU."""
        for batch in self._eval_batches():
            batch = batch.to(self.run.device, channels_last=self.recipe.channels_last and self.views is None)
            yield batch, self._in_parts(model, batch.images).cpu()

    def answers(self, model: nn.Module, images: Tensor) -> Tensor:
        """(N, 3, S, S) or (N, V, 3, S, S) -> (N, K); views of one image are averaged."""
        shape = images.shape[:-3]
        with self.run.autocast():
            outputs = model(images.flatten(0, -4)).float()
        values = self.meaning(outputs)
        return values.unflatten(0, shape).flatten(1, -2).mean(1) if len(shape) > 1 else values

    def meaning(self, outputs: Tensor) -> Tensor:
        """(N, K) outputs of the network as what is averaged over views: probabilities of logits."""
        return outputs

    def _in_parts(self, model: nn.Module, images: Tensor) -> Tensor:
        """`answers` of a batch, in halves from then on where memory does not suffice for the whole."""
        if len(images) <= self.eval_batch_size:
            try:
                return self.answers(model, images)
            except RuntimeError as error:
                if not out_of_memory(error) or len(images) == 1:
                    raise
                self.eval_batch_size = len(images) // 2
        return torch.cat([self._in_parts(model, part) for part in images.split(self.eval_batch_size)])

    def _eval_batches(self) -> Iterator[Batch]:
        mine = list(range(self.run.rank, len(self.val), self.run.world))
        size = self.eval_batch_size
        chunks: Sequence[list[int]] = [mine[i : i + size] for i in range(0, len(mine), size)]
        transform = self.views or self.preprocess
        # Of few images the processes would take longer to start than to prepare them.
        workers = min(self.workers, len(chunks)) if len(mine) * self.views_each > EVALUATED_ALONE else 0
        return load(Plain(self.val, transform), chunks, self.collate, workers)
