"""A table of labels: pictures with one class each, or with several labels each."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ..data.folders import SPLIT_OF, entries
from ..data.source import listed
from ..errors import UserError

TABLE_NAME = "labels.csv"
YES_NO = {"1": True, "1.0": True, "true": True, "yes": True,
          "0": False, "0.0": False, "false": False, "no": False, "": False}  # fmt: skip
PATH_NAMES = ("path", "filename", "file_name", "file", "filepath", "file_path", "image", "image_path", "image_id",
              "image_name", "img", "img_id", "id")  # fmt: skip
SEVERAL, SPLIT = "labels", "split"
ONE_NAMES = ("label", "class", "category", "target", "label_name", "class_name", "class_label")
BETWEEN = "|", ";"  # labels of one picture
MARKS = {",": "commas", "\t": "tabs", ";": "semicolons"}  # between cells

Row = dict[str, str]


@dataclass(frozen=True)
class LabelTable:
    """One entry a picture: its path, the positions of its labels in `classes`, its split where the table says one."""

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    splits: tuple[str, ...] | None  # "train" | "val" | "test"
    single: bool = False  # every picture is of one class
    understood: str = ""  # which columns were read as what


def find_table(root: Path) -> Path | None:
    """The labels.csv of a folder, if it has one that names its pictures."""
    table = root / TABLE_NAME
    return table if os.path.isfile(table) and names_pictures(table, root) else None


def names_pictures(table: Path, root: Path) -> bool:
    """Whether a file is a table with a column `path`, or with one like it whose first picture lies below `root`."""
    header, rows, _ = _read(table)
    column = _path_column(header)
    if column is None or column.strip().lower() == "path":
        return column is not None
    return bool(rows) and os.path.isfile(root / _Places(root).of(rows[0][column]))


def read_table(table: Path, root: Path | None = None) -> LabelTable:
    """Columns of paths and of labels, and optionally `split`; the labels are

    * `labels`: names between ; or |, several a picture;
    * `label` (or class, category, target), or the only column there is: one class a picture, unless cells have ; or |;
    * one column of 0 and 1 a class: several a picture.

    Paths are below `root` (None: not looked for); a suffix or folder that is left out is found where only one file has
    the name. Raises UserError, naming the row, for anything else.
    """
    header, rows, mark = _read(table)
    places = _path_column(header)
    columns = [name for name in header if name.strip() and name != places and name.strip().lower() != SPLIT]
    if places is None or not columns:
        seen = f"its first line has {listed(header)} (between {MARKS[mark]})" if header else "it is empty"
        raise UserError(
            f"{table} needs a header: 'path' (or filename, image, id), then 'label' for one class a picture, 'labels' "
            f"for several, or one column of 0 and 1 a class; {seen}, so call its columns by these names"
        )
    names, single, how = _names(columns, rows, table)
    given = [] if how else columns
    classes = tuple(given or sorted(set().union(*names), key=_in_order))
    if len(classes) < 2:
        raise UserError(f"{table} has {len(classes) or 'no'} class; a classifier needs at least two")
    paths = tuple(row[places] for row in rows)
    splits = _splits(header, rows, table)
    kept = _once(table, paths, list(zip(names, splits or [""] * len(rows), strict=True)), single)
    place = {name: i for i, name in enumerate(classes)}
    labels = tuple(tuple(sorted(place[name] for name in names[i])) for i in kept)
    how = f"column {places!r} names the pictures, {how or f'{len(classes)} columns of 0 and 1 their labels'}"
    how += f"; {len(rows) - len(kept):,} rows repeat others" if len(kept) < len(rows) else ""
    splits = None if splits is None else tuple(splits[i] for i in kept)
    whole = LabelTable(classes, tuple(paths[i] for i in kept), labels, splits, single, how)
    return whole if root is None else _found(whole, root)


def _once(table: Path, paths: Sequence[str], said: Sequence[tuple[set[str], str]], single: bool) -> list[int]:
    """The positions of the rows that repeat no other one. Raises UserError where two say different things of a
    picture; `said` are a row's labels and its split."""
    first: dict[str, int] = {}
    apart: dict[str, tuple[int, int]] = {}
    for i, path in enumerate(paths):
        j = first.setdefault(path, i)
        if said[i] != said[j]:
            apart.setdefault(path, (j, i))
    if apart:
        path, (one, other) = next(iter(apart.items()))
        what = "labels" if said[one][0] != said[other][0] else "splits"
        advice = "join its labels in one row" if what == "labels" and not single else "keep one of them"
        more = f", as it does {len(apart) - 1:,} other pictures" if len(apart) > 1 else ""
        raise UserError(
            f"{table} lists {path!r} more than once, with different {what} in rows {one + 2} and "
            f"{other + 2}{more}; {advice}"
        )
    return list(first.values())


