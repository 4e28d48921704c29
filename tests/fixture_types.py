"""Types of the fixtures in conftest.py, for the tests that ask for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

AsArguments = Callable[[dict[str, Any]], list[str]]
SameRun = Callable[[Path, Path], None]


class MakePictures(Protocol):
    """The fixture `pictures`."""

    def __call__(
        self, name: str = ..., train: int = ..., val: int = ..., classes: int = ..., size: int = ...
    ) -> Path: ...


class MakeDense(Protocol):
    """The fixtures `annotated` and `masked`."""

    def __call__(self, name: str = ..., train: int = ..., val: int = ..., side: int = ...) -> Path: ...


class MakeMeasured(Protocol):
    """The fixture `measured`."""

    def __call__(self, name: str = ..., count: int = ..., size: int = ..., split: bool = ...) -> Path: ...
