"""Detection through `train`, `evaluate` and `predict`: learned, judged alike, resumed, explained when bad."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import MakeDense
from narrow import instance_of
from PIL import Image

from convnext import UserError, api
from convnext.commands.main import main
from convnext.data.images import read_header
from convnext.detection.data import open_detection
from convnext.detection.predict import DetectionPrediction, image_ids
from convnext.detection.task import Detect
from convnext.detection.transforms import protocol
from convnext.recipes.recipe import Recipe
from convnext.training import runtime

RECIPE = "coco/mask_rcnn/tiny"


def test_a_run_is_judged_as_its_checkpoint_is(
    annotated: MakeDense, tiny_detection: dict[str, Any], tmp_path: Path
) -> None:
    data = annotated()
    result = api.train(data, RECIPE, out=tmp_path / "run", settings=tiny_detection, report=False)
    assert result.best["metric"] == "box_ap"
    assert {"box_ap", "box_ap50", "mask_ap", "mask_ap75"} <= result.best["raw"].keys()
    model = tmp_path / "run" / "model.safetensors"
    found = api.evaluate(model, data, precision="fp32")
    assert found["box_ap"] == pytest.approx(result.metric)
    names = [f"{kind}_ap {name}" for kind in ("box", "mask") for name in ("box", "wedge")]
    assert list(found)[-4:] == names  # each class's own
    assert (found["box_ap box"] + found["box_ap wedge"]) / 2 == pytest.approx(found["box_ap"])
    assert json.loads((tmp_path / "run" / "classes.json").read_text()) == ["box", "wedge"]


def test_predictions_are_coco_results_and_pictures(
    annotated: MakeDense, tiny_detection: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = annotated()
    early = tiny_detection | {"steps": 1, "optim.lr": 1e-6}  # while a detector still sees something everywhere
    api.train(data, RECIPE, out=tmp_path / "run", settings=early, report=False)
    model, picture = str(tmp_path / "run" / "model.safetensors"), data / "val2017" / "000.png"
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    capsys.readouterr()
    words = ["predict", model, str(picture), str(broken), "--score", "0", "--out", str(tmp_path / "drawn")]
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    rows = json.loads(out)
    assert {"image_id", "category_id", "bbox", "score", "segmentation", "category"} == rows[0].keys()
    assert {(row["category_id"], row["category"]) for row in rows} <= {(3, "box"), (17, "wedge")}
    assert all(row["image_id"] == 0 for row in rows)  # the file is called by a number
    assert "broken.png is not an image" in err
    assert read_header(tmp_path / "drawn" / "000.png").size == read_header(picture).size
    assert main([*words, "--form", "csv"]) == 0
    assert capsys.readouterr().out.startswith("path,class,score,x,y,width,height,error\n")
    assert main(words) == 0
    assert "broken.png is not an image" in capsys.readouterr().out
    assert main(["predict", model, str(broken)]) == 2
    capsys.readouterr()
    before = picture.read_bytes()
    assert main(["predict", model, str(picture), "--out", str(picture.parent)]) == 2
    assert "000.png is a picture already, which would be lost; choose another --out" in capsys.readouterr().err
    assert picture.read_bytes() == before
    both = [str(picture), str(data / "train2017" / "000.png")]
    assert main(["predict", model, *both, "--score", "1", "--out", str(tmp_path / "both")]) == 0
    drawn = {str(path.relative_to(tmp_path / "both")) for path in (tmp_path / "both").rglob("*.png")}
    assert drawn == {"val2017/000.png", "train2017/000.png"}


LARGE = """
import sys
from dataclasses import replace
from pathlib import Path
from PIL import Image
from convnext.detection.predict import predict
from convnext.system.machine import peak_memory
from convnext.training.slice import PredictOptions
from convnext.detection.transforms import protocol
from convnext.models.convnext import ConvNeXt
from convnext.detection.model.rcnn import build_detector
from convnext.catalog.variants import Arch
from convnext.weights.info import ModelInfo, keep_info

