"""What `predict` writes, row by row as the answers come: lines for people, a table, or an array of JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping

from ..data.images import readable
from ..system.tables import as_json, csv_line, render
from ..training.slice import Answer, Rows


def write(answers: Iterable[Answer], form: str, image_ids: Mapping[str, int | str]) -> list[str]:
    """Writes each answer as soon as it is there; returns the faults of the files that could not be read.

    `image_ids` are a detector's, for COCO's result format. JSON is valid also when the work breaks off in between.
    """
    faults: list[str] = []

    def read() -> Iterator[Answer]:
        for answer in answers:
            if answer.error is not None:
                faults.append(answer.error)
            yield answer

    {"text": _lines, "csv": _csv, "json": _json}.get(form, _table)(read(), form, image_ids)
    return faults


def _lines(answers: Iterator[Answer], form: str, image_ids: Mapping[str, int | str]) -> None:
    for answer in answers:
        print(f"{readable(answer.path):40} {answer.error or answer.line()}", flush=True)


def _csv(answers: Iterator[Answer], form: str, image_ids: Mapping[str, int | str]) -> None:
    begun = False
    for answer in answers:
        if not begun:
            print(csv_line(answer.columns))
            begun = True
        for row in _rows(answer):
            print(csv_line([row.get(name) for name in answer.columns]))
        sys.stdout.flush()


def _table(answers: Iterator[Answer], form: str, image_ids: Mapping[str, int | str]) -> None:
    """Forms whose columns are as wide as their longest cell: the rows are kept until the last is there."""
    rows: Rows = []
    columns: tuple[str, ...] = ()
    for answer in answers:
        columns = answer.columns
        rows += _rows(answer)
    print(render(rows, columns, form))


def _json(answers: Iterator[Answer], form: str, image_ids: Mapping[str, int | str]) -> None:
    before = "[\n"
    try:
        for answer in answers:
            if answer.error is not None and not answer.faults_in_json:
                print(answer.error, file=sys.stderr)
            for row in answer.json(image_ids):
                print(before + as_json(row), end="", flush=True)
                before = ",\n"
            if before == "[\n" and not answer.faults_in_json:  # an array there must be, though nothing was found
                print("[", end="", flush=True)
                before = "\n"
    finally:
        if before != "[\n":
            print("\n]", flush=True)


def _rows(answer: Answer) -> Rows:
    return answer.table() if answer.error is None else [{"path": answer.path, "error": answer.error}]
