"""The Task protocol: all that the training loop knows about a problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .runtime import Runtime

B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Sink = Callable[[R], None]  # takes what an evaluation found in each picture


class MicroBatch(Protocol[B_co]):
    """What the loop needs of a batch: where to move it, and the names of its samples for an error message."""

    @property
    def ids(self) -> Sequence[str]: ...

    def to(self, device: torch.device, *, channels_last: bool = False) -> B_co: ...


class Metric(NamedTuple):
    """A figure of an evaluation, which way it gets better, and its unit, "" of one without."""

    name: str
    direction: Literal["max", "min"] = "max"
    unit: str = "%"


class Evaluator(Protocol[R_co]):
    """Judges a model on pictures; a record R of each."""

    run: Runtime  # where, beside how many others

    def evaluate(self, model: nn.Module, sink: Sink[R_co] | None = None) -> dict[str, float]:
        """Metrics over all pictures, each counted once over all processes."""


class Task(Protocol[B, R_co]):
    """Batches B in, losses and metrics out; a record R of each picture that is judged."""

    @property
    def metric(self) -> Metric:
        """The figure that decides which checkpoint is best."""

    @property
    def steps_per_epoch(self) -> int: ...

    def batches(self, start: int, stop: int) -> Iterator[Sequence[MicroBatch[B]]]:
        """For each optimiser step in [start, stop): this process's micro-batches."""

    def losses(self, model: nn.Module, batch: B) -> dict[str, Tensor]:
        """Named scalar losses, each a mean over the micro-batch; the loop sums them."""

    def evaluate(self, model: nn.Module, sink: Sink[R_co] | None = None) -> dict[str, float]:
        """Metrics over the whole validation set, each sample counted once over all processes."""