model = build_detector("mask_rcnn", ConvNeXt(Arch((1, 1, 1, 1), (8, 8, 16, 16)), out_norms=True), 5)
keep_info(model, ModelInfo(classes=list("abcde"), preprocess=protocol(64).to_dict()))
model.roi_head.test = replace(model.roi_head.test, nms=1.0, score=0.0)
for side in (64, 4000):
    path = f"{sys.argv[1]}/{side}.png"
    Image.radial_gradient("L").resize((side, side)).convert("RGB").save(path, compress_level=1)
    (found,) = predict(model, "", [path], PredictOptions(least_score=0, out=Path(sys.argv[1], "drawn")))
    print(len(found.rows), peak_memory())
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_steps_beside_a_box_that_only_touches_the_border_stay_finite(
    tiny_detection: dict[str, Any], tmp_path: Path
) -> None:
    """In an eighth of the steps crops cut objects away. A rest of 1e-13 pixels, which made a loss of 0 / 0, is too
    rare to be met here: tests/detection/test_transforms.py and tests/detection/model/test_rcnn.py make it."""
    root, side = tmp_path / "data", 160
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 1)):
        (root / split).mkdir(parents=True)
        images: list[dict[str, Any]] = []
        objects: list[dict[str, Any]] = []
        for i in range(count):
            Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(root / split / f"{i}.png")
            images.append({"id": i, "file_name": f"{i}.png", "width": side, "height": side})
            for box in ([0, 0, 160, 16], [0, 0, 32, 160], [60, 60, 40, 40]):  # strips at the edges, often cut away
                x, y, w, h = box
                objects.append(
                    {
                        "id": len(objects) + 1,
                        "image_id": i,
                        "category_id": 1,
                        "bbox": box,
                        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                        "iscrowd": 0,
                        "area": box[2] * box[3],
                    }
                )
        content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "strip"}]}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    long = {
        "image_size": side,
        "batch_size": 1,
        "steps": 1000,
        "eval_every": 1000,
        "save_every": 1000,
        "detection.detector": "mask_rcnn",
    }
    api.train(root, RECIPE, out=tmp_path / "run", settings=tiny_detection | long, report=False)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    assert rows[-1]["step"] == 1000
    assert np.isfinite(losses).all()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_masks(tmp_path: Path) -> None:
    """A hundred detections in 4000 x 4000 pixels: all masks at once were 1.6 GB, and three times that in encoding."""
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path)], capture_output=True, text=True, timeout=300, check=True
    )
    (few, small), (many, large) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert few == many == 100
    assert large - small < 2**30  # bytes


@pytest.mark.parametrize("micro", [None, 2, 4])
def test_an_epoch_has_one_order_on_any_number_of_processes(annotated: MakeDense, micro: int | None) -> None:
    """Pictures were grouped by a process's share, so that a run resumed on other hardware repeated and skipped some."""
    splits = open_detection(annotated(train=24))
    recipe = Recipe(task="detect", batch_size=8, micro_batch=micro, num_classes=2)
    with runtime.start("fp32") as run:
        tasks = [Detect(splits.train, splits.val, recipe, protocol(64), replace(run, world=n)) for n in (1, 2, 4, 8)]
    orders = [task.order.epoch(0).tolist() for task in tasks]
    assert all(order == orders[0] for order in orders)


@pytest.fixture
def boxes_alone(annotated: MakeDense) -> Path:
    data: Path = annotated("boxes")
    for path in (data / "annotations").iterdir():
        content = json.loads(path.read_text())
        for row in content["annotations"]:
            row["segmentation"] = []
        path.write_text(json.dumps(content))
    return data


def test_boxes_alone_train_no_masks(boxes_alone: Path, tiny_detection: dict[str, Any], tmp_path: Path) -> None:
    """Rectangles were learned as masks, and predictions carried them."""
    data = boxes_alone
    settings = tiny_detection | {"steps": 1, "optim.lr": 1e-6}
    run = api.train(data, RECIPE, out=tmp_path / "run", settings=settings)
    assert {
        "field": "detection.detector",
        "value": "faster_rcnn",
        "why": "there are boxes and no outlines to learn masks from",
    } in run.history[0]["choices"]
    model = tmp_path / "run" / "model.safetensors"
    (found,) = api.predict(model, [data / "val2017" / "000.png"], least_score=0.0)
    rows = instance_of(DetectionPrediction, found).rows
    assert rows
    assert not any("segmentation" in row for row in rows)
    assert not any(name.startswith("mask") for name in api.evaluate(model, data))
    assert "Mask AP" not in (tmp_path / "run" / "report" / "index.html").read_text()
    again = api.train(
        data, str(tmp_path / "run" / "recipe.json"), out=tmp_path / "again", settings={"steps": 2}, report=False
    )
    assert again.metric >= 0


