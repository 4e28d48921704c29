"""Pictures by formula as a source of labelled pictures: `formulas` is the name of the data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ..data.levels import Levels
from ..data.source import DRAWN, Source
from ..data.splits import Splits
from . import scenes

NAME = DRAWN
SIDE = 72  # pixels; training shows cuts of it
PICTURES, HELD_OUT = 160_000, 1_000


@dataclass(frozen=True)
class FormulaReader:
    """Draws pictures by their plans (`scenes.plans`); `numbers` are their places in the whole set."""

    plans: np.ndarray  # (N, 6)
    numbers: np.ndarray  # (N,)
    seed: int
    side: int = SIDE

    def __call__(self, index: int) -> Image.Image:
        return scenes.draw(self.plans[index], self.side, np.random.default_rng((self.seed, int(self.numbers[index]))))

    def take(self, indices: Sequence[int]) -> FormulaReader:
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(self, plans=self.plans[chosen], numbers=self.numbers[chosen])

    def within(self, levels: Levels | None) -> FormulaReader:
        return self


def splits(pictures: int = PICTURES, held_out: int = HELD_OUT, seed: int = 0) -> Splits[Source]:
    """So many pictures to learn from and to judge on; other numbers of pictures leave the first ones as they are."""
    train, val = _source(pictures, (seed, 0), "train"), _source(held_out, (seed, 1), "val")
    note = (
        f"{NAME}: {pictures:,} pictures drawn by formula to learn from and {held_out:,} to judge on, "
        f"{len(scenes.questions())} questions with {len(train.classes)} answers"
    )
    return Splits(train, val, NAME, note)


def answers() -> tuple[str, ...]:
    """The classes: each answer to each question, such as "shape: glyph 7" and "colour: hue 30"."""
    return tuple(f"{question}: {answer}" for question, known in scenes.questions().items() for answer in known)


def _source(count: int, seed: tuple[int, int], split: str) -> Source:
    plans = scenes.plans(count, np.random.default_rng(seed))
    reader = FormulaReader(plans, np.arange(count), 1_000_003 * seed[0] + seed[1])
    ids = tuple(f"{NAME}/{split}/{i}" for i in range(count))
    groups = tuple(len(known) for known in scenes.questions().values())
    return Source(answers(), scenes.columns(plans), ids, reader, SIDE, multi_label=True, native=NAME, groups=groups)
