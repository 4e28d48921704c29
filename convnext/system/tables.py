"""Rows as text for people, Markdown, CSV or JSON: how every command writes a table."""

from __future__ import annotations

import codecs
import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

from ..errors import UserError

FORMS = ("text", "markdown", "csv", "json")
MISSING = "-"
Row = dict[str, object]  # a row of a table that nothing but a reader looks into
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what text must not begin with in a spreadsheet (OWASP, "CSV Injection")


def render(rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None, form: str = "text") -> str:
    """The rows under `columns` (None: every key, in the order they first appear), without a newline at the end.

    JSON keeps values as they are; CSV leaves missing ones empty; for people numbers are rounded to what can be read.
    Raises UserError for another form.
    """
    if form not in FORMS:
        raise UserError(f"no table form {form!r}; choose one of {', '.join(FORMS)}")
    names = list(columns) if columns is not None else list(dict.fromkeys(key for row in rows for key in row))
    if form == "json":
        return as_json([{name: row.get(name) for name in names} for row in rows], indent=2)
    if form == "csv":
        return "\n".join([csv_line(names), *(csv_line([row.get(name) for name in names]) for row in rows)])
    numeric = [any(_is_number(row.get(name)) for row in rows) for name in names]
    decimals = [_decimals([row.get(name) for row in rows]) for name in names]
    cells = [[_cell(row.get(name), places) for name, places in zip(names, decimals, strict=True)] for row in rows]
    return _markdown(names, cells, numeric) if form == "markdown" else _text(names, cells, numeric)


def as_json(value: object, indent: int | None = None) -> str:
    """JSON for standard output: where its encoding lacks characters, they are written with JSON's own escapes."""
    encoding = codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name
    return json.dumps(value, indent=indent, ensure_ascii=not encoding.startswith("utf"))


def csv_line(values: Iterable[object]) -> str:
    """One row of CSV, without its newline.

    Text that a spreadsheet would run as a formula (a class folder may be called `=HYPERLINK(…)`, and whoever opens the
    table has not named it) has an apostrophe before it, by which spreadsheets know text. Numbers stay numbers.
    """
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow([_unarmed(value) for value in values])
    return out.getvalue()


def _unarmed(value: object) -> object:
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _text(names: list[str], cells: list[list[str]], numeric: list[bool]) -> str:
    widths = [max(len(name), *(len(row[i]) for row in cells), 0) for i, name in enumerate(names)]

    def line(row: list[str]) -> str:
        places = zip(row, widths, numeric, strict=True)
        return "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in places).rstrip()

    return "\n".join(line(row) for row in (names, *cells))


def _markdown(names: list[str], cells: list[list[str]], numeric: list[bool]) -> str:
    ruler = ["---:" if right else "---" for right in numeric]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in (names, ruler, *escaped))


def _decimals(values: list[object]) -> int:
    """Digits after the point for a column: what its numbers have, as far as their size lets a reader care."""
    floats = [value for value in values if isinstance(value, float)]
    largest = max((abs(value) for value in floats), default=0.0)
    most = 4 if largest < 1 else 3 if largest < 10 else 2 if largest < 10_000 else 0
    return next((n for n in range(most) if all(round(value, n) == value for value in floats)), most)


def _cell(value: object, decimals: int) -> str:
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_number(value):
        return f"{value:,.{decimals}f}"
    return " ".join(str(value).split())


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
