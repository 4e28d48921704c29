"""What a run says while it runs: log.jsonl for machines, a progress bar or plain lines for people."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Literal, Required, TypedDict, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import files
from ..errors import UserError
from ..system.progress import clock

FORECAST_S = 4.0  # and three steps, until it is said that hours lie ahead
LONG_S = 3600.0
LINE_S = 60.0  # between two lines about the progress, where there is no bar
TIME_FIELDS = ("time_s", "images_per_s")  # differ between a run and its repetition; everything else must not

Figures = dict[str, float]  # of an evaluation, by name


class LogRow(TypedDict, total=False):
    """A row of log.jsonl; which keys it has follows from its kind."""

    kind: Required[Literal["start", "train", "eval", "test", "comparison", "changed", "end"]]
    step: Required[int]
    time_s: float
    # "start", and the choices of "changed"
    data: str
    request: dict[str, Any]  # the fields of a DataRequest
    fingerprint: str
    command: str
    machine: dict[str, str]
    choices: list[dict[str, object]]
    # "train" and "eval"
    epoch: float
    loss: float
    losses: Figures  # the parts of the loss, where it has several
    lr: float
    images_per_s: float
    raw: Figures
    ema: Figures | None
    which: Literal["raw", "ema"]
    best: bool
    chosen: bool
    unit: str
    # "eval", "test" and "comparison"
    metric: str
    value: float | None  # None where no picture was held out
    figures: Figures
    count: int
    method: str
    # "end"
    steps: int


def judged(row: LogRow) -> Figures:
    """The figures of an evaluation's better weights, the raw or the averaged ones."""
    averaged = row.get("ema")
    return averaged if row["which"] == "ema" and averaged is not None else row["raw"]


def value_of(row: LogRow) -> float:
    """The metric of an evaluation; not a number where no picture was held out."""
    value = row["value"]
    return math.nan if value is None else value


class Log:
    """Appends rows to log.jsonl and shows them. A `quiet` log (every process but the first) does nothing."""

    def __init__(self, path: Path, total_steps: int, *, quiet: bool = False) -> None:
        self.path, self.total_steps, self.quiet = path, total_steps, quiet
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.began = time.perf_counter()
        self._bar: Progress | None = None
        self._said = self.began
        self._loss = ""
        self._forecast = False

    def __enter__(self) -> Log:
        if not self.quiet and self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[speed]}"),
            )
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("training", total=self.total_steps, speed="")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def row(self, kind: str, step: int, **values: object) -> None:
        if self.quiet:
            return
        line = {"kind": kind, "step": step, **values, "time_s": round(time.perf_counter() - self.began, 3)}
        if not self.path.parent.exists():
            raise UserError(f"{self.path.parent} is gone: the run's folder was removed while it was written to")
        with files.explained_writes(self.path), self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")
        if isinstance(loss := values.get("loss"), float):
            self._loss = f"loss {loss:.4f}  "

    def tick(self, step: int, speed: float, since: int) -> None:
        """Moves the bar, or says once a minute how far the run has come; `since` is the step that it went on from.

        Once, after some seconds: that hours lie ahead, and what would shorten them.
        """
        if not self._forecast and time.perf_counter() - self.began > FORECAST_S and step > since + 2:
            self._forecast = True
            if (seconds := self.seconds_left(step, since)) > LONG_S:
                self.say(
                    f"about {in_words(seconds)} to go on this machine at {speed:,.3g} images/s, evaluations not "
                    "counted; --minutes 60 makes a run that fits into an hour"
                )
        if self._bar is not None:
            self._bar.update(self._task, completed=step, speed=f"{speed:,.0f} images/s")
        elif time.perf_counter() - self._said >= LINE_S:
            pace = f"{speed:,.1f} images/s  {self.left(step, since)} left"
            self.say(f"step {step:,}/{self.total_steps:,}  {self._loss}{pace}")

    def say(self, text: str) -> None:
        self._said = time.perf_counter()
        if not self.quiet:
            self.console.print(text, markup=False)
            sys.stdout.flush()

    def left(self, step: int, since: int) -> str:
        """Time to the end at the pace since step `since`, as [hours:]minutes:seconds."""
        return clock(self.seconds_left(step, since))

    def seconds_left(self, step: int, since: int) -> float:
        return (time.perf_counter() - self.began) / max(step - since, 1) * (self.total_steps - step)


def figure(value: float, unit: str) -> str:
    """A metric in its unit: percents to two places, what has no unit to four."""
    return f"{value:.2f} %" if unit == "%" else f"{value:.4f}"


def in_words(seconds: float) -> str:
    """A long time in its largest unit: "7 hours", "12 days"."""
    hours = seconds / 3600
    return f"{hours:,.2g} hours" if hours < 48 else f"{hours / 24:,.0f} days"


def read(path: Path) -> list[LogRow]:
    """The rows of a log.jsonl; a last line cut short by a kill is left out."""
    rows: list[LogRow] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if not isinstance(row, dict) or not {"kind", "step"} <= row.keys():
            break
        rows.append(cast(LogRow, row))
    return rows


def cut(path: Path, step: int, *, evaluated: bool = True) -> None:
    """Drops every row after `step`, and its evaluation unless that was done: they are about to be written again."""
    rows = [row for row in read(path) if row["step"] <= step and row["kind"] != "end"] if path.exists() else []
    rows = [row for row in rows if evaluated or row["kind"] != "eval" or row["step"] < step]
    files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
