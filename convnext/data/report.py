"""What a look through a data folder found: a report for people and as plain values.

An error would stop a training run, a warning would spoil what it learns or measures, a note says how an odd file is
read or that it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from ..system.tables import Row

ERRORS = ("not understood", "missing split", "no class folders", "no images", "one class", "class in one split",
          "empty class", "bad table", "bad annotations", "id twice", "unknown reference", "categories differ",
          "bad outline", "bad mask", "no mask", "sizes differ", "unreadable folder", "missing", "not regular", "empty",
          "truncated", "bomb", "corrupt")  # fmt: skip
WARNINGS = ("left out", "folders within classes", "leak", "looks the same", "conflicting labels", "duplicate",
            "imbalance", "single image", "name twins", "not learned", "test not judged", "box outside", "no area",
            "no object", "many objects", "no label", "unseen class", "image without mask")  # fmt: skip
NOTES = ("odd mode", "tiny", "not an image", "outside classes", "unused folder", "reading", "background",
         "no labels", "mask values", "levels")  # fmt: skip
SEVERITIES = ("error", "warning", "note")
ROWS = 30  # classes in the printed table; of more, the largest and the smallest
SHOWN = 10  # findings of a kind in the printed list

Counts = dict[str, dict[str, int]]  # split -> class -> images


@dataclass(frozen=True)
class Problem:
    """One finding: `kind` is a row of ERRORS, WARNINGS or NOTES; `path` lies below the data folder."""

    kind: str
    path: str
    detail: str

    @property
    def severity(self) -> str:
        return "error" if self.kind in ERRORS else "warning" if self.kind in WARNINGS else "note"


def of_test(problem: Problem) -> Problem:
    """A finding of a test split: an error is a warning there, as training goes on and judges nothing by it."""
    if problem.severity != "error":
        return problem
    return Problem("test not judged", problem.path, f"{problem.kind}: {problem.detail}")


@dataclass(frozen=True)
class FolderReport:
    """What `check` found. Splits are "train" and "val", or "all" where a run would split the folder itself."""

    name: str
    counts: Counts
    problems: list[Problem]
    unit: str = "images"  # what is counted: of annotated pictures, their "objects"
    images: dict[str, int] | None = None  # of each split, where it is not what is counted
    called: tuple[str, str] = ("class", "classes")  # what the counts are of

    @property
    def ok(self) -> bool:
        """No errors: a training run would start and find every picture."""
        return not any(problem.severity == "error" for problem in self.problems)

    @property
    def total(self) -> int:
        return sum(sum(classes.values()) for classes in self.counts.values())

    @property
    def rows(self) -> list[Row]:
        """The problems as plain values."""
        return [{"severity": problem.severity, **asdict(problem)} for problem in self.problems]

    def to_dict(self) -> dict[str, object]:
        """Plain values, ready for JSON."""
        return {"name": self.name, "ok": self.ok, self.unit: self.total, "counts": self.counts, "problems": self.rows}

    def __str__(self) -> str:
        return "\n".join([*_table(self), *_findings(self.problems), _verdict(self)])


def _table(report: FolderReport) -> list[str]:
    splits = list(report.counts)
    classes = list(dict.fromkeys(name for counts in report.counts.values() for name in counts))
    amounts = report.images or {split: sum(counts.values()) for split, counts in report.counts.items()}
    totals = ", ".join(f"{amount:,} {split}" for split, amount in amounts.items())
    unit = report.unit if report.images is None else "images"
    kinds = f"{len(classes)} {report.called[len(classes) != 1]}"
    lines = [f"{report.name}: {sum(amounts.values()):,} {unit} ({totals or 'no splits'}) in {kinds}", ""]
    if not classes:
        return lines
    if report.images is not None:
        lines[1:1] = [f"of each {report.called[0]} the {report.unit}:"]
    if len(classes) > ROWS:
        size = {name: sum(counts.get(name, 0) for counts in report.counts.values()) for name in classes}
        ranked = sorted(classes, key=lambda name: (-size[name], name))
        classes = [*ranked[: ROWS // 2], "", *ranked[-ROWS // 2 :]]
    wide = max([len(report.called[0]), *map(len, classes)])
    lines.append(f"{report.called[0]:{wide}}" + "".join(f"{split:>10}" for split in splits))
    for name in classes:
        cells = [f"{report.counts[split].get(name, 0):>10,}" for split in splits]
        lines.append(f"{name:{wide}}" + "".join(cells) if name else "…")
    return [*lines, ""]


def _findings(problems: list[Problem]) -> Iterator[str]:
    for kind in dict.fromkeys(problem.kind for problem in problems):
        mine = [problem for problem in problems if problem.kind == kind]
        yield f"{mine[0].severity}: {kind} ({len(mine):,})"
        for problem in mine[:SHOWN]:
            yield f"  {problem.detail}" if _named(problem) else f"  {problem.path}: {problem.detail}"
        if len(mine) > SHOWN:
            yield f"  … and {len(mine) - SHOWN:,} more"


def _named(problem: Problem) -> bool:
    """Whether the detail begins with the file's name, as a file's own message does, with the whole path."""
    return problem.path == "." or re.match(rf"(.*/)?{re.escape(problem.path)}(\s|$)", problem.detail) is not None


def _verdict(report: FolderReport) -> str:
    amounts = {
        word: sum(problem.severity == word for problem in report.problems) for word in ("error", "warning", "note")
    }
    listed = ", ".join(f"{count:,} {word}{'' if count == 1 else 's'}" for word, count in amounts.items() if count)
    return f"{'fit to train on' if report.ok else 'not fit to train on'}{': ' + listed if listed else ''}"
