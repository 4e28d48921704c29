"""A folder of pictures and a table of numbers -> the pictures to learn from and to be judged on.

A source's `classes` are the names of the targets, a picture's label is the tuple of their values, not a number where
one is missing.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import cast

import numpy as np

from ..data import folders
from ..data.images import readable
from ..data.learned import NOTHING_LEARNED, LearnedBy, to_judge
from ..data.request import DataRequest
from ..data.source import Source, kept_for_the_end
from ..data.splits import Split, Splits
from ..errors import UserError
from ..image_level.hold_out import all_learned, by_hash, fold_note, held_out, pictures_of, require_both, require_fold
from ..image_level.table import TABLE_NAME, find_table
from .numbers_csv import NumberTable, read_numbers

SPREADS = 1e5  # standard deviations from zero at most: float32 has seven digits


def open_data(request: DataRequest, targets: tuple[str, ...] = ()) -> Splits[Source]:
    """The training and validation split of the pictures that a table names, and the test split where it marks one.

    A share is held out by the hash of the pictures' names where no row is marked as val; `targets` are the columns to
    learn (none: all of numbers). Raises UserError for whatever makes the data unfit.
    """
    if request.folds is not None and request.fold is not None:
        return _fold(request, request.fold, request.folds, targets)
    root, path, whole, table = _opened(request.data, request.labels, targets)
    everyone, splits = range(len(whole)), table.splits
    if splits is not None and request.test_chooses:
        splits = tuple("val" if split == "test" else split for split in splits)
    tested = [i for i in everyone if splits is not None and splits[i] == "test"]
    held = {i for i in everyone if splits is not None and splits[i] == "val"}
    test = whole.take(tested) if tested else None
    by_name = not held and (splits is None or bool(tested))  # what judges in the end must not choose the weights
    if by_name:
        others = sorted(set(everyone) - set(tested))
        held = set(held_out(whole.ids, others, request.val_fraction, 0))
        if not held and request.val_fraction:
            raise UserError(f"{path} has one picture, which cannot be both learned from and judged on; add more")
    train, val = sorted(set(everyone) - held - set(tested)), sorted(held)
    require_both(path, train, val, request.val_fraction)
    said = f"{len(train):,} training and {len(val):,} validation images"
    said += ", held out by their names" if by_name and val else ""
    said = said if val else all_learned(len(train))
    note = f"{readable(root)}: {said} ({path.name}: {table.understood}){kept_for_the_end(test)}"
    return Splits(_learnable(whole.take(train), path), whole.take(val), str(root), note, test)


def _learnable(train: Source, path: Path) -> Source:
    """The training pictures. Raises UserError where they have one value of a target, which others have not, or values
    that float32 cannot tell apart.
    """
    for k, name in enumerate(train.classes):
        there = {row[k] for row in cast(tuple[tuple[float, ...], ...], train.labels) if not math.isnan(row[k])}
        if len(there) < 2:
            same = f"{name!r} is {there.pop():g} in" if there else f"{name!r} is missing in"
            raise UserError(
                f"{path}: {same} each of the {len(train):,} training pictures, so there is nothing to learn"
            )
        largest, limits = max(map(abs, there)), np.finfo(np.float32)
        spread = float(np.std([value / largest for value in there])) * largest
        if largest > float(limits.max) or spread < float(limits.tiny) or largest > SPREADS * spread:
            raise UserError(
                f"{path}: the numbers of {name!r} are up to {largest:.3g} and differ by about {spread:.3g}, which "
                "float32 does not hold; take another unit, or the difference from a common value"
            )
    return train


def _fold(request: DataRequest, fold: int, folds: int, targets: tuple[str, ...]) -> Splits[Source]:
    """As `val` one of so many parts of equal size (from 1), as `train` all others."""
    require_fold(fold, folds)
    root, path, whole, table = _opened(request.data, request.labels, targets)
    if table.splits is not None:
        raise UserError(f"{path} has a split of its own; --folds divides a table that has none")
    if len(whole) < folds:
        raise UserError(f"--folds {folds}: {path} names {len(whole)} pictures, and each fold needs one")
    ordered = by_hash(whole.ids, range(len(whole)), 0)
    held = sorted(i for place, i in enumerate(ordered) if place % folds == fold - 1)
    train = sorted(set(ordered) - set(held))
    note = f"{readable(root)}: {fold_note(fold, folds, train, held)}"
    return Splits(_learnable(whole.take(train), path), whole.take(held), str(root), note)


def open_for_judging(
    where: str | Path | None,
    targets: tuple[str, ...],
    *,
    split: Split = "val",
    labels: str | Path | None = None,
    learned: LearnedBy = NOTHING_LEARNED,
) -> tuple[Source, str]:
    """The pictures to judge a model of these `targets` on, and a sentence that says which they are.

    Of a table without a split all count that the model has not `learned` from. Raises UserError when there
    is no such split, no picture is left, or the table lacks a target.
    """
    known = learned.known
    root, path, whole, table = _opened(where, labels, targets, judged=True)
    place = f"{readable(root)} ({path.name})"
    if table.splits is None:
        if split == "test":
            raise UserError(f"{path} marks no row as test; choose --split val, train or all")
        note = f"all {len(whole):,} images of {place}"
        if split == "all" or known is None:
            return whole, note
        chosen, said = to_judge(known, whole, split, place, note)
        return whole.take(chosen), said
    if split == "all":
        raise UserError(f"{path} has a split of its own; choose --split val or --split train")
    there = set(table.splits)
    wanted = "test" if split == "val" and "val" not in there and "test" in there else split
    mine = [i for i, own in enumerate(table.splits) if own == wanted]
    if not mine:
        raise UserError(f"{path} marks no row as {split}; choose one of --split {', '.join(sorted(there))}")
    source = whole.take(mine)
    note = f"the {len(mine):,} images of the {wanted} split of {place}"
    if known is None or split == "train":
        return source, note
    chosen, said = to_judge(known, source, split, f"the {wanted} split of {place}", note)
    return source.take(chosen), said


def _opened(
    where: str | Path | None, labels: str | Path | None, targets: tuple[str, ...], *, judged: bool = False
) -> tuple[Path, Path, Source, NumberTable]:
    """The folder, its table, all pictures of the table, and what it says."""
    if where is None:
        raise UserError(f"regress needs pictures with numbers: pass a folder with a {TABLE_NAME}")
    root = Path(os.path.expanduser(str(where)))
    folders.require_folder(root)
    path = find_table(root) if labels is None else Path(labels).expanduser()
    if path is None:
        raise UserError(f"{readable(root)} has no {TABLE_NAME} that names its pictures; name the table by --labels")
    table = read_numbers(path, root, targets, judged=judged)
    whole = pictures_of(root, path, table.paths, table.targets, table.values)
    return root, path, whole, table
