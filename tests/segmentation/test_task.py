"""Segmentation through `train`, `evaluate` and `predict`: learned, judged alike, resumed, explained when bad."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import AsArguments, MakeDense
from PIL import Image
from torch import Tensor, nn

from convnext import UserError, api
from convnext.commands.main import main
from convnext.data.images import read_header, read_pixels
from convnext.segmentation.mask_coding import IGNORED
from convnext.segmentation.metrics import SegmentationCounter
from convnext.segmentation.transforms import SegmentationBatch
from convnext.training.log import read

RECIPE = "ade20k/upernet/tiny"


def test_it_learns_and_is_judged_as_its_checkpoint_is(
    masked: MakeDense, tiny_masks: dict[str, Any], tmp_path: Path
) -> None:
    data = masked(train=8)
    longer = tiny_masks | {"steps": 60, "optim.lr": 5e-3, "eval_every": 15, "optim.layer_decay": None, "drop_path": 0}
    result = api.train(data, RECIPE, out=tmp_path / "run", settings=longer, report=False)
    assert result.metric > 45
    found = api.evaluate(tmp_path / "run" / "model.safetensors", data, precision="fp32")
    assert found["miou"] == pytest.approx(result.metric)
    assert found["iou 1"] > 20
    for mode in ("whole", "multiscale"):
        assert api.evaluate(tmp_path / "run" / "model.safetensors", data, mode=mode, precision="fp32")["miou"] > 20


def test_masks_overlays_and_areas(
    masked: MakeDense, tiny_masks: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = masked()
    (data / "classes.txt").write_text("ground\ndisc\nsquare\n")
    api.train(data, RECIPE, out=tmp_path / "run", settings=tiny_masks, report=False)
    model, picture = str(tmp_path / "run" / "model.safetensors"), data / "images" / "val" / "000.png"
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    capsys.readouterr()
    words = ["predict", model, str(picture), str(broken), "--out", str(tmp_path / "drawn")]
    assert main([*words, "--json"]) == 0
    good, bad = json.loads(capsys.readouterr().out)
    assert sum(good["areas"].values()) == pytest.approx(1)
    assert good["areas"].keys() <= {"ground", "disc", "square"}
    assert "not an image" in bad["error"]
    mask = read_pixels(tmp_path / "drawn" / "000.png")
    assert mask.shape == read_header(picture).size[::-1]
    shares = dict(zip(("ground", "disc", "square"), np.bincount(mask.ravel(), minlength=3) / mask.size, strict=True))
    assert good["areas"] == pytest.approx({name: share for name, share in shares.items() if share})
    assert (tmp_path / "drawn" / "000_overlay.jpg").exists()
    assert main([*words, "--form", "csv"]) == 0
    assert capsys.readouterr().out.startswith("path,class,share,error\n")
    assert main([*words, "--test-mode", "whole"]) == 0
    assert "broken.png is not an image" in capsys.readouterr().out
    assert main(["predict", model, str(broken)]) == 2


def test_the_page_of_a_run(masked: MakeDense, tiny_masks: dict[str, Any], tmp_path: Path) -> None:
    api.train(masked(), RECIPE, out=tmp_path / "run", settings=tiny_masks | {"steps": 2})
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    for heading in (
        "mIoU",
        "Pixel accuracy",
        "Learning curves",
        "Class by class",
        "What it takes for what",
        "Worst images",
        "Repeat this run",
    ):
        assert heading in page
    pairs = page.split('<div class="pair">')[1:]
    assert len(pairs) == 3
    for pair in pairs:  # as found and its mask, which stay together however wide the page is
        assert pair.split("</div></figcaption></figure></div>")[0].count("data:image/") == 2


def test_two_processes_judge_as_one(
    masked: MakeDense, tiny_masks: dict[str, Any], tmp_path: Path, as_arguments: AsArguments
) -> None:
    data = masked(val=5)
    command = [
        sys.executable,
        "-m",
        "convnext",
        "train",
        str(data),
        "--recipe",
        RECIPE,
        "--out",
        str(tmp_path / "two"),
        "--nproc",
        "2",
        "--no-report",
        *as_arguments(tiny_masks | {"batch_size": 4}),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("BatchNorm averages over each of the 2 processes' own pictures") == 1
    best = next(row for row in read(tmp_path / "two" / "log.jsonl")[::-1] if row["kind"] == "eval" and row["best"])
    alone = api.evaluate(tmp_path / "two" / "model.safetensors", data, precision="fp32")
    for name in ("miou", "aacc", "macc"):
        assert best["raw"][name] == pytest.approx(alone[name], abs=1e-9)


def test_classes_are_matched_by_name(masked: MakeDense, tiny_masks: dict[str, Any], tmp_path: Path) -> None:
    data, other = masked(), masked("other")
    (data / "classes.txt").write_text("ground\ndisc\nsquare\n")
    api.train(data, RECIPE, out=tmp_path / "run", settings=tiny_masks, report=False)
    model = tmp_path / "run" / "model.safetensors"
    own = api.evaluate(model, data, precision="fp32")
    for path in (other / "annotations").rglob("*.png"):
        values = np.array(Image.open(path))
        Image.fromarray(np.where(values < 3, 2 - values, values).astype(np.uint8)).save(path)
    (other / "classes.txt").write_text("square\ndisc\nground\n")
    again = api.evaluate(model, other, precision="fp32")
    assert again.pop("intervals").keys() == own.pop("intervals").keys()  # drawn class by class, in another order
    assert again == pytest.approx(own)
    (other / "classes.txt").write_text("square\nhole\nground\n")
    with pytest.raises(UserError, match="does not know the class 'hole'; it knows ground, disc"):
        api.evaluate(model, other)
    with pytest.raises(UserError, match="has no test split"):
        api.evaluate(model, data, split="test")
    with pytest.raises(UserError, match="pass a folder of images with masks"):
        api.evaluate(model)


def test_settings_reach_the_reading_of_the_data(masked: MakeDense, tiny_masks: dict[str, Any], tmp_path: Path) -> None:
    """`segmentation.ignore` was looked up in the recipe before the user's settings were in it."""
    ignoring = tiny_masks | {"segmentation.ignore": (2,), "steps": 1}
    api.train(masked(), RECIPE, out=tmp_path / "run", settings=ignoring, report=False)
    assert json.loads((tmp_path / "run" / "classes.json").read_text()) == ["0", "1"]


