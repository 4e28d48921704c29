"""The folder that the tests of the folder report spoil."""

from __future__ import annotations

from pathlib import Path

import pytest
from check_cases import picture


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """train and val with two classes, nothing wrong with it."""
    for i, (split, name, count) in enumerate((s, n, c) for s, c in (("train", 4), ("val", 2)) for n in ("cat", "dog")):
        (tmp_path / split / name).mkdir(parents=True)
        for j in range(count):
            picture(10 * i + j).save(tmp_path / split / name / f"{j}.png")
    return tmp_path
