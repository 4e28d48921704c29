"""Whatever stands in an annotation file is used or refused in a sentence; run lengths as the library reads them."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
from fixture_types import MakeDense

from convnext import UserError
from convnext.detection.check import check_annotations
from convnext.detection.coco_format import ResultRow, outline_fault
from convnext.detection.data import read_coco
from convnext.detection.metrics import evaluate
from convnext.detection.rle import run_lengths
from convnext.detection.transforms import AxisAffine, transform_objects

pytestmark = pytest.mark.fault

WRONG: list[Any] = [
    None, "x", "7", "", [], {}, -1, 0, 1.5, 1e308, math.nan, math.inf, True, [1, 2], [None] * 4, ["a"] * 4,
    10**400, [[1e12, 1e12, -1e12, 5, 7, 1e12]], [[1e308] * 6], [0, 0, 1e12, 1e12], [-1e12, 0, 2e12, 1e12],
    [[10**400] * 6], [[-50, 10, 120, 10, 40, 90]], [[5, 5] * 3], [[1, 2, 3, 4]], [["a"] * 6], [[1] * 7],
    [[[1, 2], [3, 4], [5, 6]]], [None], {"size": [48, 64]},
    {"size": None, "counts": [1]}, {"size": [48, 64], "counts": ["a"]}, {"size": [64, 48], "counts": [-1, 3073]},
    {"size": [64, 48], "counts": "x"}, {"size": [64, 48], "counts": "é"}, {"size": [64, 48], "counts": "ooooooooooo"},
]  # fmt: skip
FIELDS = [
    *(("images", key) for key in ("id", "file_name", "width", "height")),
    *(("annotations", key) for key in ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")),
    *(("categories", key) for key in ("id", "name")),
]


@pytest.mark.parametrize(("part", "key"), FIELDS)
def test_any_value_is_used_or_refused_in_a_sentence(annotated: MakeDense, part: str, key: str) -> None:
    path = annotated(train=3) / "annotations" / "instances_train2017.json"
    sound = json.loads(path.read_text())
    mask = run_lengths(np.ones((1, 64, 48), bool))[0]
    found: list[ResultRow] = [
        {"image_id": 100, "category_id": 3, "bbox": [1, 1, 20, 20], "score": 0.5, "segmentation": mask}
    ]
    refused: list[str] = []
    for value in WRONG:
        content = copy.deepcopy(sound)
        content[part][0][key] = value
        path.write_text(json.dumps(content))
        check_annotations(path)
        try:
            source = read_coco(path)
        except UserError as error:
            refused.append(str(error))
            continue
        for objects, (width, height) in zip(source.objects, source.sizes, strict=True):
            assert len(transform_objects(objects, AxisAffine(), (height, width))["masks"]) == len(objects.labels)
        evaluate(source.raw, found)
    assert all(str(path.parent.parent) in words and "\n" not in words for words in refused)
    assert refused or (part, key) == ("annotations", "id")  # nothing here goes by an object's number


@pytest.mark.parametrize("density", [0.02, 0.5, 0.97])
def test_compressed_run_lengths_cover_their_image(density: float) -> None:
    masks = np.random.default_rng(0).random((20, 37, 51)) < density
    for runs in run_lengths(masks):
        assert outline_fault(runs, (51, 37)) is None
        assert "its image has" in str(outline_fault(runs, (37, 51)))
        short = {**runs, "counts": runs["counts"][:-1]}
        assert outline_fault(short, (51, 37)) is not None
