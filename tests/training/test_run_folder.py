"""What a run says of itself is no better than it is."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import AsArguments, MakeDense, MakePictures
from PIL import Image

from convnext import api
from convnext.commands.main import main
from convnext.training.log import read


@pytest.fixture
def three_splits(pictures: MakePictures) -> Path:
    """train, val and test; the pictures of test are shown under the next class's name, so that 0 % is right."""
    root: Path = pictures(train=24, val=9)
    rng = np.random.default_rng(5)
    for i in range(12):
        folder = root / "test" / f"class {i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 200, (16, 16, 3), dtype=np.uint8)
        pixels[..., (i + 1) % 3] += 55
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    return root


def test_the_best_of_many_evaluations_is_called_so(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    result = api.train(pictures(), out=tmp_path / "run", settings=tiny)
    (line,) = result.headline
    assert line.startswith("best top1 of 4 evaluations on these 7 pictures: ")
    last = result.evaluations[-1]["value"]
    assert line.endswith(f"the last: {last:.2f} %")
    assert result.choices == 8  # raw and averaged weights
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "allowing for the choice among 8 weights on these images" in page
    assert "best top1 of 4 evaluations on these 7 pictures" in page


def test_a_test_split_is_judged_once_and_is_the_headline(
    three_splits: Path,
    tiny: dict[str, Any],
    tmp_path: Path,
    as_arguments: AsArguments,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    assert main(["train", str(three_splits), "--out", str(run), *as_arguments(tiny | {"steps": 24})]) == 0
    out = capsys.readouterr().out
    assert "12 test images judge the published weights once" in out
    assert out.index("test top1: ") < out.index("best top1 of 8 evaluations on the 9 validation pictures: ")
    (row,) = [row for row in read(run / "log.jsonl") if row["kind"] == "test"]
    assert row["count"] == 12
    found = api.evaluate(run / "model.safetensors", three_splits, split="test", precision="fp32")
    assert (found["top1"], found["count"]) == (pytest.approx(row["value"]), 12)
    page = (run / "report" / "index.html").read_text()
    assert "12 test images" in page
    assert "allowing for the choice" not in page
    low, high = found["intervals"]["top1"]  # where nothing was chosen, the page and evaluate give the same interval
    assert f"interval {low:.1f} to {high:.1f}" in page
    assert main(["train", "--resume", "--out", str(run)]) == 0
    assert [row["kind"] for row in read(run / "log.jsonl")].count("test") == 1


def test_nothing_held_out_publishes_the_last_weights_and_says_so(
    pictures: MakePictures,
    tiny: dict[str, Any],
    tmp_path: Path,
    as_arguments: AsArguments,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, run = pictures(train=24) / "train", tmp_path / "run"
    assert main(["train", str(data), "--out", str(run), "--val-fraction", "0", *as_arguments(tiny)]) == 0
    out = capsys.readouterr().out
    assert "all 24 images are learned from" in out
    assert "no picture was held out to judge on: the last weights are published (epoch 4.0, averaged" in out
    assert json.loads((run / "log.jsonl").read_text().splitlines()[-2])["value"] is None
    assert not (run / "report").exists()
    assert main(["evaluate", str(run / "model.safetensors"), str(data)]) == 2
    assert "learned from all 24 images" in capsys.readouterr().err
    assert api.train(out=run, resume=True).headline == api.train(out=run, resume=True).headline


def test_masks_and_boxes_have_a_test_split_for_the_end(
    masked: MakeDense, annotated: MakeDense, tiny_detection: dict[str, Any], tmp_path: Path
) -> None:
    masks, boxes = masked(), annotated(train=6, val=3)
    for part in ("images", "annotations"):
        shutil.copytree(masks / part / "val", masks / part / "test")
    shutil.copytree(boxes / "val2017", boxes / "test2017")
    shutil.copy(boxes / "annotations" / "instances_val2017.json", boxes / "annotations" / "instances_test2017.json")
    small = {**tiny_detection, "image_size": 32, "segmentation.channels": 8, "steps": 2}
    del small["micro_batch"], small["detection.regions"]
    dense = ((masks, "ade20k/upernet/tiny", small), (boxes, "coco/mask_rcnn/tiny", tiny_detection))
    for data, recipe, settings in dense:
        result = api.train(data, recipe, out=tmp_path / f"run {data.name}", settings=settings)
        assert result.test is not None
        assert result.test["count"] == 3
        assert result.headline[0].startswith(f"test {result.test['metric']}: ")
        page = (result.path / "report" / "index.html").read_text()
        assert "3 test images" in page
        assert "validation images" not in page
        assert "No interval is given for" in page
        for line in result.headline:  # the best of the validation pictures too: only the terminal said it
            assert line in page


def test_a_test_picture_that_cannot_be_read_costs_the_test_split_alone(
    three_splits: Path,
    annotated: MakeDense,
    tiny: dict[str, Any],
    tiny_detection: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Training ended with an error after its last step, and without its page."""
    boxes = annotated(train=6, val=3)
    shutil.copytree(boxes / "val2017", boxes / "test2017")
    shutil.copy(boxes / "annotations" / "instances_val2017.json", boxes / "annotations" / "instances_test2017.json")
    for data, picture, settings in (
        (three_splits, three_splits / "test" / "class 0" / "003.png", tiny),
        (boxes, boxes / "test2017" / "001.png", tiny_detection | {"steps": 2}),
    ):
        picture.write_bytes(picture.read_bytes()[:-200])
        result = api.train(data, out=tmp_path / f"run {data.name}", settings=settings)
        assert result.test is None
        assert re.search(rf"the test split is not judged: .*{picture.name} ", capsys.readouterr().out)
        assert "validation images" in (result.path / "report" / "index.html").read_text()
        report = api.check(data)
        assert report.ok
        assert [(p.kind, p.detail.split(":")[0]) for p in report.problems if p.path.endswith(picture.name)] == [
            ("test not judged", "truncated")
        ]
