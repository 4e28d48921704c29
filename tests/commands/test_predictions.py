"""Answers are written as they come, in every form, and each form is valid wherever the work breaks off."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixture_types import MakePictures

import convnext
from convnext.api import predictions
from convnext.classification.predict import Prediction
from convnext.commands.predictions import write
from convnext.data.find_images import list_images
from convnext.detection.coco_format import NamedRow
from convnext.detection.predict import DetectionPrediction
from convnext.segmentation.predict import SegmentationPrediction
from convnext.training.slice import Answer, PredictOptions

BOX: NamedRow = {"class": "=cat", "category_id": 3, "bbox": [1.0, 2.0, 3.5, 4.0], "score": 0.75}
KINDS: dict[str, list[Answer]] = {
    "classes": [Prediction("-a.png", (("=cat", 0.75), ("dog", 0.25))), Prediction("b.png", (), "b.png is empty")],
    "objects": [DetectionPrediction("-a.png", (BOX, BOX)), DetectionPrediction("b.png", (), "b.png is empty")],
    "areas": [
        SegmentationPrediction("-a.png", (("=cat", 0.75), ("dog", 0.25))),
        SegmentationPrediction("b.png", (), "b.png is empty"),
    ],
}


def written(answers: Iterator[Answer] | list[Answer], form: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert write(answers, form, {"-a.png": "-a.png", "b.png": 7}) == ["b.png is empty"]
    return out.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["text", "csv", "json"])
def test_each_answer_is_written_before_the_next_is_asked_for(kind: str, form: str) -> None:
    out, seen = io.StringIO(), []

    def answers() -> Iterator[Answer]:
        for answer in (*KINDS[kind], KINDS[kind][0]):
            seen.append(out.getvalue())
            yield answer

    with contextlib.redirect_stdout(out):
        write(answers(), form, {"-a.png": 1, "b.png": 2})
    assert "a.png" in seen[1] or (form, kind) == ("json", "objects")
    assert "cat" in seen[1]


@pytest.mark.parametrize("kind", KINDS)
def test_json_is_an_array_also_when_the_work_breaks_off(kind: str) -> None:
    def broken() -> Iterator[Answer]:
        yield KINDS[kind][0]
        raise KeyboardInterrupt

    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(KeyboardInterrupt):
        write(broken(), "json", {"-a.png": 1})
    assert len(json.loads(out.getvalue())) == (2 if kind == "objects" else 1)


def test_an_array_of_no_objects_is_an_array() -> None:
    for answers in (
        [DetectionPrediction("b.png", (), "b.png is empty")],
        [DetectionPrediction("-a.png"), DetectionPrediction("b.png", (), "b.png is empty")],
    ):
        assert json.loads(written(list(answers), "json")) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_a_row_and_what_a_spreadsheet_would_run_is_text(kind: str) -> None:
    rows = list(csv.DictReader(io.StringIO(written(KINDS[kind], "csv"))))
    assert rows[-1]["error"] == "b.png is empty"
    assert (rows[0]["path"], rows[0]["class"]) == ("'-a.png", "'=cat")
    assert float(rows[0][{"classes": "probability", "objects": "score", "areas": "share"}[kind]]) == 0.75


@pytest.fixture
def model(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> Path:
    """A classifier of noise."""
    settings = tiny | {"steps": 1, "eval_every": 1000}
    return convnext.train(pictures(), out=tmp_path / "run", settings=settings, report=False).path / "model.safetensors"


def test_answers_come_before_the_last_picture_is_opened_and_a_lost_one_costs_its_own_row(
    model: Path, tmp_path: Path
) -> None:
    listing = list_images([tmp_path / "data" / "train", tmp_path / "gone.png"])
    (model.parent / "strip.png").touch()
    answers = predictions(model, listing, PredictOptions(batch_size=4))
    first = next(answers)
    assert first.error is None
    last_picture = Path(listing.paths[-2])
    last_picture.unlink()  # it has not been read yet
    rest = list(answers)
    assert [bool(answer.error) for answer in rest[-3:]] == [False, True, True]
    assert rest[-1].error == f"nothing found at {tmp_path / 'gone.png'}; give image files, folders or glob patterns"
    assert len(convnext.predict(model, [tmp_path / "data" / "train", tmp_path / "gone.png"])) == 24
