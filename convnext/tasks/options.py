"""Which of the options of `evaluate` and `predict` which task has: another's is refused before anything is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..training.slice import AnySlice, EvaluateOptions, PredictOptions

MIRRORED = "; --test-mode multiscale averages mirrored images, too"


@dataclass(frozen=True)
class Owned:
    """An option: what is said where it is asked of a model of a task that does not have it."""

    option: str  # as the slices that have it name it
    refusal: str
    instead: tuple[str, str] = ("", "")  # a task, and what is added for it


VIEWS = Owned("views", "is no classifier; leave out --flip and --crops", ("segment", MIRRORED))
MODE = Owned("mode", "is no segmenter; leave out --test-mode")
SCORE = Owned("score", "is no detector; leave out --score")
DRAWN = Owned("out", "is {noun}, which draws nothing; leave out --out")


def require_evaluable(kind: AnySlice, checkpoint: str | Path, options: EvaluateOptions) -> None:
    """UserError for an option of another task."""
    _refuse(kind, checkpoint, (VIEWS, options.flip or options.crops > 1), (MODE, options.mode is not None))


def require_predictable(kind: AnySlice, checkpoint: str | Path, options: PredictOptions) -> None:
    """UserError for an option of another task."""
    _refuse(kind, checkpoint, (SCORE, options.least_score is not None), (MODE, options.mode is not None))


def require_drawing(kind: AnySlice, checkpoint: str | Path, options: PredictOptions) -> None:
    """UserError where pictures are to be drawn on by a model that finds nothing in a place."""
    _refuse(kind, checkpoint, (DRAWN, options.out is not None))


def _refuse(kind: AnySlice, checkpoint: str | Path, *asked: tuple[Owned, bool]) -> None:
    for owned, given in asked:
        if given and owned.option not in kind.options:
            task, more = owned.instead
            said = owned.refusal.format(noun=kind.noun)
            raise UserError(f"{checkpoint} {said}{more if kind.name == task else ''}")
