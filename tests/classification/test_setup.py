"""What a classifier's run is set up with, beyond what the recipes' own tests hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixture_types import MakePictures

from convnext import api


def test_scratch_goes_on_from_the_network_of_its_weights(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """It asked for `--set stem=pool` where the weights were of a stem that pools, and for their depths and widths."""
    data = pictures(size=32)
    pooled = tiny | {"stem": "pool", "patch_size": 2, "image_size": 32, "steps": 1}
    first = api.train(data, out=tmp_path / "first", settings=pooled, report=False)
    settings = {"weights": str(first.path / "model.safetensors"), "steps": 1, "workers": 0, "batch_size": 8}
    second = api.train(data, "scratch", out=tmp_path / "second", settings=settings, report=False)
    chosen = {row["field"]: row["value"] for row in second.history[0]["choices"] if row["why"] == "the weights' own"}
    assert chosen == {"model": "convnext_atto", "depths": [1, 1, 2, 1], "dims": [8, 8, 16, 16], "stem": "pool",
                      "patch_size": 2}  # fmt: skip


def test_none_is_no_weights(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    """As the command line hands it on; a file of that name was looked for."""
    settings = tiny | {"weights": "none", "steps": 1}
    for recipe in (None, "scratch"):
        run = api.train(
            pictures(f"for {recipe}"), recipe, out=tmp_path / f"run {recipe}", settings=settings, report=False
        )
        assert '"weights": null' in (run.path / "recipe.json").read_text()
