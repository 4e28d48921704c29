"""Tables 3, 4 and 7: our counts are the published ones, for every detector and segmenter of the paper."""

from __future__ import annotations

import json

import pytest
import torch
from narrow import instance_of, number

from convnext.commands.main import main
from convnext.paper import dense_tables
from convnext.paper.dense_tables import MASK_REGIONS, _detect, count_detector, segmentation_rows, table3_rows
from convnext.weights.backbone import create_model

# tables.json `downstream_flops_check`: multiply-adds at 1280 x 800 in 10^9, parameters
EXPECTED = {
    "coco/mask_rcnn/tiny": (261.9, 48095376),
    "coco/cascade_mask_rcnn/tiny": (740.15, 85930578),
    "coco/cascade_mask_rcnn/small": (826.44, 107565138),
    "coco/cascade_mask_rcnn/base": (963.57, 145800242),
    "coco/cascade_mask_rcnn/large_22k": (1353.41, 254710770),
    "coco/cascade_mask_rcnn/xlarge_22k": (1897.4, 406875058),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_costs(name: str) -> None:
    gmacs, parameters = EXPECTED[name]
    cost = count_detector(name)
    assert cost.gmacs == pytest.approx(gmacs, abs=0.006)
    assert cost.parameters == parameters


def test_every_printed_figure_of_ours_is_reproduced_to_a_billion() -> None:
    rows = table3_rows(speed=False)
    assert len(rows) == 16
    ours = [row for row in rows if instance_of(str, row["backbone"]).startswith("ConvNeXt")]
    assert len(ours) == 7
    assert all(abs(number(row["GFLOPs"]) - number(row["GFLOPs (paper)"])) <= 1 for row in ours)
    assert all("GFLOPs" not in row for row in rows if row not in ours)


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--table", "3", "--no-speed", "--form", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[-1]["backbone"] == "ConvNeXt-XL"
    assert (rows[-1]["ap_box"], rows[-1]["ap_mask"], rows[-1]["GFLOPs"]) == (55.2, 47.7, 1897.4)


@pytest.mark.parametrize("recipe", ["coco/mask_rcnn/tiny", "coco/cascade_mask_rcnn/tiny"])
def test_what_is_timed_finds_a_hundred_objects(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh weights found none, so the mask heads ran on nothing."""
    monkeypatch.setattr(dense_tables, "IMAGE", (128, 160))
    monkeypatch.setattr(dense_tables, "create_model", lambda *_, **options: create_model("convnext_atto", **options))
    with torch.no_grad():
        (found,) = instance_of(list, _detect(recipe)())
    assert len(found["masks"]) == MASK_REGIONS
    assert found["masks"].shape[1:] == (128, 160)


def test_segmenters_cost_what_table_4_prints() -> None:
    rows = segmentation_rows("4", speed=False)
    assert len(rows) == 11
    ours = [row for row in rows if instance_of(str, row["backbone"]).startswith("ConvNeXt")]
    assert len(ours) == 6
    assert all(abs(number(row["GFLOPs"]) - number(row["GFLOPs (paper)"])) <= 1 for row in ours)
    assert all(abs(number(row["M parameters"]) - number(row["M parameters (paper)"])) <= 0.5 for row in ours)
    assert [row["GFLOPs"] for row in ours] == [938.5, 1026.8, 1169.3, 1827.1, 2457.4, 3334.3]


@pytest.mark.parametrize(("table", "name", "value"), [("4", "mIoU ms", 54.0), ("7", "mIoU", 53.6)])
def test_the_segmentation_tables_are_printed(
    table: str, name: str, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--table", table, "--no-speed", "--form", "json"]) == 0
    last = json.loads(capsys.readouterr().out)[-1]
    assert (last["backbone"], last[name], last["M parameters"]) == ("ConvNeXt-XL", value, 391.1)
