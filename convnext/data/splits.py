"""Pictures and their splits, as the rooms see them that are for every task."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, Self, TypeVar

import numpy as np


class Pictures(Protocol):
    """The pictures of one split, whatever is known of them."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def ids(self) -> tuple[str, ...]:
        """Their names, unlike in one split."""

    @property
    def labels(self) -> Sequence[object]:
        """Something of each that changes with what is to be learned from it."""

    @property
    def names(self) -> Sequence[str]:
        """Names that tell splits apart: where `ids` do not hold it, their folder's name comes first."""

    @property
    def arrays(self) -> Sequence[np.ndarray] | None:
        """The pictures themselves, (H, W, 3) uint8 each, where they are in memory; else they are files."""

    @property
    def drawn(self) -> bool:
        """Whether they are made by formula as they are asked for: nobody else has one of them."""

    def __len__(self) -> int: ...

    def path(self, index: int) -> Path:
        """The file of a picture that is one."""

    def take(self, indices: Sequence[int]) -> Self:
        """The chosen ones, in the given order."""


Split = Literal["val", "train", "all", "test"]
S = TypeVar("S", bound=Pictures)
S_co = TypeVar("S_co", bound=Pictures, covariant=True)


@dataclass(frozen=True)
class Splits(Generic[S_co]):
    """What to learn from, what to choose the best weights by, and, where there is one, what to judge those on once.

    `note` says in a sentence how they came about. `val` is empty where all pictures are learned from.
    """

    train: S_co
    val: S_co
    name: str
    note: str
    test: S_co | None = None


def fingerprint(source: Pictures) -> str:
    """Hex digest of class names, sample names and labels: equal exactly when a run would see the same data set."""
    digest = hashlib.sha256("\0".join(source.classes).encode())
    for name, label in sorted(zip(source.ids, source.labels, strict=True)):
        digest.update(f"\0{name}\0{label}".encode())
    return digest.hexdigest()
