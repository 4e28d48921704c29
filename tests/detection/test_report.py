"""How detections are matched to objects for the page, and what of it is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fixture_types import MakeDense

from convnext.detection.coco_format import ResultRow
from convnext.detection.data import open_detection
from convnext.detection.report import DetectionEvidence, Truth, _matched

PLACE = {3: 0, 17: 1}


def row(category: int, box: Sequence[float], score: float) -> ResultRow:
    return {"image_id": 100, "category_id": category, "bbox": list(box), "score": score}


def truth_of(*annotations: tuple[int, Sequence[float], int]) -> Truth:
    return Truth.of(
        [{"image_id": 100, "category_id": c, "bbox": box, "iscrowd": crowd} for c, box, crowd in annotations], PLACE
    )


def test_each_object_is_found_once_by_the_surest() -> None:
    truth = truth_of((3, [0, 0, 10, 10], 0), (17, [20, 20, 20, 20], 0))
    rows = [row(3, [0, 0, 10, 10], 0.5), row(17, [0, 0, 10, 9], 0.9), row(3, [60, 60, 5, 5], 0.8)]
    pairs = _matched(truth, rows, PLACE)
    assert sorted(pairs) == [(0, 1), (1, 2), (2, 0), (2, 0)]  # another class, missed, a second find, nothing there


def test_without_objects_every_detection_is_wrong() -> None:
    assert _matched(truth_of(), [row(3, [0, 0, 5, 5], 0.9)], PLACE) == [(2, 0)]
    assert _matched(truth_of(), [], PLACE) == []


def test_finds_within_a_crowd_of_their_class_are_no_errors() -> None:
    """As in COCO's measure: what counts is the share of the find, not of the crowd, that they have in common."""
    truth = truth_of((3, [0, 0, 10, 10], 0), (17, [20, 20, 80, 80], 1))
    inside, half_out, apart = [30, 30, 10, 10], [94, 94, 12, 12], [0, 50, 10, 10]
    rows = [row(3, [0, 0, 10, 10], 0.9), *(row(17, box, 0.8) for box in (inside, inside, half_out, apart))]
    assert sorted(_matched(truth, rows, PLACE)) == [(0, 0), (2, 1), (2, 1)]
    assert _matched(truth_of((17, [20, 20, 80, 80], 1)), [row(3, inside, 0.8)], PLACE) == [(2, 0)]  # another class
    assert _matched(truth_of((17, [20, 20, 80, 80], 1)), [], PLACE) == []  # and nobody misses a crowd


def test_what_is_too_thin_to_learn_from_is_missed_as_in_average_precision(annotated: MakeDense) -> None:
    path = annotated() / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][2] = 0
    path.write_text(json.dumps(content))
    source = open_detection(path.parent.parent).val
    evidence = DetectionEvidence(source, {}, "convnext train")
    assert sum(errors.wrong for errors in evidence.errors) == evidence.counts.sum() == source.judged == 6


def test_the_truth_itself_makes_no_errors(annotated: MakeDense) -> None:
    source = open_detection(annotated()).val
    names = dict(zip(source.image_ids, source.ids, strict=True))
    found: dict[str, list[ResultRow]] = {name: [] for name in source.ids}
    from convnext.detection.rle import mask_library

    rle = mask_library()
    size = dict(zip(source.image_ids, source.sizes, strict=True))
    for one in source.raw["annotations"]:
        width, height = size[one["image_id"]]
        runs = rle.merge(rle.frPyObjects(one["segmentation"], height, width))
        found[names[one["image_id"]]].append(
            {
                "image_id": one["image_id"],
                "score": 0.9,
                "category_id": one["category_id"],
                "bbox": list(one["bbox"]),
                "segmentation": {"size": [height, width], "counts": bytes(runs["counts"]).decode()},
            }
        )
    evidence = DetectionEvidence(source, json.loads(json.dumps(found)), "convnext train")
    assert all(errors.wrong == 0 for errors in evidence.errors)
    assert evidence.result["box_ap"] > 99.9
    assert evidence.details["mask"].precision["75"].mean() > 0.999
    assert evidence.picture(source.ids[1]).size == source.sizes[1]
