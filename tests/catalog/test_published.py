"""What the package prints as published is what was extracted from the paper, value by value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from convnext import files
from convnext.recipes.roadmap import STEPS, SWIN
from convnext.robustness import suites

TABLES = Path(__file__).parents[1] / "fixtures" / "paper_tables.json"
# our name of a column -> the extracted one
SPEED = {"model": "model", "gflops": "gflops", "parameters_m": "params_M", "top1": "top1"}
PRINTED: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "1": (("table1_in1k_trained", "table1_in22k_pretrained"),
          SPEED | {"size": "image_size", "images_per_s": "throughput_v100_img_s"}),
    "2": (("table2_isotropic",),
          SPEED | {"images_per_s": "throughput_v100_img_s", "training_memory_gb": "train_mem_GB"}),
    "12": (("table12_a100",), {
        "model": "model", "size": "image_size", "gflops": "gflops", "images_per_s": "throughput_a100_img_s",
        "top1_1k": "acc_in1k_trained", "top1_22k": "acc_in22k_trained"}),
}  # fmt: skip
DENSE = {"table3": "table3_coco", "table4": "table4_ade20k_ms", "table7": "table7_ade20k_ss",
         "table8": "table8_robustness"}  # fmt: skip


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    return dict(json.loads(TABLES.read_text(encoding="utf-8")))


@pytest.mark.parametrize("table", PRINTED)
def test_networks(tables: dict[str, Any], table: str) -> None:
    keys, names = PRINTED[table]
    theirs = [row for key in keys for row in tables[key]["rows"]]
    ours = json.loads(files.asset("speed_tables.json"))["tables"][table]
    assert [[row[name] for name in names] for row in ours] == [[row[name] for name in names.values()] for row in theirs]


@pytest.mark.parametrize("asset", DENSE)
def test_rows_of_other_tables(tables: dict[str, Any], asset: str) -> None:
    renamed = {"params": "params_M"}
    ours = json.loads(files.asset(f"{asset}.json"))["rows"]
    theirs = tables[DENSE[asset]]["rows"]
    for mine, row in zip(ours, theirs, strict=True):
        kept = {renamed.get(name, name): value for name, value in mine.items() if name not in ("detector", "segmenter")}
        assert kept == {name: row[name] for name in kept}
        assert kept.keys() == row.keys()


@pytest.mark.parametrize(("regime", "key"), [("tiny", "table10_roadmap_r50"), ("base", "table11_roadmap_r200")])
def test_roadmap(tables: dict[str, Any], regime: str, key: str) -> None:
    *rows, swin = tables[key]["rows"]
    published = [(row["top1"], row.get("std"), row["gflops_published"]) for row in rows]
    assert [(step.top1, step.std, step.gflops) for step in STEPS[regime]] == published
    assert SWIN[regime][1:] == (swin["gflops_published"], swin["top1"])


def test_robustness_facts(tables: dict[str, Any]) -> None:
    alexnet, subsets = tables["alexnet_err_imagenet_c"], tables["class_subsets"]
    assert suites.alexnet_errors() == dict(zip(alexnet["order"], alexnet["err"], strict=True))
    assert list(suites.C_BAR) == tables["imagenet_c_bar"]["corruptions"]
    assert list(suites.classes_of("a")) == subsets["imagenet_a_indices"]
    assert list(suites.classes_of("r")) == subsets["imagenet_r_indices"]
