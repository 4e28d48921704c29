"""What the tasks of detection and segmentation have in common: two sources under a recipe, their training samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..data.keep_ratio import KeepRatio
from ..data.loader import Key
from ..training import Evaluator, R, Sink
from ..training.sources_task import S, SourcesTask


@dataclass
class DenseTask(SourcesTask[S, KeepRatio], Generic[S, R]):
    """A task whose answers are places in a picture; R is what is found in one."""

    evaluator: Evaluator[R] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.num_classes = len(self.val.classes)

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