def _read(table: Path) -> tuple[Sequence[str], list[Row], str]:
    """The columns, the rows, and what stands between cells."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as handle:
            first = handle.readline()
            handle.seek(0)
            # Spreadsheets write semicolons where a comma is the decimal point.
            mark = next((mark for mark in MARKS if mark in first), ",")
            reader = csv.DictReader(handle, restkey="", restval="", delimiter=mark)
            rows = list(reader)
            return reader.fieldnames or (), rows, mark
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} cannot be read as a CSV table ({error}); give a UTF-8 file with a header") from None


def _path_column(header: Sequence[str]) -> str | None:
    """`path`, wherever it is, else the first column if it is called like one (the nameless one is a row number)."""
    if path := [name for name in header if name.strip().lower() == "path"]:
        return path[0]
    first = next((name for name in header if name.strip()), "")
    return first if first.strip().lower() in PATH_NAMES else None


def _names(columns: list[str], rows: list[Row], table: Path) -> tuple[list[set[str]], bool, str]:
    """The labels of each row, whether there is always one, and how they were read; "" where columns are classes."""
    lower = {name.strip().lower(): name for name in columns}
    known = [lower[name] for name in (SEVERAL, *ONE_NAMES) if name in lower]
    if not known and len(columns) > 1:
        return [_chosen(columns, row, table, number) for number, row in enumerate(rows, start=2)], False, ""
    column = (known or columns)[0]
    others = [name for name in columns if name != column]
    rest = f" ({listed(others)} left out)" if others else ""
    several = column.strip().lower() == SEVERAL or any(mark in row[column] for row in rows for mark in BETWEEN)
    if several:
        names = [{part.strip() for part in row[column].replace("|", ";").split(";")} - {""} for row in rows]
        return names, False, f"{column!r} the labels of each, between ; or |{rest}"
    for number, row in enumerate(rows, start=2):
        if not row[column].strip():
            raise UserError(f"row {number} of {table} has no {column}; write one or take the row out")
    return [{row[column].strip()} for row in rows], True, f"{column!r} the one class of each{rest}"


def _chosen(columns: list[str], row: Row, table: Path, number: int) -> set[str]:
    chosen = set()
    for column in columns:
        cell = row[column].strip().lower()
        if cell not in YES_NO:
            hint = "; for one class a picture call the column 'label'"
            raise UserError(f"row {number} of {table}: {column!r} is {row[column]!r}, expected 0 or 1{hint}")
        if YES_NO[cell]:
            chosen.add(column)
    return chosen


def _in_order(name: str) -> tuple[int, int, str]:
    """Numbers by their value, then text."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _splits(header: Sequence[str], rows: list[Row], table: Path) -> tuple[str, ...] | None:
    column = next((name for name in header if name.strip().lower() == SPLIT), None)
    if column is None:
        return None
    for number, row in enumerate(rows, start=2):
        if row[column].strip().lower() not in SPLIT_OF:
            raise UserError(f"row {number} of {table}: split is {row[column]!r}, expected {' or '.join(SPLIT_OF)}")
    return tuple(SPLIT_OF[row[column].strip().lower()] for row in rows)


def _found(table: LabelTable, root: Path) -> LabelTable:
    """The table with each picture's path as it is below `root`, where one can be found; the others as they are."""
    places = _Places(root)
    paths = tuple(map(places.of, table.paths))
    count = sum(one != other for one, other in zip(paths, table.paths, strict=True))
    note = f"; {count:,} were found by their names below {root}" if count else ""
    return replace(table, paths=paths, understood=table.understood + note)


class _Places:
    """Finds pictures that a table names without their suffix or folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def of(self, name: str) -> str:
        """The path below the folder; the name itself where nothing, or more than one picture, is called that."""
        if not name or os.path.isfile(self.root / name):
            return name
        if "\\" in name:  # as Windows writes paths
            place = self.of(name.replace("\\", "/"))
            return place if os.path.isfile(self.root / place) else name
        found = self._by_name.get(name, [])
        return found[0] if len(found) == 1 else name

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        known: dict[str, list[str]] = {}
        for entry in entries(self.root):
            if entry.is_image:
                stem = os.path.splitext(entry.path)[0]
                for name in {stem, os.path.basename(entry.path), os.path.basename(stem)}:
                    known.setdefault(name, []).append(entry.path)
        return known
