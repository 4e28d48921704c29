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


def require_fold(fold: int, folds: int) -> None:
    """UserError where there is no such fold, or only one."""
    if folds < 2:
        raise UserError(f"--folds {folds}: one part is judged by what learned from the others; choose at least 2")
    if not 1 <= fold <= folds:
        raise UserError(f"there is no fold {fold} of {folds}; choose from 1 to {folds}")


def fold_note(fold: int, folds: int, train: Sequence[int], held: Sequence[int]) -> str:
    """What is said of one fold."""
    return f"fold {fold} of {folds}, {len(train):,} images to learn from and {len(held):,} to judge on"


def tell_little(count: int, least: int, how: str, split: str) -> list[str]:
    """What is said where fewer pictures than `least` are held out: `how` little they tell, and what allows folds."""
    if not 0 < count < least:
        return []
    pictures = "1 held-out picture tells" if count == 1 else f"{count} held-out pictures tell"
    return [f"{pictures} little{how}hold out more, or judge each picture once by --folds 5, which {split} allows"]


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
