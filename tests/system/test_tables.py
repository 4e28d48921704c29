"""One table, four ways to write it."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from convnext.errors import UserError
from convnext.system.tables import render

ROWS: list[dict[str, Any]] = [
    {"name": "a | b", "count": 1234567, "share": 0.125, "ok": True},
    {"name": "c,\nd", "count": None, "share": 20.0, "note": "late"},
]


def test_text_lines_numbers_up_on_the_right() -> None:
    assert render(ROWS).splitlines() == [
        "name       count  share  ok   note",
        "a | b  1,234,567   0.12  yes  -",
        "c, d           -  20.00  -    late",
    ]


def test_markdown_escapes_what_would_end_a_cell() -> None:
    head, ruler, first, _ = render(ROWS, ["name", "count"], "markdown").splitlines()
    assert (head, ruler) == ("| name | count |", "| --- | ---: |")
    assert first == "| a \\| b | 1,234,567 |"


def test_csv_and_json_keep_values() -> None:
    read = list(csv.DictReader(io.StringIO(render(ROWS, form="csv"))))
    assert read[1] == {"name": "c,\nd", "count": "", "share": "20.0", "ok": "", "note": "late"}
    assert json.loads(render(ROWS, ["share", "note"], "json")) == [
        {"share": 0.125, "note": None},
        {"share": 20.0, "note": "late"},
    ]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([4.0, 4.5], ["4.0", "4.5"]),
        ([839.254, 4.46], ["839.25", "4.46"]),
        ([0.00081], ["0.0008"]),
        ([12345.6], ["12,346"]),
        ([3, 4], ["3", "4"]),
    ],
)
def test_a_column_has_the_digits_its_numbers_need(values: list[float], shown: list[str]) -> None:
    assert [line.strip() for line in render([{"x": v} for v in values]).splitlines()[1:]] == shown


def test_text_that_a_spreadsheet_would_run_is_text_and_numbers_stay_numbers() -> None:
    rows = [{"class": name, "p": -0.5} for name in ("=cmd|' /C calc'!A0", "+SUM(A1)", "@x", "-rf.png", "-1", "a=b")]
    names = [row[0] for row in csv.reader(render(rows, form="csv").splitlines()[1:])]
    assert names == ["'=cmd|' /C calc'!A0", "'+SUM(A1)", "'@x", "'-rf.png", "-1", "a=b"]
    assert render([{"p": -0.5}], form="csv") == "p\n-0.5"
    assert json.loads(render(rows, form="json"))[0] == rows[0]


def test_no_rows_are_no_error() -> None:
    assert [render([], form=form) for form in ("text", "markdown", "csv", "json")] == ["", "|  |\n|  |", "", "[]"]


def test_another_form_is_refused() -> None:
    with pytest.raises(UserError, match="'html'"):
        render(ROWS, form="html")
