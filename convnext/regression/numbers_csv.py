"""A table of numbers: pictures with one or several quantities each, some of which may be missing."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.layouts import Layout
from ..data.source import listed
from ..errors import UserError
from ..image_level.table import FIRST_ROW, TABLE_NAME, Table, find_table, found_below, read_rows

MISSING = ("", "nan", "na", "n/a", "none", "null", "-", "?")
SEVERAL = "labels"  # a column of names between ; or |
CLASSES = ("label", "class", "category", "target", "label_name", "class_name", "class_label")  # where numbers are whole
IDENTIFIERS = ("id", "ids", "idx", "index", "code", "class", "category", "group", "level", "type", "kind", "species",
               "breed", "label", "unnamed")  # fmt: skip  # pandas writes "Unnamed: 0" over row numbers
QUANTITIES = ("age", "amount", "angle", "area", "cost", "count", "depth", "distance", "height", "length", "mass",
              "percent", "popularity", "price", "ratio", "score", "share", "speed", "temperature", "time", "value",
              "volume", "weight", "width", "year")  # fmt: skip
RARE = 3  # pictures to a whole number, below which it counts something and is no class
LEAST_ROWS = 10  # of which that can be said
SLIPS = 0.1  # of a column's cells at most that are no numbers, where it is one of numbers all the same


@dataclass(frozen=True)
class NumberTable:
    """One entry a picture: its path, the value of each target, its split where the table says one."""

    targets: tuple[str, ...]
    paths: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]  # not a number where one is missing
    splits: tuple[str, ...] | None  # "train" | "val" | "test"
    understood: str  # which columns were read as what


def number(cell: str, mark: str = ",") -> float | None:
    """The number in a cell, not a number for an empty one; None where there is something else. A % is left out.

    Between semicolons (`mark`) a comma may be the decimal point, as spreadsheets write it.
    """
    text = cell.strip().removesuffix("%").rstrip()
    if text.lower() in MISSING:
        return math.nan
    try:
        value = float(text.replace(",", ".") if mark == ";" else text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_numbers(
    path: Path, root: Path | None = None, targets: Sequence[str] = (), *, judged: bool = False
) -> NumberTable:
    """A column of paths, columns of numbers (those called `targets`, or all there are), and optionally `split`.

    Rows without any number are left out. A table that is `judged` by may hold one value of a target, or none. Paths are
    below `root` (None: not looked for), as image_level/table.py finds them. Raises UserError, naming row and column,
    for a cell that is no number, for more cells than columns, for a target that is not there or has one value
    everywhere, and for a picture with different numbers.
    """
    table = read_rows(path)
    if table.pictures is None or not table.columns:
        raise UserError(
            f"{path} needs a header: 'path' (or filename, image, id), then a column for each number; "
            f"{table.first_line}, so call its columns by these names"
        )
    _require_no_more_cells(table)
    called = {name.strip(): name for name in table.columns}
    if lacking := [name for name in targets if name not in called]:
        raise UserError(f"{path} has no column {listed(lacking)}; it has {listed(list(called))}")
    if len(called) < len(table.columns):
        twice = next(name for name, count in Counter(map(str.strip, table.columns)).items() if count > 1)
        raise UserError(f"{path} has two columns called {twice!r}; give each a name of its own")
    chosen = [called[name] for name in targets] or _of_numbers(table)
    others = [name for name in table.columns if name not in chosen]
    values = [tuple(_value(table, name, i) for name in chosen) for i in range(len(table.rows))]
    splits = table.splits
    said = [(tuple(map(repr, own)), split) for own, split in zip(values, splits or [""] * len(values), strict=True)]
    once = table.once(said, "numbers", "keep one of them")
    kept = [i for i in once if any(not math.isnan(value) for value in values[i])]
    if not judged:
        _require_variety(path, chosen, [values[i] for i in kept])
    names = tuple(name.strip() for name in chosen)
    how = f"column {table.pictures!r} names the pictures, {listed(names, 8)} their numbers"
    how += f" ({listed(others)} left out)" if others else ""
    how += f"; {len(values) - len(once):,} rows repeat others" if len(once) < len(values) else ""
    how += f"; {len(once) - len(kept):,} rows have no number and are left out" if len(kept) < len(once) else ""
    missing = sum(math.isnan(value) for i in kept for value in values[i])
    how += f"; {missing:,} numbers are missing, and count for nothing" if missing else ""
    paths, note = tuple(table.rows[i][table.pictures] for i in kept), ""
    if root is not None:
        paths, note = found_below(root, paths)
    own = None if splits is None else tuple(splits[i] for i in kept)
    return NumberTable(names, paths, tuple(values[i] for i in kept), own, how + note)


def _of_numbers(table: Table) -> list[str]:
    """The columns to learn from where none was named: that of a label, or all of numbers that differ and name nothing.

    A column of numbers with slips is among them: its reader names the row.
    """
    names = [name for name in table.columns if name.strip().lower() in CLASSES and _cells(table, name)]
    found = names[:1] or [name for name in table.columns if len(set(_cells(table, name) or ())) > 1]
    found = [name for name in found if not _identifies(name)] or found
    if not found:
        share = {name: _share_of_numbers(table, name) for name in table.columns}
        if not any(share.values()):
            raise UserError(f"{table.path} has no column of numbers; its columns are {listed(table.columns)}")
        found = [max(share, key=lambda name: share[name])]  # its reader says what is wrong with it
    return found


def _identifies(name: str) -> bool:
    """Whether a column is called as one of names or numbers of rows is."""
    words = _words(name)
    return words[-1] in IDENTIFIERS or words[0] == "unnamed"


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.lower()) or [""]


def _share_of_numbers(table: Table, name: str) -> float:
    """Of the cells of a column that are not empty."""
    cells = [number(row[name], table.mark) for row in table.rows]
    filled = [cell for cell in cells if cell is None or not math.isnan(cell)]
    return sum(cell is not None for cell in filled) / max(1, len(filled))


def _cells(table: Table, name: str) -> list[float] | None:
    """The numbers of a column, [] of an empty one; None where it holds anything else, but for a few slips."""
    cells = [number(row[name], table.mark) for row in table.rows]
    numbers = [cell for cell in cells if cell is not None and not math.isnan(cell)]
    slips = cells.count(None)
    return None if slips and (len(numbers) < LEAST_ROWS or slips > SLIPS * len(cells)) else numbers


def _require_no_more_cells(table: Table) -> None:
    """UserError for a row with more cells than the header: a decimal comma would be read as two numbers."""
    for place, row in enumerate(table.rows):
        if more := [cell for cell in table.beyond(row) if cell.strip()]:
            raise UserError(
                f"row {place + FIRST_ROW} of {table.path} has more cells than the first line ({listed(more)}): write "
                "numbers with a point, or put semicolons between cells"
            )


def _value(table: Table, name: str, place: int) -> float:
    value = number(table.rows[place][name], table.mark)
    if value is None:
        raise UserError(
            f"row {place + FIRST_ROW} of {table.path}: {name!r} is {table.rows[place][name]!r}, expected a number, or "
            "nothing where it is missing"
        )
    return value


def _require_variety(path: Path, targets: Sequence[str], values: Sequence[tuple[float, ...]]) -> None:
    for k, name in enumerate(targets):
        there = {row[k] for row in values if not math.isnan(row[k])}
        if len(there) < 2:
            same = f"is {there.pop():g} in every picture" if there else "has no number"
            raise UserError(f"{path}: {name!r} {same}, so there is nothing to learn; leave the column out")


def seen_numbers(table: Table) -> str | None:
    """Why a table is thought to hold numbers to be predicted, and no classes; None: it does not."""
    lower = {name.strip().lower(): name for name in table.columns}
    if SEVERAL in lower or not table.rows:
        return None
    if known := [lower[name] for name in CLASSES if name in lower]:
        fractions = any(cell % 1 for cell in _cells(table, known[0]) or ())
        return f"{known[0]!r} holds numbers with fractions" if fractions else None
    columns: dict[str, list[float]] = {}
    for name in table.columns:
        if (cells := _cells(table, name)) is None:
            return None
        columns |= {name.strip(): cells} if cells and not (len(table.columns) > 1 and _identifies(name)) else {}
    if all(set(cells) <= {0, 1} for cells in columns.values()):
        return None
    if len(columns) > 1:
        return f"{listed(list(columns))} hold numbers"
    ((name, cells),) = columns.items()
    if any(cell % 1 for cell in cells):
        return f"{name!r} holds numbers with fractions"
    words = _words(name)
    if len(set(cells)) < 3 or _identifies(name):
        return None
    if {words[0], words[-1], words[-1].removesuffix("s")} & set(QUANTITIES):
        return f"{name!r} is a quantity"
    if len(cells) >= LEAST_ROWS and len(cells) < RARE * len(Counter(cells)):
        return f"{name!r} holds nearly as many numbers as there are pictures"
    return None


def possible_numbers(table: Table) -> str | None:
    """Why a table of classes may be read as one of numbers; None: it may not."""
    if seen_numbers(table) is not None or not table.columns or SEVERAL in (c.strip().lower() for c in table.columns):
        return None
    try:
        columns = [name.strip() for name in _of_numbers(table) if len(set(_cells(table, name) or ())) > 2]
    except UserError:
        return None
    return f"{listed(columns)} {'holds' if len(columns) == 1 else 'hold'} numbers" if columns else None


def _in_folder(root: Path) -> str | None:
    place = find_table(root)
    why = None if place is None else seen_numbers(read_rows(place))
    return why and f"{TABLE_NAME}: {why}"


def _named(path: Path, root: Path) -> str | None:
    table = read_rows(path)
    why = seen_numbers(table) if table.names_pictures(root) else None
    return why and f"{path.name}: {why}"


def _maybe_in_folder(root: Path) -> str | None:
    place = find_table(root)
    return None if place is None else possible_numbers(read_rows(place))


def _maybe_named(path: Path, root: Path) -> str | None:
    table = read_rows(path)
    return possible_numbers(table) if table.names_pictures(root) else None


def _any_in_folder(root: Path) -> str | None:
    return f"{TABLE_NAME} lists them" if find_table(root) is not None else None


def _any_named(path: Path, root: Path) -> str | None:
    return f"{path.name} lists them" if read_rows(path).pictures is not None else None


LAYOUTS: tuple[Layout, ...] = (
    Layout("numbers", "pictures with numbers in a table", 0, _in_folder, _named),
    Layout("whole numbers", "pictures with numbers in a table", 2, _maybe_in_folder, _maybe_named),
    # Whoever asks for it hears from the reader which row is wrong.
    Layout("any table", "pictures with numbers in a table", 8, _any_in_folder, _any_named, offered=False),
)
