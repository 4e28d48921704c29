"""Step -> learning rate: warm-up and cosine as a pure function, so that resuming needs no scheduler state."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi


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
