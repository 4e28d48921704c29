"""What every task of a run holds: two sources under a recipe, how their pictures are shown, this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, Self, TypeVar

from ..data.keep_ratio import KeepRatio
from ..data.levels import Levels
from ..data.loader import Order
from ..data.preprocess import Preprocess
from ..data.splits import Pictures
from ..recipes.recipe import Recipe
from .runtime import Runtime, default_workers


class LevelledPictures(Pictures, Protocol):
    """Pictures, those of more than 8 bits read from chosen levels."""

    def within(self, levels: Levels | None) -> Self: ...


class OnProcess(Protocol):
    """What is done on this process, beside its siblings."""

    run: Runtime


S = TypeVar("S", bound=LevelledPictures)
X = TypeVar("X", Preprocess, KeepRatio)


@dataclass
class SourcesTask(ABC, Generic[S, X]):
    """One training and one validation source S under a recipe, on this process, shown as X says."""

    train: S
    val: S
    recipe: Recipe
    preprocess: X
    run: Runtime
    order: Order = field(init=False)
    evaluator: OnProcess = field(init=False)

    def __post_init__(self) -> None:
        self.train, self.val = (one.within(self.preprocess.levels) for one in (self.train, self.val))
        self.workers = default_workers(self.run.device) if self.recipe.workers is None else self.recipe.workers

    @staticmethod
    @abstractmethod
    def protocol(size: int) -> X:
        """How pictures are judged at a size."""

    @classmethod
    def of(cls, train: S, val: S, recipe: Recipe, run: Runtime) -> Self:
        """Two sources under a recipe, shown at its size."""
        return cls(train, val, recipe, replace(cls.protocol(recipe.image_size), levels=recipe.levels), run)

    def under(self, recipe: Recipe) -> Self:
        """The same pictures under another recipe, shown at its size."""
        preprocess = replace(self.protocol(recipe.image_size), levels=self.preprocess.levels)
        return replace(self, recipe=recipe, preprocess=preprocess)

    def alone(self) -> None:
        """From here on this process judges all pictures by itself: the others are gone."""
        self.run = self.evaluator.run = replace(self.run, world=1)

    @property
    def steps_per_epoch(self) -> int:
        return self.order.steps_per_epoch
