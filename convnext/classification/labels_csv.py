"""A table of labels: pictures with one class each, or with several labels each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..data.source import listed
from ..errors import UserError
from ..image_level.table import FIRST_ROW, Row, found_below, read_rows

YES_NO = {"1": True, "1.0": True, "true": True, "yes": True,
          "0": False, "0.0": False, "false": False, "no": False, "": False}  # fmt: skip
SEVERAL = "labels"
ONE_NAMES = ("label", "class", "category", "target", "label_name", "class_name", "class_label")
BETWEEN = "|", ";"  # labels of one picture


@dataclass(frozen=True)
class LabelTable:
    """One entry a picture: its path, the positions of its labels in `classes`, its split where the table says one."""

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    splits: tuple[str, ...] | None  # "train" | "val" | "test"
    single: bool = False  # every picture is of one class
    understood: str = ""  # which columns were read as what


def read_table(table: Path, root: Path | None = None) -> LabelTable:
    """Columns of paths and of labels, and optionally `split`; the labels are

    * `labels`: names between ; or |, several a picture;
    * `label` (or class, category, target), or the only column there is: one class a picture, unless cells have ; or |;
    * one column of 0 and 1 a class: several a picture.

    Paths are below `root` (None: not looked for); a suffix or folder that is left out is found where only one file has
    the name. Raises UserError, naming the row, for anything else.
    """
    whole = read_rows(table)
    if whole.pictures is None or not whole.columns:
        raise UserError(
            f"{table} needs a header: 'path' (or filename, image, id), then 'label' for one class a picture, 'labels' "
            f"for several, or one column of 0 and 1 a class; {whole.first_line}, so call its columns by these names"
        )
    names, single, how = _names(whole.columns, whole.rows, table)
    given = [] if how else whole.columns
    classes = tuple(given or sorted(set().union(*names), key=_in_order))
    if len(classes) < 2:
        raise UserError(f"{table} has {len(classes) or 'no'} class; a classifier needs at least two")
    splits = whole.splits
    said = [(frozenset(own), split) for own, split in zip(names, splits or [""] * len(names), strict=True)]
    kept = whole.once(said, "labels", "keep one of them" if single else "join its labels in one row")
    place = {name: i for i, name in enumerate(classes)}
    labels = tuple(tuple(sorted(place[name] for name in names[i])) for i in kept)
    how = f"column {whole.pictures!r} names the pictures, {how or f'{len(classes)} columns of 0 and 1 their labels'}"
    how += f"; {len(names) - len(kept):,} rows repeat others" if len(kept) < len(names) else ""
    splits = None if splits is None else tuple(splits[i] for i in kept)
    paths = tuple(whole.rows[i][whole.pictures] for i in kept)
    read = LabelTable(classes, paths, labels, splits, single, how)
    if root is None:
        return read
    paths, note = found_below(root, paths)
    return replace(read, paths=paths, understood=read.understood + note)


def _names(columns: list[str], rows: list[Row], table: Path) -> tuple[list[set[str]], bool, str]:
    """The labels of each row, whether there is always one, and how they were read; "" where columns are classes."""
    lower = {name.strip().lower(): name for name in columns}
    known = [lower[name] for name in (SEVERAL, *ONE_NAMES) if name in lower]
    if not known and len(columns) > 1:
        return [_chosen(columns, row, table, number) for number, row in enumerate(rows, start=FIRST_ROW)], False, ""
    column = (known or columns)[0]
    others = [name for name in columns if name != column]
    rest = f" ({listed(others)} left out)" if others else ""
    several = column.strip().lower() == SEVERAL or any(mark in row[column] for row in rows for mark in BETWEEN)
    if several:
        names = [{part.strip() for part in row[column].replace("|", ";").split(";")} - {""} for row in rows]
        return names, False, f"{column!r} the labels of each, between ; or |{rest}"
    for number, row in enumerate(rows, start=FIRST_ROW):
        if not row[column].strip():
            raise UserError(f"row {number} of {table} has no {column}; write one or take the row out")
    return [{row[column].strip()} for row in rows], True, f"{column!r} the one class of each{rest}"


def _chosen(columns: list[str], row: Row, table: Path, number: int) -> set[str]:
    chosen = set()
    for column in columns:
        cell = row[column].strip().lower()
        if cell not in YES_NO:
            hint = "; for one class a picture call the column 'label', for numbers add --recipe regress"
            raise UserError(f"row {number} of {table}: {column!r} is {row[column]!r}, expected 0 or 1{hint}")
        if YES_NO[cell]:
            chosen.add(column)
    return chosen


def _in_order(name: str) -> tuple[int, int, str]:
    """Numbers by their value, then text."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
