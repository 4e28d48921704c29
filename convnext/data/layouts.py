"""A way in which a place holds pictures for a task, and what it is recognised by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """`seen` says in a clause why a folder is thought to be of this kind; None: it is not."""

    kind: str  # a word for it
    holds: str  # what such a place holds, for people
    rank: int = 0  # of a folder that may be of several kinds the lowest is taken
    seen: Callable[[Path], str | None] = lambda root: None
    of_table: Callable[[Path, Path], str | None] = lambda table, root: None  # the same, by a table that the user named
    suffixes: tuple[str, ...] = ()  # of a file that is such a place by itself
    file_why: str = ""  # what such a file is
    offered: bool = True  # else it is read so where it is asked for, and not before
    rival: Callable[[Path], bool] | None = None  # tells such a folder from one of classes with other files in it
