"""A table of pictures: which column names them, which says their split, where the named files are."""

from __future__ import annotations

import csv
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from ..data.folders import SPLIT_OF, entries
from ..data.source import listed
from ..errors import UserError

TABLE_NAME = "labels.csv"
PATH_NAMES = ("path", "filename", "file_name", "file", "filepath", "file_path", "image", "image_path", "image_id",
              "image_name", "img", "img_id", "id")  # fmt: skip
SPLIT = "split"
MARKS = {",": "commas", "\t": "tabs", ";": "semicolons"}  # between cells
FIRST_ROW = 2  # as spreadsheets count: the header is row 1

Row = dict[str, str]


@dataclass(frozen=True)
class Table:
    """The cells of a CSV file, as text."""

    path: Path
    header: Sequence[str]
    rows: list[Row]
    mark: str  # between its cells

    @property
    def pictures(self) -> str | None:
        """The column of paths: `path`, wherever it is, else the first if it is called like one.

        A first column without a name is a row number.
        """
        if path := [name for name in self.header if name.strip().lower() == "path"]:
            return path[0]
        first = next((name for name in self.header if name.strip()), "")
        return first if first.strip().lower() in PATH_NAMES else None

    @property
    def columns(self) -> list[str]:
        """Those of labels: all but the paths and the split."""
        others = (name for name in self.header if name.strip() and name != self.pictures)
        return [name for name in others if name.strip().lower() != SPLIT]

    @property
    def splits(self) -> tuple[str, ...] | None:
        """Of each row "train", "val" or "test"; None without such a column. Raises UserError, naming the row."""
        column = next((name for name in self.header if name.strip().lower() == SPLIT), None)
        if column is None:
            return None
        for number, row in enumerate(self.rows, start=FIRST_ROW):
            if row[column].strip().lower() not in SPLIT_OF:
                raise UserError(
                    f"row {number} of {self.path}: split is {row[column]!r}, expected {' or '.join(SPLIT_OF)}"
                )
        return tuple(SPLIT_OF[row[column].strip().lower()] for row in self.rows)

    @staticmethod
    def beyond(row: Row) -> list[str]:
        """The cells of a row that no column stands over."""
        more: object = row.get("")  # as `csv` keeps them, beside what stands under a column without a name
        return list(more) if isinstance(more, list) else []

    @property
    def first_line(self) -> str:
        """What it has, for a message on what it lacks."""
        return (
            f"its first line has {listed(self.header)} (between {MARKS[self.mark]})" if self.header else "it is empty"
        )

    def names_pictures(self, root: Path) -> bool:
        """Whether it has a column `path`, or one like it whose first picture lies below `root`."""
        column = self.pictures
        if column is None or column.strip().lower() == "path":
            return column is not None
        return bool(self.rows) and os.path.isfile(root / Places(root).of(self.rows[0][column]))

    def once(self, said: Sequence[tuple[Hashable, str]], labels: str, advice: str) -> list[int]:
        """The positions of the rows that repeat no other one; `said` are a row's labels and its split.

        Raises UserError where two say different things of a picture; `labels` is what theirs are called, `advice` what
        to do where those differ.
        """
        first: dict[str, int] = {}
        apart: dict[str, tuple[int, int]] = {}
        for i, row in enumerate(self.rows):
            j = first.setdefault(path := row[str(self.pictures)], i)
            if said[i] != said[j]:
                apart.setdefault(path, (j, i))
        if apart:
            path, (one, other) = next(iter(apart.items()))
            what = labels if said[one][0] != said[other][0] else "splits"
            more = f", as it does {len(apart) - 1:,} other pictures" if len(apart) > 1 else ""
            raise UserError(
                f"{self.path} lists {path!r} more than once, with different {what} in rows {one + FIRST_ROW} and "
                f"{other + FIRST_ROW}{more}; {advice if what == labels else 'keep one of them'}"
            )
        return list(first.values())


def read_rows(path: Path) -> Table:
    """The cells of a CSV file with a header. Raises UserError for what is none."""
    try:
        facts = path.stat()
        return _rows(path, facts.st_mtime_ns, facts.st_size)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV table ({error}); give a UTF-8 file with a header") from None


@lru_cache(maxsize=1)
def _rows(path: Path, changed: int, size: int) -> Table:
    """Kept for the next one who asks: a look at a folder does so for each kind of table that it may be."""
    with path.open(newline="", encoding="utf-8-sig") as handle:
        first = handle.readline()
        handle.seek(0)
        # Spreadsheets write semicolons where a comma is the decimal point.
        mark = next((mark for mark in MARKS if mark in first), ",")
        reader = csv.DictReader(handle, restkey="", restval="", delimiter=mark)
        rows = list(reader)
        return Table(path, reader.fieldnames or (), rows, mark)


def forget() -> None:
    """Gives back the memory of the last table."""
    _rows.cache_clear()


def find_table(root: Path) -> Path | None:
    """The labels.csv of a folder, if it has one that names its pictures."""
    table = root / TABLE_NAME
    return table if os.path.isfile(table) and read_rows(table).names_pictures(root) else None


def found_below(root: Path, paths: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Each path as it is below `root`, where one can be found, the others as they are; and what is said of those."""
    places = Places(root)
    found = tuple(map(places.of, paths))
    count = sum(one != other for one, other in zip(found, paths, strict=True))
    return found, f"; {count:,} were found by their names below {root}" if count else ""


class Places:
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
