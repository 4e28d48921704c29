"""What is said of a classifier's pictures before it learns from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixture_types import MakePictures

from convnext import api
from convnext.classification.data import open_data
from convnext.classification.slice import remarks


@pytest.mark.parametrize(
    ("held_out", "says"), [(3, "3 held-out pictures tell little"), (49, "14 points off"), (50, "")]
)
def test_a_figure_on_few_pictures_is_said_to_tell_little(held_out: int, says: str, pictures: MakePictures) -> None:
    found = remarks(open_data(pictures(train=6, val=held_out, size=8)))
    assert [says in line for line in found] == ([True] if says else [])


def test_it_is_said_before_training(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.train(pictures(), out=tmp_path / "run", settings=tiny | {"steps": 1}, report=False)
    said = capsys.readouterr().out.splitlines()
    place = next(i for i, line in enumerate(said) if "7 held-out pictures tell little: a figure on so few" in line)
    assert place < next(i for i, line in enumerate(said) if line.startswith("run folder"))
