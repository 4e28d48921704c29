"""What the tasks of detection and segmentation have in common: two sources under a recipe, their training samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..data.keep_ratio import KeepRatio
from ..data.levels import Levels
from ..data.loader import Key, Order
from ..data.splits import Pictures
from ..recipes.recipe import Recipe
from ..training import Evaluator, R, Sink
from ..training.runtime import Runtime, default_workers


class DenseSource(Pictures, Protocol):
    """Pictures with what is to be found in them."""

    def within(self, levels: Levels | None) -> Self: ...


S = TypeVar("S", bound=DenseSource)


@dataclass
class DenseTask(ABC, Generic[S, R]):
    """One training and one validation source S under a recipe, on this process; R is what is found in a picture."""

    train: S
    val: S
    recipe: Recipe
    preprocess: KeepRatio
    run: Runtime
    order: Order = field(init=False)
    evaluator: Evaluator[R] = field(init=False)

    def __post_init__(self) -> None:
        self.train, self.val = (one.within(self.preprocess.levels) for one in (self.train, self.val))
        self.num_classes = len(self.val.classes)
        self.workers = default_workers(self.run.device) if self.recipe.workers is None else self.recipe.workers

    @staticmethod
    @abstractmethod
    def protocol(size: int) -> KeepRatio:
        """How pictures are judged; their short side becomes that long."""

    @classmethod
    def on(cls, train: S, val: S, recipe: Recipe, run: Runtime) -> Self:
        """The sources of a data set under a recipe."""
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

    def evaluate(self, model: nn.Module, sink: Sink[R] | None = None) -> dict[str, float]:
        """The evaluator's figures."""
        return self.evaluator.evaluate(model, sink)


class Sample(Protocol):
    """A picture with what is in it, as a source gives it."""

    @property
    def id(self) -> str: ...


A = TypeVar("A", bound=Sample)
A_co = TypeVar("A_co", bound=Sample, covariant=True)
Y = TypeVar("Y")


class Samples(Protocol[A_co]):
    """A source of samples by position."""

    def __getitem__(self, index: int) -> A_co: ...
    def __len__(self) -> int: ...


class Augmented(Dataset[tuple[Tensor, Y, str]], Generic[A, Y]):
    """Samples A through a training transform, each with its target Y; seed, epoch and position make the randomness."""

    def __init__(
        self, source: Samples[A], transform: Callable[[A, np.random.Generator], tuple[Tensor, Y]], seed: int
    ) -> None:
        self.source, self.transform, self.seed = source, transform, seed

    def __getitem__(self, key: Key) -> tuple[Tensor, Y, str]:
        epoch, index = key
        sample = self.source[index]
        image, target = self.transform(sample, np.random.default_rng((self.seed, epoch, index)))
        return image, target, sample.id

    def __len__(self) -> int:
        return len(self.source)
