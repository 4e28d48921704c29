"""Is this folder fit to train on? The table is read, every file is opened, every picture compared with every other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..data import folders
from ..data.duplicates import Picture, inspected, levels_of, repeated
from ..data.images import readable
from ..data.report import SEVERITIES, FolderReport, Problem, of_test
from ..errors import UserError
from ..image_level.table import TABLE_NAME, find_table
from ..training.slice import CheckRequest
from .numbers_csv import NumberTable, read_numbers

FAR_OUT = 6.0  # times the middle half's width from its ends: a slip of the pen rather than a rare thing
LEAST_ROWS = 20  # of which that can be said


def check(asked: CheckRequest) -> FolderReport:
    """The report on a folder with a table of numbers; the counts are of the numbers that are there."""
    root = asked.root
    folders.require_folder(root)
    path = find_table(root) if asked.labels is None else Path(asked.labels).expanduser()
    try:
        if path is None:
            raise UserError(f"{readable(root)} has no {TABLE_NAME} that names its pictures")
        table = read_numbers(path, root)
    except UserError as error:
        name = TABLE_NAME if path is None else path.name
        return FolderReport(readable(asked.where), {}, [Problem("bad table", name, str(error))])
    splits = table.splits or ("all",) * len(table.paths)
    pictures = [
        Picture(split, _said(table, i), root / name, readable(name))
        for i, (split, name) in enumerate(zip(splits, table.paths, strict=True))
    ]
    levels, said = levels_of([picture for picture in pictures if picture.split in ("train", "all")])
    facts = inspected(pictures, asked.progress, asked.tell, levels)
    read = Problem("reading", ".", f"{path.name}: {table.understood}")
    problems = [read, *said, *_missing_splits(table, path), *_far_out(table)]
    aside = {"test"} if set(splits) - {"test"} else set()
    problems += [
        of_test(problem) if picture.split in aside else problem
        for picture, fact in zip(pictures, facts, strict=True)
        for problem in fact.problems
    ]
    problems += repeated(pictures, facts)
    counts = {split: dict.fromkeys(table.targets, 0) for split in sorted(set(splits))}
    for split, values in zip(splits, table.values, strict=True):
        for name, value in zip(table.targets, values, strict=True):
            counts[split][name] += not math.isnan(value)
    return FolderReport(
        readable(asked.where),
        counts,
        sorted(problems, key=lambda problem: SEVERITIES.index(problem.severity)),
        unit="numbers",
        images={split: splits.count(split) for split in counts},
        called=("target", "targets"),
    )


def _said(table: NumberTable, i: int) -> str:
    return "; ".join(f"{value:g}" for value in table.values[i])


def _missing_splits(table: NumberTable, path: Path) -> Iterator[Problem]:
    for split in ("train", "val"):
        if table.splits and split not in table.splits and not (split == "val" and "test" in table.splits):
            yield Problem("missing split", ".", f"{path.name} marks no row as {split}")


def _far_out(table: NumberTable) -> Iterator[Problem]:
    """Numbers far from all others, which a slip of the pen makes, and which a mean of squares follows."""
    values = np.array(table.values)
    for k, name in enumerate(table.targets):
        own = values[~np.isnan(values[:, k]), k]
        low, high = np.percentile(own, [25, 75]) if len(own) >= LEAST_ROWS else (0.0, 0.0)
        if not high > low:
            continue
        reach = FAR_OUT * (high - low)
        for i in np.flatnonzero((values[:, k] < low - reach) | (values[:, k] > high + reach)):
            detail = f"{name} is {values[i, k]:g}, where half of all lie between {low:g} and {high:g}"
            yield Problem("far out", readable(table.paths[i]), detail)
