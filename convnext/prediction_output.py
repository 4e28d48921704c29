"""What `predict` writes, row by row as the answers come: lines for people, a table, or an array of JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .data.images import readable
from .detecting import Found, as_result
from .inference import Prediction
from .segmenting import Areas
from .tables import as_json, csv_line, render

SIDES = ("x", "y", "width", "height")
Answer = Prediction | Found | Areas
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Layout:
    """How the answers of one kind of model are written; one without rows for a fault has it on standard error."""

    columns: tuple[str, ...]
    line: Callable[[Any], str]
    table: Callable[[Any], Rows]
    json: Callable[[Any], Rows]
    faults_in_json: bool = True


def write(answers: Iterable[Answer], form: str, image_ids: Mapping[str, Any]) -> list[str]:
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


def _lines(answers: Iterator[Answer], form: str, image_ids: Mapping[str, Any]) -> None:
    for answer in answers:
        print(f"{readable(answer.path):40} {answer.error or _layout(answer, image_ids).line(answer)}", flush=True)


def _csv(answers: Iterator[Answer], form: str, image_ids: Mapping[str, Any]) -> None:
    begun = False
    for answer in answers:
        layout = _layout(answer, image_ids)
        if not begun:
            print(csv_line(layout.columns))
            begun = True
        for row in _rows(layout, answer):
            print(csv_line([row.get(name) for name in layout.columns]))
        sys.stdout.flush()


def _table(answers: Iterator[Answer], form: str, image_ids: Mapping[str, Any]) -> None:
    """Forms whose columns are as wide as their longest cell: the rows are kept until the last is there."""
    rows: Rows = []
    columns: tuple[str, ...] = ()
    for answer in answers:
        layout = _layout(answer, image_ids)
        columns = layout.columns
        rows += _rows(layout, answer)
    print(render(rows, columns, form))


def _json(answers: Iterator[Answer], form: str, image_ids: Mapping[str, Any]) -> None:
    before = "[\n"
    try:
        for answer in answers:
            layout = _layout(answer, image_ids)
            if answer.error is not None and not layout.faults_in_json:
                print(answer.error, file=sys.stderr)
            for row in layout.json(answer):
                print(before + as_json(row), end="", flush=True)
                before = ",\n"
            if before == "[\n" and not layout.faults_in_json:  # an array there must be, though nothing was found
                print("[", end="", flush=True)
                before = "\n"
    finally:
        if before != "[\n":
            print("\n]", flush=True)


def _rows(layout: Layout, answer: Answer) -> Rows:
    return layout.table(answer) if answer.error is None else [{"path": answer.path, "error": answer.error}]


def _layout(answer: Answer, image_ids: Mapping[str, Any]) -> Layout:
    if isinstance(answer, Prediction):
        return CLASSES
    if isinstance(answer, Areas):
        return AREAS
    return Layout(
        ("path", "class", "score", *SIDES, "error"), _objects_line, _objects_table,
        lambda found: [as_result(row, image_ids[found.path]) for row in found.rows], faults_in_json=False,
    )  # fmt: skip


def _classes_json(answer: Prediction) -> Rows:
    top = [{"class": name, "probability": value} for name, value in answer.top]
    return [{"path": answer.path, "error": answer.error, "top": top}]


def _classes_table(answer: Prediction) -> Rows:
    return [
        {"path": answer.path, "rank": rank, "class": name, "probability": round(value, 6)}
        for rank, (name, value) in enumerate(answer.top, 1)
    ]


def _objects_line(answer: Found) -> str:
    return ", ".join(f"{row['class']} {row['score']:.2f}" for row in answer.rows) or "nothing"


def _objects_table(answer: Found) -> Rows:
    return [
        {"path": answer.path, "class": row["class"], "score": round(row["score"], 6)}
        | dict(zip(SIDES, (round(value, 2) for value in row["bbox"]), strict=True))
        for row in answer.rows
    ]


CLASSES = Layout(
    ("path", "rank", "class", "probability", "error"),
    lambda answer: "  ".join(f"{name} {value:.1%}" for name, value in answer.top),
    _classes_table,
    _classes_json,
)
AREAS = Layout(
    ("path", "class", "share", "error"),
    lambda answer: ", ".join(f"{name} {share:.1%}" for name, share in answer.shares),
    lambda answer: [{"path": answer.path, "class": name, "share": round(s, 6)} for name, s in answer.shares],
    lambda answer: [{"path": answer.path, "error": answer.error, "areas": dict(answer.shares)}],
)
