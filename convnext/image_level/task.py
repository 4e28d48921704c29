"""What answers of whole pictures are learned by, whatever they are: sources, order, augmentation.

A task of a slice is an `ImageTask` with its losses, and the evaluator of its answers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from ..data import Batch
from ..data.loader import Augmented, Order
from ..data.preprocess import Preprocess
from ..data.source import Source
from ..data.splits import Splits
from ..recipes.progressive import training_size
from ..recipes.recipe import Recipe
from ..training.runtime import Runtime
from ..training.sources_task import SourcesTask
from .evaluator import ImageEvaluator
from .setup import sources
from .transforms import TrainTransform


@dataclass
class ImageTask(SourcesTask[Source, Preprocess]):
    """One training and one validation source under a recipe, on this process."""

    evaluator: ImageEvaluator = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.order = Order(len(self.train), self.recipe.batch_size, self.recipe.seed, self.sample_weights())

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
        return cls.of(train, val, recipe, run)

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
