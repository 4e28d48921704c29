"""What networks cost: counts against the closed forms and the print, speed that is counted honestly."""

from __future__ import annotations

import sys

import pytest
import torch
from narrow import instance_of, number

from convnext.catalog.variants import VARIANTS
from convnext.errors import UserError
from convnext.paper import costs as bench
from convnext.paper import timing
from convnext.weights.backbone import create_model


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


def test_a_network_that_cannot_be_built_stays_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    rows = bench.table_rows("2", speed=False)
    assert [("note" in row, row["model"].startswith("ViT")) for row in rows] == [(True, True), (False, False)] * 3
    assert "pip install" in rows[0]["note"]
    assert rows[0]["images/s (paper)"] == 978.5


def test_speed_is_of_the_forwards_that_were_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "CPU_SECONDS", 0.0)
    said: list[str] = []
    (row,) = bench.network_rows(["convnext_atto"], 32, say=said.append)
    assert number(row["images/s"]) > 0
    assert instance_of(str, row["spread"]).endswith(f"n = {timing.LEAST_FORWARDS}")
    assert "batch 1, fp32" in instance_of(str, row["measured on"])
    assert said == [f"convnext_atto at 32 pixels on {bench.runtime.default_device()} …"]


def test_a_network_that_does_not_fit_costs_only_its_own_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError("out of memory\nwith details")

    monkeypatch.setattr(timing, "of_network", fails)
    rows = [row for row in bench.table_rows("2", say=lambda _: None) if row["model"].startswith("ConvNeXt")]
    assert [row["note"] for row in rows] == ["not measured: out of memory"] * 3


def test_counts_that_differ_from_the_print_are_explained() -> None:
    rows = {(row["model"], row["size"], row["data"]): row for row in bench.table_rows("1", speed=False)}
    assert rows["EffNetV2-L", 480, "1K"]["note"] == "counts +6 % against the print"
    assert "misprint" in rows["ConvNeXt-B", 384, "1K"]["note"]
    assert "512" in rows["EffNetV2-XL", 480, "22K"]["note"]
    assert "note" not in rows["ConvNeXt-T", 224, "1K"]


@pytest.mark.parametrize("size", [0, 8])
def test_sizes_that_a_network_does_not_take_are_said(size: int) -> None:
    with pytest.raises(UserError, match="--image-size"):
        bench.network_rows(["convnext_atto"], size, speed=False)


def test_other_tables_are_refused() -> None:
    with pytest.raises(UserError, match=r"docs/paper\.md"):
        bench.table_rows("3")
