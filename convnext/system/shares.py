"""The 95 % interval of a share: exact, and safe where the best of several was chosen."""

from __future__ import annotations

TAIL, Z95 = 0.025, 1.959964  # on each side of a 95 % interval, and how many standard deviations away


def accuracy_interval(hits: float, count: int, *, choices: int = 1) -> tuple[float, float]:
    """95 % interval of the accuracy behind so many hits, in percent; exact (Clopper and Pearson 1934).

    The one interval of a share of images: of the page, of `evaluate` and of folds.

    `choices`: the hits are the most of so many evaluations on the same images. That they are the most can only have
    made them more, so the lower end is that of one evaluation in so many (Sidak 1967; safe, as evaluations of one run
    agree with each other), and the upper end is the plain one.
    """
    from scipy.stats import beta  # takes half a second to import

    tail = 1 - (1 - TAIL) ** (1 / choices)
    low = beta.ppf(tail, hits, count - hits + 1) if hits else 0.0
    high = beta.ppf(1 - TAIL, hits + 1, count - hits) if hits < count else 1.0
    return 100 * float(low), 100 * float(high)
