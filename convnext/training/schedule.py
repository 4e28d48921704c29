"""Step -> learning rate as a pure function, so that resuming needs no scheduler state."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

from ..recipes.recipe import Recipe

FALL = 0.1  # mmcv's gamma
STEPS_START, POLY_START = 0.001, 1e-6  # mmcv's warmup_ratio in the detection and segmentation configs


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
        return rate * _warmed(step, self.warmup, STEPS_START)


@dataclass(frozen=True)
class Poly:
    """A line from `base` to `floor`, times a linear warm-up from a millionth (mmcv, power 1)."""

    base: float
    total: int
    warmup: int
    floor: float = 0.0

    def at(self, step: int) -> float:
        rate = (self.base - self.floor) * (1 - step / self.total) + self.floor
        return rate * _warmed(step, self.warmup, POLY_START)


def _warmed(step: int, warmup: int, start: float) -> float:
    """The share of the rate at `step`: from `start` to 1 in a line (mmcv)."""
    return 1 - (1 - step / warmup) * (1 - start) if step < warmup else 1.0


def schedule_of(recipe: Recipe, per_epoch: int) -> Cosine | Steps | Poly:
    """The recipe's schedule, its lengths turned into optimiser steps; the number of steps must be settled."""
    if recipe.steps is None:
        raise ValueError("the recipe's number of steps is not settled")
    rules, lr = recipe.schedule, recipe.optim.lr
    if rules.kind == "cosine":
        return Cosine(lr, recipe.steps, round(rules.warmup_epochs * per_epoch), rules.min_lr)
    if rules.kind == "poly":
        return Poly(lr, recipe.steps, rules.warmup_steps, rules.min_lr)
    return Steps(lr, rules.warmup_steps, tuple(round(share * recipe.steps) for share in rules.milestones))
