"""How far a long piece of work has come, said beside its results: on standard error, and not before it is long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

QUIET_S = 2.0  # work that is done by then says nothing
TERMINAL_S, LINES_S = 0.5, 10.0  # between two words on a terminal, where they replace each other, and elsewhere

T = TypeVar("T")


class Progress:
    """Called with what is done and what there is in all; a context that leaves the terminal's line clean."""

    def __init__(self, doing: str, *, quiet: bool = False) -> None:
        self.doing, self.quiet = doing, quiet
        self.began = self.said = time.monotonic()
        self.shown = False

    def __call__(self, done: int, total: int) -> None:
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if self.quiet or not self.long or now - self.said < (TERMINAL_S if terminal else LINES_S):
            return
        if done:
            left = (now - self.began) / done * (total - done)
            text = f"{self.doing}: {done:,} of {total:,}, about {clock(left)} left"
            print(f"\r\x1b[K{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)
            self.said, self.shown = now, terminal

    def over(self, things: Iterable[T], total: int) -> Iterator[T]:
        """The things, counted as they pass."""
        for done, thing in enumerate(things, 1):
            self(done, total)
            yield thing

    @property
    def long(self) -> bool:
        """Whether the work has lasted long enough to speak of it."""
        return time.monotonic() - self.began >= QUIET_S

    def line(self, text: str) -> None:
        """A line of its own, above the progress."""
        if not self.quiet:
            self._clear()
            print(text, file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self.shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._clear()


def clock(seconds: float) -> str:
    """247 -> "4:07", 7507 -> "2:05:07"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
