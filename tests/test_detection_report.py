"""How detections are matched to objects for the page, and what of it is shown."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from convnext.data.coco import open_detection
from convnext.detection_report import DetectionEvidence, _matched

PLACE = {3: 0, 17: 1}


def row(category: int, box: list[float], score: float) -> dict[str, Any]:
    return {"category_id": category, "bbox": box, "score": score}


def test_each_object_is_found_once_by_the_surest() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32)
    rows = [row(3, [0, 0, 10, 10], 0.5), row(17, [0, 0, 10, 9], 0.9), row(3, [60, 60, 5, 5], 0.8)]
    pairs = _matched(boxes, np.array([0, 1]), rows, PLACE, 2)
    assert sorted(pairs) == [(0, 1), (1, 2), (2, 0), (2, 0)]  # another class, missed, a second find, nothing there


def test_without_objects_every_detection_is_wrong() -> None:
    assert _matched(np.zeros((0, 4)), np.zeros(0, int), [row(3, [0, 0, 5, 5], 0.9)], PLACE, 2) == [(2, 0)]
    assert _matched(np.zeros((0, 4)), np.zeros(0, int), [], PLACE, 2) == []


def test_the_truth_itself_makes_no_errors(annotated: Any) -> None:
    source = open_detection(annotated()).val
    names = dict(zip(source.image_ids, source.ids, strict=True))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in source.ids}
    for one in source.raw["annotations"]:
        found[names[one["image_id"]]].append(
            {"image_id": one["image_id"], "score": 0.9, **{k: one[k] for k in ("category_id", "bbox", "segmentation")}}
        )
    from convnext.data.detection import mask_library

    rle = mask_library()
    size = dict(zip(source.image_ids, source.sizes, strict=True))
    for rows in found.values():
        for one in rows:
            width, height = size[one["image_id"]]
            runs = rle.merge(rle.frPyObjects(one["segmentation"], height, width))
            one["segmentation"] = {"size": [height, width], "counts": bytes(runs["counts"]).decode()}
    evidence = DetectionEvidence(source, json.loads(json.dumps(found)), "convnext train")
    assert all(errors.wrong == 0 for errors in evidence.errors)
    assert evidence.result["box_ap"] > 99.9
    assert evidence.details["mask"].precision["75"].mean() > 0.999
    assert evidence.picture(source.ids[1]).size == source.sizes[1]