@pytest.mark.fault
def test_bad_masks_are_named_before_there_is_a_run(
    masked: MakeDense, tiny_masks: dict[str, Any], tmp_path: Path
) -> None:
    data = masked()
    (data / "classes.txt").write_text("a\nb\nc\n")
    Image.fromarray(np.full((48, 64), 9, np.uint8)).save(data / "annotations" / "train" / "000.png")
    with pytest.raises(UserError, match=r"000\.png holds the value 9"):
        api.train(data, RECIPE, out=tmp_path / "run", settings=tiny_masks, report=False)
    for path in (data / "annotations" / "train").iterdir():
        Image.fromarray(np.full(np.array(Image.open(path)).shape, 255, np.uint8)).save(path)
    with pytest.raises(UserError, match="none of the 6 training masks"):
        api.train(data, RECIPE, out=tmp_path / "run", settings=tiny_masks, report=False)
    assert not (tmp_path / "run").exists()


def test_what_was_learned_from_is_not_judged(
    masked: MakeDense, tiny_masks: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a folder without splits, `evaluate` gave the mIoU over the training images, too."""
    masked()
    for part in ("images", "annotations"):
        (tmp_path / "flat").mkdir(exist_ok=True)
        (tmp_path / "masks" / part / "train").rename(tmp_path / "flat" / part)
    settings = tiny_masks | {"steps": 2, "batch_size": 4}
    result = api.train(
        tmp_path / "flat", RECIPE, out=tmp_path / "run", settings=settings, val_fraction=0.34, report=False
    )
    model = str(tmp_path / "run" / "model.safetensors")
    found = api.evaluate(model, tmp_path / "flat", precision="fp32", split="val")
    assert found["miou"] == pytest.approx(result.metric)
    capsys.readouterr()
    assert main(["evaluate", model, str(tmp_path / "flat")]) == 0
    assert "the 2 images of" in capsys.readouterr().err
    assert main(["evaluate", model, str(tmp_path / "flat"), "--split", "all"]) == 0
    assert "all 6 images of" in capsys.readouterr().err


def colour_data(root: Path) -> Path:
    """Colour masks beside pictures, and the list that explains them."""
    palette = np.zeros((256, 3), np.uint8)
    palette[:3] = (10, 20, 30), (200, 0, 0), (0, 200, 0)
    for path in (root / "annotations").rglob("*.png"):
        Image.fromarray(palette[np.array(Image.open(path))]).save(path)
    (root / "classes.txt").write_text("void 0 0 0\nground 10 20 30\ndisc 200 0 0\nsquare 0 200 0\n")
    return root


def test_nothing_of_the_users_is_overwritten_and_colours_come_beside_indices(
    masked: MakeDense, tiny_masks: dict[str, Any], tmp_path: Path
) -> None:
    """`predict own/photo.png --out own` put the mask in the photo's place."""
    data, own = colour_data(masked()), tmp_path / "own"
    api.train(data, RECIPE, out=tmp_path / "run", settings=tiny_masks | {"steps": 1}, report=False)
    own.mkdir()
    before = (data / "images" / "val" / "000.png").read_bytes()
    (own / "photo.png").write_bytes(before)
    model = tmp_path / "run" / "model.safetensors"
    with pytest.raises(UserError, match="is a picture already"):
        api.predict(model, [own / "photo.png"], out=own)
    assert (own / "photo.png").read_bytes() == before
    assert sorted(path.name for path in own.iterdir()) == ["photo.png"]
    (own / "photo.jpg").write_bytes(before)
    with pytest.raises(UserError, match="would both be drawn as"):
        api.predict(model, [own / "photo.png", own / "photo.jpg"], out=tmp_path / "drawn")
    (own / "photo.jpg").unlink()
    (own / "photo_colours.png").write_bytes(before)
    with pytest.raises(UserError, match=r"photo_colours\.png would be the mask of one picture and the colours of"):
        api.predict(model, [own], out=tmp_path / "drawn")
    assert not (tmp_path / "drawn").exists()
    api.predict(model, [own / "photo.png"], out=tmp_path / "drawn")
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        "photo.png",
        "photo_colours.png",
        "photo_overlay.jpg",
    ]
    mask, colours = Image.open(tmp_path / "drawn" / "photo.png"), Image.open(tmp_path / "drawn" / "photo_colours.png")
    assert (mask.mode, colours.mode) == ("P", "RGB")
    assert set(np.unique(np.asarray(mask))) <= {1, 2, 3}
    assert (np.asarray(mask.convert("RGB")) == np.asarray(colours)).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_size": 16}, "short side; pass at least 32"),
        ({"auto_batch": True}, "set micro_batch"),
        ({"num_classes": 5}, "the recipe is for 5 classes"),
        ({"segmentation.scale": "2,1"}, "positive and rising"),
    ],
)
def test_settings_that_cannot_be(
    masked: MakeDense, tiny_masks: dict[str, Any], tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        api.train(masked(), RECIPE, out=tmp_path / "run", settings=tiny_masks | change, report=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("batch", "micro", "parts"), [(5, 2, [3, 2]), (4, 1, [2, 2]), (7, 3, [3, 2, 2])])
def test_no_part_of_a_batch_is_a_single_picture(
    masked: MakeDense,
    tiny_masks: dict[str, Any],
    tmp_path: Path,
    batch: int,
    micro: int,
    parts: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from convnext.segmentation.task import Segment

    seen: list[int] = []
    plain = Segment.losses

    def watched(task: Segment, model: nn.Module, batch: SegmentationBatch) -> dict[str, Tensor]:
        seen.append(len(batch.ids))
        return plain(task, model, batch)

    monkeypatch.setattr(Segment, "losses", watched)
    settings = tiny_masks | {"batch_size": batch, "micro_batch": micro, "steps": 1}
    api.train(masked(train=8), RECIPE, out=tmp_path / "run", settings=settings, report=False)
    assert seen == parts
    with pytest.raises(UserError, match="too few for BatchNorm"):
        api.train(masked("b"), RECIPE, out=tmp_path / "one", settings=tiny_masks | {"batch_size": 1}, report=False)


def test_a_run_of_minutes_warms_up_for_a_tenth_of_its_steps(
    masked: MakeDense, tiny_masks: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convnext.training import budget

    monkeypatch.setattr(budget, "WARM_STEPS", 1)
    monkeypatch.setattr(budget, "MEASURE_STEPS", 1)
    settings = {name: value for name, value in tiny_masks.items() if name != "steps"} | {"minutes": 0.01}
    api.train(masked(), RECIPE, out=tmp_path / "run", settings=settings, report=False)
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["schedule"]["warmup_steps"] == recipe["steps"] // 10


def test_views_of_a_classifier_are_refused(masked: MakeDense, tiny_masks: dict[str, Any], tmp_path: Path) -> None:
    data = masked()
    api.train(data, RECIPE, out=tmp_path / "run", settings=tiny_masks | {"steps": 1}, report=False)
    for views in ({"flip": True}, {"crops": 5}):
        with pytest.raises(UserError, match="no classifier; leave out --flip and --crops; --test-mode multiscale"):
            api.evaluate(tmp_path / "run" / "model.safetensors", data, **views)


def test_segmentation_without_data_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs pictures with masks"):
        api.train(None, RECIPE, out=tmp_path / "run")


def test_the_counter_by_hand() -> None:
    import torch

    counter = SegmentationCounter(4)
    truth = torch.tensor([[0, 0, 1, IGNORED], [0, 1, 1, 2]])
    found = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0]])
    counter.update(found, truth)
    # class 0: 2 right of 3 there and 4 said; class 1: 2 of 3 and 3; class 2: 0 of 1; class 3 nowhere
    assert counter.iou()[:3].tolist() == pytest.approx([40.0, 50.0, 0.0])
    assert counter.result() == pytest.approx({"miou": 30.0, "aacc": 400 / 7, "macc": (200 / 3 + 200 / 3 + 0) / 3})
    twice = SegmentationCounter(4)
    twice.load(counter.state() * 2)
    assert twice.result() == pytest.approx(counter.result())
    assert SegmentationCounter(3).result() == {"miou": 0.0, "aacc": 0.0, "macc": 0.0}
