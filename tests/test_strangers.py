"""The default command on five kinds of folder that it was not made for, by the benchmark's own rule."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
EPOCHS = {"10 pictures": 20, "8 pixels": 12, "imbalance 1:100": 2, "pure noise": 3, "a table of labels, one each": 6}


@pytest.mark.parametrize("kind", EPOCHS)
def test_no_folder_is_answered_worse_than_by_simple_methods(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never below the most common class, nor below logistic regression by more than chance; noise stays at chance."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    strangers = importlib.import_module("strangers")
    (data := tmp_path / "data").mkdir()
    folder = strangers.KINDS[kind](data, tmp_path)
    seldom = ("--set", f"eval_every={max(1, EPOCHS[kind] // 3)}")
    folder = replace(folder, words=(*folder.words, "--epochs", str(EPOCHS[kind]), *seldom, "--no-report"))
    row = strangers.measure(kind, folder, 1, tmp_path, resnet=False)
    assert row["verdict"] == "holds", row