def test_masks_that_are_asked_for_of_boxes_alone_are_refused(
    annotated: MakeDense, boxes_alone: Path, tiny_detection: dict[str, Any], tmp_path: Path
) -> None:
    """They were learned as rectangles without a word: by a setting, or by the recipe.json of a run with outlines."""
    settings = tiny_detection | {"steps": 1, "optim.lr": 1e-6}
    api.train(annotated(), RECIPE, out=tmp_path / "run", settings=settings, report=False)
    for recipe, more, kind, other in (
        (None, settings | {"detection.detector": "cascade_mask_rcnn"}, "cascade_mask_rcnn", "cascade_rcnn"),
        (RECIPE, settings | {"detection.detector": "mask_rcnn"}, "mask_rcnn", "faster_rcnn"),
        (str(tmp_path / "run" / "recipe.json"), {}, "mask_rcnn", "faster_rcnn"),
    ):
        with pytest.raises(UserError, match=f"no outlines, of which {kind} would .*--set detection.detector={other}"):
            api.train(boxes_alone, recipe, out=tmp_path / "other", settings=more)
        assert not (tmp_path / "other").exists()
    replayed = api.train(
        boxes_alone,
        str(tmp_path / "run" / "recipe.json"),
        out=tmp_path / "other",
        report=False,
        settings={"detection.detector": "faster_rcnn"},
    )
    assert replayed.metric >= 0


def test_the_page_of_a_run(annotated: MakeDense, tiny_detection: dict[str, Any], tmp_path: Path) -> None:
    api.train(annotated(), RECIPE, out=tmp_path / "run", settings=tiny_detection | {"steps": 1, "optim.lr": 1e-6})
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    for heading in (
        "Box AP",
        "Mask AP",
        "Precision and recall",
        "Class by class",
        "What it takes for what",
        "Worst images",
        "Repeat this run",
    ):
        assert heading in page
    assert "data:image/jpeg;base64" in page or "data:image/png;base64" in page
    assert "wedge" in page


def test_a_class_that_the_detector_does_not_know(
    annotated: MakeDense, tiny_detection: dict[str, Any], tmp_path: Path
) -> None:
    api.train(annotated(), RECIPE, out=tmp_path / "run", settings=tiny_detection | {"steps": 1}, report=False)
    other = annotated("other")
    for path in (other / "annotations").iterdir():
        path.write_text(path.read_text().replace('"wedge"', '"cone"'))
    with pytest.raises(UserError, match="does not know the class 'cone'; it knows box, wedge"):
        api.evaluate(tmp_path / "run" / "model.safetensors", other)
    with pytest.raises(UserError, match="pass a folder with COCO annotations"):
        api.evaluate(tmp_path / "run" / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_size": 16}, "short side; pass at least 32"),
        ({"auto_batch": True}, "set micro_batch"),
        ({"num_classes": 5}, "the recipe is for 5 classes"),
        ({"detection.short_sides": "0"}, "must be at least 1"),
    ],
)
def test_settings_that_cannot_be(
    annotated: MakeDense, tiny_detection: dict[str, Any], tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        api.train(annotated(), RECIPE, out=tmp_path / "run", settings=tiny_detection | change, report=False)
    assert not (tmp_path / "run").exists()


def test_detection_without_data_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs annotated pictures"):
        api.train(None, RECIPE, out=tmp_path / "run")


def test_the_warm_up_and_the_batch_fit_the_data(
    annotated: MakeDense, tiny_detection: dict[str, Any], tmp_path: Path
) -> None:
    settings = {k: v for k, v in tiny_detection.items() if k not in ("steps", "batch_size")} | {"epochs": 2}
    result = api.train(annotated(), RECIPE, out=tmp_path / "run", settings=settings, report=False)
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert (recipe["batch_size"], recipe["steps"], recipe["schedule"]["warmup_steps"]) == (8, 2, 0)
    assert {row["field"] for row in result.history[0]["choices"]} == {"batch_size", "schedule.warmup_steps"}


def test_image_ids_are_numbers_where_those_tell_the_files_apart() -> None:
    paths = ("val/000139.jpg", "a/1.jpg", "b/001.jpg", "c/dog.jpg")
    assert list(image_ids(paths).values()) == [139, "a/1.jpg", "b/001.jpg", "c/dog.jpg"]
