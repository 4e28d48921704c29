"""Pictures and findings for the tests of the folder report."""

from __future__ import annotations

from collections import Counter

import numpy as np
from PIL import Image

from convnext.data.report import FolderReport, Problem


def picture(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """Smooth and unlike any other, as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def kinds(report: FolderReport) -> Counter[str]:
    return Counter(problem.kind for problem in report.problems)


def only(report: FolderReport, kind: str) -> Problem:
    assert kinds(report) == {kind: 1}, report.problems
    return report.problems[0]
