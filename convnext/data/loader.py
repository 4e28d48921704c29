"""Which samples at which step, and how they reach the loop: order and randomness are pure functions of the position.

The order of an epoch is f(seed, epoch); a sample's augmentation is f(seed, epoch, index), and where balanced sampling
draws a sample again in the same epoch, of how often it was drawn before. So resuming needs no state but the step, and
neither the number of loader processes nor of devices changes what a sample looks like.
"""

from __future__ import annotations

import multiprocessing
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError
from ..recipes.recipe import micro_batches
from ..system import processes
from . import Batch
from .images import explained
from .source import Label, Source

Key = tuple[int, ...]  # (epoch, index into the source), and from a sample's second draw in an epoch on, its number


class Steps(Protocol):
    """Which samples at which step."""

    def steps(self, start: int, stop: int) -> Iterator[list[Key]]: ...


@dataclass(frozen=True)
class Order:
    """The samples of every optimiser step: whole batches only, a fresh order each epoch (the rest sits that one out).

    `weights` (one a sample) draws with replacement instead, for balanced sampling.
    """

    samples: int
    batch_size: int
    seed: int
    weights: tuple[float, ...] | None = None

    @property
    def steps_per_epoch(self) -> int:
        return self.samples // self.batch_size

    def epoch(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, epoch))
        if self.weights is None:
            return rng.permutation(self.samples)
        share = np.asarray(self.weights) / np.sum(self.weights)
        return rng.choice(self.samples, self.samples, p=share)

    def steps(self, start: int, stop: int) -> Iterator[list[Key]]:
        """The total batch of each step in [start, stop)."""
        current, order, before = -1, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        for step in range(start, stop):
            epoch, place = divmod(step, self.steps_per_epoch)
            if epoch != current:
                current, order = epoch, self.epoch(epoch)
                before = earlier_draws(order) if self.weights is not None else np.zeros_like(order)
            part = slice(place * self.batch_size, (place + 1) * self.batch_size)
            drawn = zip(order[part].tolist(), before[part].tolist(), strict=True)
            yield [(epoch, index, again) if again else (epoch, index) for index, again in drawn]


def earlier_draws(order: np.ndarray) -> np.ndarray:
    """(N,) indices in the order they are drawn -> (N,) how often each was drawn before its place."""
    by_index = np.argsort(order, kind="stable")
    grouped = order[by_index]
    first = np.searchsorted(grouped, grouped)  # where each index's draws begin
    before = np.empty_like(order)
    before[by_index] = np.arange(len(order)) - first
    return before


def share(batch: Sequence[Key], rank: int, world: int, micro_batch: int) -> list[list[Key]]:
    """This process's part of a total batch, cut into micro-batches of nearly equal size.

    Their number is the same on every process, which BatchNorm over all of them needs; but a process with fewer samples
    than that has one for each.
    """
    mine = np.array_split(np.arange(len(batch)), world)[rank]
    count = micro_batches(len(batch), world, micro_batch)
    return [[batch[int(i)] for i in part] for part in np.array_split(mine, count) if len(part)]


class Augmented(Dataset[tuple[Tensor, Label, str]]):
    """A source seen through a training transform; its randomness follows from the key."""

    def __init__(self, source: Source, transform_of: Callable[[int], Callable[..., Tensor]], seed: int) -> None:
        self.source, self.transform_of, self.seed = source, transform_of, seed  # the transform may depend on the epoch

    def __getitem__(self, key: Key) -> tuple[Tensor, Label, str]:
        epoch, index = key[:2]
        sample = self.source[index]
        rng = np.random.default_rng((self.seed, *key))
        with explained(sample.id):
            return self.transform_of(epoch)(sample.image, rng), sample.label, sample.id

    def __len__(self) -> int:
        return len(self.source)


class Plain(Dataset[tuple[Tensor, Label, str]]):
    """A source seen through an evaluation transform."""

    def __init__(self, source: Source, transform: Callable[..., Tensor]) -> None:
        self.source, self.transform = source, transform

    def __getitem__(self, index: int) -> tuple[Tensor, Label, str]:
        sample = self.source[index]
        with explained(sample.id):
            return self.transform(sample.image), sample.label, sample.id

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class Collate:
    """Rows -> Batch; multi-label rows become (N, K) multi-hot targets."""

    num_classes: int
    multi_label: bool = False

    def __call__(self, rows: list[tuple[Tensor, Label, str]]) -> Batch:
        images = torch.stack([row[0] for row in rows])
        ids = tuple(row[2] for row in rows)
        if not self.multi_label:
            return Batch(images, torch.tensor([row[1] for row in rows]), ids)
        targets = torch.zeros(len(rows), self.num_classes)
        for i, row in enumerate(rows):
            targets[i, list(cast(tuple[int, ...], row[1]))] = 1.0  # labels of several classes are tuples of them
        return Batch(images, targets, ids)


T = TypeVar("T")  # a sample, as a data set gives it
B = TypeVar("B")  # what is made of the samples of a micro-batch


@dataclass(frozen=True)
class StepLoader(Generic[T, B]):
    """The micro-batches of each step on one of `world` processes: the same samples in the same order on any number."""

    order: Steps
    collate: Callable[[list[T]], B]
    rank: int
    world: int
    micro_batch: int  # the largest
    workers: int
    pin: bool

    def __call__(self, dataset: Dataset[T], start: int, stop: int) -> Iterator[list[B]]:
        """Those of the steps in [start, stop), from a data set that is asked for samples by their keys."""

        def plan() -> Iterator[list[list[Key]]]:
            steps = self.order.steps(start, stop)
            return (share(keys, self.rank, self.world, self.micro_batch) for keys in steps)

        flat = (part for parts in plan() for part in parts)
        loaded = load(dataset, flat, self.collate, self.workers, pin=self.pin)
        for parts in plan():
            yield [next(loaded) for _ in parts]


def load(
    dataset: Dataset[T],
    batches: Iterable[list[Key]] | Iterable[list[int]],
    collate: Callable[[list[T]], B],
    workers: int,
    *,
    pin: bool = False,
) -> Iterator[B]:
    """Batches in the given order; `workers` processes prepare them ahead, 0 does it in this one."""
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_end_with_parent,
    )
    with warnings.catch_warnings():
        # Forking beside torch's threads draws a notice from 3.12 on; the workers run no torch operator in parallel.
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
        try:
            yield from loader
        except UserError as error:
            raise UserError(_own_words(str(error))) from None


def _end_with_parent(worker: int) -> None:
    """A loader process would notice some seconds later, and write a traceback into what is printed by then."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        processes.die_with(parent.pid)


def _own_words(message: str) -> str:
    """What a loader process's error said, without the traceback that torch wraps around it."""
    return re.split(r"\n[\w.]*(?:UserError|BadImage): ", message.rstrip())[-1]
