"""Step -> learning rate as a pure function, so that resuming needs no scheduler state."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

from ..recipe import Recipe

FALL = 0.1  # mmcv's gamma
WARMUP_START = 0.001  # mmcv's warmup_ratio


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up from 0 to `base`, both ends included, then half a cosine towards `floor` (official code).

    So the first step has rate 0 whenever there is a warm-up, `base` occurs twice in a row, and `floor` is approached
    but not reached.
    """

    base: float
    total: int
    warmup: int = 0
    floor: float = 1e-6

    def at(self, step: int) -> float:
        if step < self.warmup:
            return self.base * step / max(self.warmup - 1, 1)
        done = (step - self.warmup) / max(self.total - self.warmup, 1)
        return self.floor + (self.base - self.floor) * 0.5 * (1 + cos(pi * done))


@dataclass(frozen=True)
class Steps:
    """Linear warm-up from a thousandth of `base`, then a tenth of the rate from each milestone on (mmcv)."""

    base: float
    warmup: int
    milestones: tuple[int, ...]

    def at(self, step: int) -> float:
        rate = self.base * FALL ** sum(step >= milestone for milestone in self.milestones)
        return rate * (1 - (1 - step / self.warmup) * (1 - WARMUP_START)) if step < self.warmup else rate


def schedule_of(recipe: Recipe, per_epoch: int) -> Cosine | Steps:
    """The recipe's schedule, its lengths turned into optimiser steps; the number of steps must be settled."""
    if recipe.steps is None:
        raise ValueError("the recipe's number of steps is not settled")
    rules, lr = recipe.schedule, recipe.optim.lr
    if rules.kind == "cosine":
        return Cosine(lr, recipe.steps, round(rules.warmup_epochs * per_epoch), rules.min_lr)
    return Steps(lr, rules.warmup_steps, tuple(round(share * recipe.steps) for share in rules.milestones))
