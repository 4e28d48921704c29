"""The Task protocol: all that the training loop knows about a problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

Sink = Callable[[dict[str, Any]], None]


class MicroBatch(Protocol):
    """What the loop needs of a batch: where to move it, and the names of its samples for an error message."""

    @property
    def ids(self) -> Sequence[str]: ...

    def to(self, device: torch.device, *, channels_last: bool = False) -> Any: ...


class Metric(NamedTuple):
    """A figure of an evaluation, which way it gets better, and its unit, "" of one without."""

    name: str
    direction: Literal["max", "min"] = "max"
    unit: str = "%"


class Task(Protocol):
    """Batches in, losses and metrics out."""

    @property
    def metric(self) -> Metric:
        """The figure that decides which checkpoint is best."""

    @property
    def steps_per_epoch(self) -> int: ...

    def batches(self, start: int, stop: int) -> Iterator[Sequence[MicroBatch]]:
        """For each optimiser step in [start, stop): this process's micro-batches."""

    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Named scalar losses, each a mean over the micro-batch; the loop sums them."""

    def evaluate(self, model: nn.Module, sink: Sink | None = None) -> dict[str, float]:
        """Metrics over the whole validation set, each sample counted once over all processes."""
