"""Which pictures of a folder or table are held out: by their names alone, so that other files move hardly any."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from ..data.images import readable
from ..data.source import FileReader, Label, Source, listed, typical_size
from ..errors import UserError


def held_out(ids: Sequence[str], members: Sequence[int], fraction: float, seed: int) -> list[int]:
    """The members whose names hash lowest; each name's rank is its own affair. At least one, but never the only one.

    Raises UserError for a share that is none.
    """
    if not 0 <= fraction < 1:
        raise UserError(f"val_fraction {fraction} must be at least 0 (learn from all) and below 1")
    if not fraction:
        return []
    count = min(len(members) - 1, max(1, round(fraction * len(members))))
    return by_hash(ids, members, seed)[: max(0, count)]


def by_hash(ids: Sequence[str], members: Sequence[int], seed: int) -> list[int]:
    """The members in an order that looks like chance and follows from their names."""
    return sorted(members, key=lambda i: hashlib.sha256(f"{seed}\0{ids[i]}".encode()).digest())


def all_learned(count: int) -> str:
    """What is said where nothing is held out."""
    return f"all {count:,} images are learned from, so nothing says which weights are best: the last ones are published"


def pictures_of(
    root: Path, table: Path, paths: tuple[str, ...], classes: tuple[str, ...], labels: tuple[Label, ...]
) -> Source:
    """All pictures that a table names, with its labels. Raises UserError where one is not there."""
    if missing := [one for one in paths if not os.path.isfile(root / one)]:
        raise UserError(f"{table} names files that are not in {readable(root)}: {listed(missing)}")
    return Source(classes, labels, tuple(map(readable, paths)), FileReader(root, paths), typical_size(root, paths))


def require_both(table: Path, train: Sequence[int], val: Sequence[int], fraction: float) -> None:
    """UserError where a table's own split leaves nothing to learn from, or nothing to judge on."""
    if not train or (not val and fraction):
        lack = "validation" if train else "training"
        raise UserError(f"{table} leaves the {lack} split empty; mark rows as train and val in its split column")
