"""What networks cost: counts against the closed forms and the print, speed that is counted honestly."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from convnext import bench
from convnext.errors import UserError
from convnext.models import create_model
from convnext.variants import VARIANTS


@pytest.mark.parametrize("name", ["convnext_tiny", "convnext_atto", "convnext_isotropic_small"])
def test_counts_equal_the_closed_forms(name: str) -> None:
    cost = bench.count(lambda: create_model(name), 224)
    assert cost.parameters == VARIANTS[name].parameters()
    assert cost.multiply_adds == VARIANTS[name].multiply_adds(224)


@pytest.mark.parametrize("table", bench.TABLES)
def test_our_networks_cost_what_the_tables_print(table: str) -> None:
    rows = [row for row in bench.table_rows(table, speed=False) if row["model"].startswith("ConvNeXt")]
    assert len(rows) >= 3
    for row in rows:
        printed = 45.1 if row["GFLOPs (paper)"] == 45.0 else row["GFLOPs (paper)"]  # ConvNeXt-B at 384 has both
        assert row["GFLOPs"] == pytest.approx(printed, abs=0.06)
        if row["M parameters (paper)"] is not None:
            assert row["M parameters"] == pytest.approx(row["M parameters (paper)"], abs=0.6)


def test_a_network_that_cannot_be_built_stays_as_published(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    rows = bench.table_rows("2", speed=False)
    assert [("note" in row, row["model"].startswith("ViT")) for row in rows] == [(True, True), (False, False)] * 3
    assert "pip install" in rows[0]["note"]
    assert rows[0]["images/s (paper)"] == 978.5


def test_speed_is_of_the_forwards_that_were_timed(monkeypatch: Any) -> None:
    monkeypatch.setattr(bench, "CPU_SECONDS", 0.0)
    said: list[str] = []
    (row,) = bench.network_rows(["convnext_atto"], 32, say=said.append)
    assert row["images/s"] > 0
    assert row["spread"].endswith(f"n = {bench.LEAST_FORWARDS}")
    assert said == [f"convnext_atto at 32 pixels on {bench.runtime.default_device()} …"]
    found = bench.throughput(torch.nn.Flatten(), 8, torch.device("cpu"))
    assert found.slowest <= found.median <= found.fastest


def test_other_tables_are_refused() -> None:
    with pytest.raises(UserError, match=r"docs/paper\.md"):
        bench.table_rows("3")
