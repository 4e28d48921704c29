"""A network with one answer, and folders in the layouts of the suites."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from robustness_cases import SYNSETS, MakeClasses, MakeCorrupted, save

FIVE = (1, 2, 3, 4, 5)


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    """Answers tench (0) always, and stingray (6), one of ImageNet-A's, where tench is not to be had."""
    return save(tmp_path / "fixed.safetensors", bias={0: 2.0, 6: 1.0})


@pytest.fixture
def folder(tmp_path: Path) -> MakeClasses:
    """Makes a folder of class folders with so many noisy pictures each, numbered across the classes."""

    def make(name: str, counts: dict[str, int], size: tuple[int, int] = (32, 32)) -> Path:
        rng, number = np.random.default_rng(0), 0
        for label, count in counts.items():
            (tmp_path / name / label).mkdir(parents=True, exist_ok=True)
            for _ in range(count):
                number += 1
                pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / label / f"ILSVRC2012_val_{number:08d}.JPEG")
        return tmp_path / name

    return make


@pytest.fixture
def corrupted(folder: MakeClasses, tmp_path: Path) -> MakeCorrupted:
    """Makes CORRUPTION/SEVERITY/CLASS of two classes, three pictures of stingray to one of tench."""

    def make(
        name: str,
        corruptions: Iterable[str],
        severities: Iterable[float | str] = FIVE,
        size: tuple[int, int] = (32, 32),
    ) -> Path:
        source = folder(f"{name} source", {SYNSETS[6]: 3, SYNSETS[0]: 1}, size)
        for corruption in corruptions:
            for severity in severities:
                shutil.copytree(source, tmp_path / name / corruption / str(severity))
        return tmp_path / name

    return make
