"""labels.csv: pictures that carry several labels each."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .folders import TEST_NAMES, TRAIN_NAMES, VAL_NAMES

TABLE_NAME = "labels.csv"
SPLITS = {**dict.fromkeys(TRAIN_NAMES, "train"), **dict.fromkeys(VAL_NAMES, "val"), **dict.fromkeys(TEST_NAMES, "test")}
YES_NO = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}
NOT_CLASSES = {"path", "split", ""}  # columns; the nameless one is a row number, as pandas writes it

Row = dict[str, str]


@dataclass(frozen=True)
class LabelTable:
    """One entry a picture: its path, the positions of its labels in `classes`, its split where the table says one."""

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    splits: tuple[str, ...] | None  # "train" | "val" | "test"


def find_table(root: Path) -> Path | None:
    """The labels.csv of a folder, if it has one that names pictures by a column `path`."""
    table = root / TABLE_NAME
    return table if os.path.isfile(table) and "path" in _read(table)[0] else None


def read_table(table: Path) -> LabelTable:
    """Columns `path` and `labels` (names between ; or |), or one column of 0 and 1 a class; optional: `split`.

    Raises UserError, naming the row, for anything else.
    """
    header, rows = _read(table)
    if "path" not in header or len(set(header) - NOT_CLASSES) < 1:
        raise UserError(f"{table} needs a header: 'path', then 'labels' or one column of 0 and 1 a class")
    names = [_names(row, table, number) for number, row in enumerate(rows, start=2)]
    columns = [] if "labels" in header else [column for column in header if column not in NOT_CLASSES]
    classes = tuple(columns or sorted(set().union(*names)))
    if len(classes) < 2:
        raise UserError(f"{table} has {len(classes) or 'no'} class; a classifier needs at least two")
    paths = tuple(row["path"] for row in rows)
    if len(set(paths)) < len(paths):
        twice = Counter(paths).most_common(1)[0][0]
        raise UserError(f"{table} lists {twice!r} more than once; join its labels in one row")
    place = {name: i for i, name in enumerate(classes)}
    labels = tuple(tuple(sorted(place[name] for name in one)) for one in names)
    return LabelTable(classes, paths, labels, _splits(rows, table) if "split" in header else None)


def _read(table: Path) -> tuple[Sequence[str], list[Row]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, restkey="", restval="")
            rows = list(reader)
            return reader.fieldnames or (), rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} cannot be read as a CSV table ({error}); give a UTF-8 file with a header") from None


def _names(row: Row, table: Path, number: int) -> set[str]:
    if "labels" in row:
        return {part.strip() for part in row["labels"].replace("|", ";").split(";")} - {""}
    chosen = set()
    for column, cell in row.items():
        if column in NOT_CLASSES:
            continue
        if cell.strip().lower() not in YES_NO:
            raise UserError(f"row {number} of {table}: {column!r} is {cell!r}, expected 0 or 1")
        if YES_NO[cell.strip().lower()]:
            chosen.add(column)
    return chosen


def _splits(rows: list[Row], table: Path) -> tuple[str, ...]:
    for number, row in enumerate(rows, start=2):
        if row["split"].strip().lower() not in SPLITS:
            raise UserError(f"row {number} of {table}: split is {row['split']!r}, expected {' or '.join(SPLITS)}")
    return tuple(SPLITS[row["split"].strip().lower()] for row in rows)
