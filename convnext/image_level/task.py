"""What answers of whole pictures are learned by, whatever they are: sources, order, augmentation.

A task of a slice is an `ImageTask` with its losses, and the evaluator of its answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

from ..data import Batch
from ..data.loader import Augmented, Order
from ..data.preprocess import Preprocess
from ..data.source import Source
from ..data.splits import Splits
from ..recipes.progressive import training_size
from ..recipes.recipe import Recipe
from ..training.runtime import Runtime, default_workers
from .evaluator import ImageEvaluator
from .setup import sources
from .transforms import TrainTransform


@dataclass
class ImageTask(ABC):
    """One training and one validation source under a recipe, on this process."""

    train: Source
    val: Source
    recipe: Recipe
    preprocess: Preprocess
    run: Runtime
    order: Order = field(init=False)
    evaluator: ImageEvaluator = field(init=False)

    def __post_init__(self) -> None:
        self.train, self.val = (one.within(self.preprocess.levels) for one in (self.train, self.val))
        recipe = self.recipe
        self.order = Order(len(self.train), recipe.batch_size, recipe.seed, self.sample_weights())
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

    def alone(self) -> None:
        """From here on this process judges all pictures by itself: the others are gone."""
        self.run = self.evaluator.run = replace(self.run, world=1)

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
