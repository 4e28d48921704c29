"""COCO's figures: equal to pycocotools on perturbed annotations; defined where nothing was found."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as faster
from fixture_types import MakeDense
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from convnext.detection.coco_format import CocoContent, ResultRow
from convnext.detection.metrics import as_coco, by_class, complete, details, evaluate, judge

MINI = Path(__file__).parents[3] / "shared" / "data" / "coco-mini" / "annotations" / "instances_val2017.json"


def truth_of(annotated: MakeDense) -> CocoContent:
    path = annotated(val=12) / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = 1
    height, width = content["images"][0]["height"], content["images"][0]["width"]
    content["annotations"][0]["segmentation"] = {"size": [height, width], "counts": [100, 300, height * width - 400]}
    return content


def perturbed(truth: CocoContent, seed: int = 0) -> list[ResultRow]:
    """Detections near the annotations: some missing, some twice, some of another class."""
    rng = np.random.default_rng(seed)
    size = {row["id"]: (int(row["height"]), int(row["width"])) for row in truth["images"]}
    categories = [row["id"] for row in truth["categories"]]
    rows: list[ResultRow] = []
    for row in truth["annotations"]:
        for _ in range(int(rng.integers(0, 3))):
            height, width = size[row["image_id"]]
            shift = rng.normal(0, 4, 2)
            outline = row["segmentation"]
            assert outline is not None
            if isinstance(outline, list):
                moved = [(np.reshape(part, (-1, 2)) + shift).ravel().tolist() for part in outline]
                runs = mask.merge(mask.frPyObjects(moved, height, width))
            else:
                runs = mask.frPyObjects(outline, height, width) if isinstance(outline["counts"], list) else outline
            counts = runs["counts"].decode() if isinstance(runs["counts"], bytes) else runs["counts"]
            box = np.array(row["bbox"], dtype=float) + np.concatenate((shift, rng.normal(0, 3, 2)))
            label = row["category_id"] if rng.random() < 0.9 else int(rng.choice(categories))
            rows.append(
                {
                    "image_id": row["image_id"],
                    "category_id": label,
                    "score": float(rng.random()),
                    "bbox": box.clip(1).tolist(),
                    "segmentation": {"size": [height, width], "counts": counts},
                }
            )
    return rows


def oracle(truth: CocoContent, rows: Sequence[ResultRow], kind: str) -> np.ndarray:
    other = "segmentation" if kind == "bbox" else "bbox"
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = truth
        known.createIndex()
        found = known.loadRes([{k: v for k, v in row.items() if k != other} for row in rows])
        evaluation = COCOeval(known, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats)


def test_all_twelve_figures_are_pycocotools(annotated: MakeDense) -> None:
    truth: CocoContent = json.loads(MINI.read_text()) if MINI.exists() else truth_of(annotated)
    rows = perturbed(truth)
    ours = evaluate(truth, rows)
    for name, kind in (("box", "bbox"), ("mask", "segm")):
        expected = [value for value in oracle(truth, rows, kind) if value >= 0]
        mine = [value / 100 for key, value in ours.items() if key.startswith(name)]
        assert np.abs(np.array(mine) - expected).max() < 1e-12
        assert 0.02 < mine[0] < 0.9


def test_the_mean_over_classes_is_the_whole(annotated: MakeDense) -> None:
    truth = truth_of(annotated)
    rows = perturbed(truth)
    whole = evaluate(truth, rows)
    for kind in ("box", "mask"):
        found = details(truth, rows, kind)
        assert np.mean(list(found.ap.values())) == pytest.approx(whole[f"{kind}_ap"])
        for iou in ("50", "75"):
            assert 100 * found.precision[iou].mean() == pytest.approx(whole[f"{kind}_ap{iou}"])


def test_nothing_found_is_zero_and_the_truth_itself_is_all(annotated: MakeDense) -> None:
    path = annotated() / "annotations" / "instances_val2017.json"
    truth = json.loads(path.read_text())
    assert set(evaluate(truth, []).values()) == {0.0}
    assert set(details(truth, []).ap.values()) == {0.0}
    size = {row["id"]: (row["height"], row["width"]) for row in truth["images"]}
    exact: list[ResultRow] = []
    for row in truth["annotations"]:
        runs = mask.merge(mask.frPyObjects(row["segmentation"], *size[row["image_id"]]))
        exact.append(
            {
                "image_id": row["image_id"],
                "category_id": row["category_id"],
                "bbox": row["bbox"],
                "score": 1.0,
                "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()},
            }
        )
    found = evaluate(truth, exact)
    assert found["box_ap"] == pytest.approx(100)
    assert found["mask_ap"] == pytest.approx(100)
    assert "box_ap_large" not in found  # no object is


def test_what_exports_leave_out_is_filled_in(annotated: MakeDense) -> None:
    """Without ids, crowd marks, areas and outlines the boxes are judged all the same."""
    truth = truth_of(annotated)
    rows = perturbed(truth)
    kept = [row for row in truth["annotations"] if not row["iscrowd"]]
    bare = truth | {
        "annotations": [
            {"image_id": row["image_id"], "category_id": row["category_id"], "bbox": row["bbox"]} for row in kept
        ]
    }
    assert evaluate(bare, rows, masks=False).keys() == {k for k in evaluate(truth, rows) if k.startswith("box")}


def test_a_box_far_beyond_its_image_makes_no_endless_outline(annotated: MakeDense) -> None:
    """Without an outline a box is its own; one of 10^12 pixels took all memory."""
    truth = truth_of(annotated)
    rows = perturbed(truth)
    truth["annotations"][1] |= {"bbox": [0, 0, 1e12, 1e12], "segmentation": []}
    height, width = next(
        (i["height"], i["width"]) for i in truth["images"] if i["id"] == truth["annotations"][1]["image_id"]
    )
    assert complete(truth)["annotations"][1]["segmentation"] == [[0, 0, width, 0, width, height, 0, height]]
    assert evaluate(truth, rows)["mask_ap"] > 0


def test_each_classs_precision_by_its_name(annotated: MakeDense) -> None:
    truth = truth_of(annotated)
    figures, behind = judge(truth, perturbed(truth))
    table = by_class(truth, behind)
    assert list(table) == ["box_ap box", "box_ap wedge", "mask_ap box", "mask_ap wedge"]
    for kind in ("box", "mask"):
        mean = np.mean([value for name, value in table.items() if name.startswith(kind)])
        assert mean == pytest.approx(figures[f"{kind}_ap"])


def test_detections_as_rows() -> None:
    masks = torch.zeros(2, 5, 6, dtype=torch.bool)
    masks[0, 1:3, 2:4] = True
    found = {
        "boxes": torch.tensor([[2.0, 1, 4, 3], [0, 0, 1, 1]]),
        "scores": torch.tensor([0.9, 0.5]),
        "labels": torch.tensor([1, 0]),
        "masks": masks,
    }
    rows = as_coco(found, 7, (3, 17))
    assert [row["category_id"] for row in rows] == [17, 3]
    assert rows[0]["bbox"] == [2, 1, 2, 2]
    assert rows[0]["segmentation"]["size"] == [5, 6]
    assert faster.decode(rows[0]["segmentation"]).tolist() == masks[0].int().tolist()
    assert json.loads(json.dumps(rows)) == rows
    few = {name: value for name, value in found.items() if name != "masks"}
    assert as_coco(few, 7, (3, 17), (masks[:1], masks[1:])) == rows  # a part at a time
    assert all("segmentation" not in row for row in as_coco(few, 7, (3, 17)))
    assert as_coco({k: v[:0] for k, v in found.items()}, 7, (3, 17)) == []
