"""What is black and white in pictures of more than 8 bits: one answer for a data set, wherever they are opened."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixture_types import MakeDense, MakePictures
from PIL import Image
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook

from convnext import UserError, api
from convnext.api import check
from convnext.commands.main import main
from convnext.data import Batch
from convnext.data.images import open_image
from convnext.data.level_scan import Measured, measured
from convnext.data.levels import Levels
from convnext.pretrained import from_pretrained
from convnext.robustness.corrupt_folder import corrupt_folder
from convnext.weights.checkpoint import load_checkpoint_metadata

RAMP = np.arange(1024).reshape(32, 32) / 1023  # from 0 to 1


def found_in(folder: Path, *pictures: np.ndarray) -> Measured | None:
    paths = [folder / f"{i:03d}.tif" for i in range(len(pictures))]
    for path, values in zip(paths, pictures, strict=True):
        Image.fromarray(values).save(path)
    return measured(len(paths), paths.__getitem__)


def whole(most: float) -> np.ndarray:
    return np.rint(RAMP * most).astype(np.uint16)


def with_one(values: np.ndarray, value: float) -> np.ndarray:
    """A larger picture of these values, one pixel of which is another."""
    large = np.tile(values, (4, 4))
    large[7, 9] = value
    return large


@pytest.mark.parametrize(
    ("pictures", "levels"),
    [
        ([whole(most) for most in (90, 4000)], (0, 4095)),
        ([whole(most) for most in (200, 150)], (0, 255)),
        ([whole(most) for most in (900, 400)], (0, 1023)),
        ([whole(most) for most in (900, 16_000)], (0, 16_383)),
        ([whole(most) for most in (4000, 4200, 60_000)], (0, 65_535)),
        ([with_one(whole(4000), 50_000)] * 2, (0, 4095)),  # a dead pixel
        ([np.where(RAMP < 0.2, 65_535, RAMP * 4000).astype(np.uint16)] * 2, (0, 4095)),  # no value there, or letters
        ([np.where(RAMP < 0.5, 65_535, 0).astype(np.uint16)], (0, 255)),  # black and white stay black and white
        ([whole(4000)] * 150 + [whole(60_000)], (0, 4095)),  # one of another kind
        ([whole(4000)] * 20 + [whole(60_000)], (0, 65_535)),  # of few pictures it may be one of twenty
        ([(RAMP * most - 1024).astype(np.int32) for most in (3000, 4095)], (-1024, 3071)),  # computed tomography
        ([(RAMP * most).astype(np.float32) for most in (0.1, 1.0)], (0, 1)),
        ([(RAMP * most).astype(np.float32) for most in (0.1, 200.0)], (0, 255)),
        ([(RAMP * most - 30).astype(np.float32) for most in (10, 40)], (-30, 10)),
        ([np.where(RAMP < 0.2, -3.4e38, RAMP * 300).astype(np.float32)], (60, 300)),
        ([whole(4000), (RAMP * 0.7).astype(np.float32)], None),  # whole numbers beside fractions
    ],
)  # fmt: skip
def test_the_usual_range_that_holds_a_data_set(
    pictures: list[np.ndarray], levels: Levels | None, tmp_path: Path
) -> None:
    found = found_in(tmp_path, *pictures)
    assert found is not None
    assert found.levels == (levels and pytest.approx(levels, rel=0.01))


def test_of_ordinary_pictures_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert found_in(tmp_path, *[(RAMP * 255).astype(np.uint8)] * 3) is None
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert measured(1, lambda i: tmp_path / "bad.png") is None


def test_of_many_pictures_a_sample_is_opened(tmp_path: Path) -> None:
    asked: list[int] = []
    Image.fromarray(whole(4000)).save(tmp_path / "a.png")

    def path(index: int) -> Path:
        asked.append(index)
        return tmp_path / "a.png"

    found = measured(100_000, path)
    assert found is not None
    assert found.why.startswith("200 of 200 sampled pictures hold more than 8 bits")
    assert len(asked) == 200
    assert asked == sorted(set(asked))
    assert asked[-1] >= 99_000


@contextlib.contextmanager
def shown() -> Iterator[list[Tensor]]:
    """Every picture that the first layer of a network is given inside."""
    seen: list[Tensor] = []

    def keep(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, torch.nn.Conv2d) and module.in_channels == 3:
            seen.extend(inputs[0].detach().cpu().clone())

    handle = register_module_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def deepened(folder: Path, suffix: str, most: float, spread: float) -> list[Path]:
    """The pictures of a folder in grey of 16 bits instead, from `spread` times darker up to `most`; val's paths."""
    paths = sorted(path for path in folder.rglob("*.png") if "annotations" not in path.parts)
    deep = [path.with_suffix(suffix) for path in paths]
    for i, path in enumerate(paths):
        pixels = np.asarray(Image.open(path).convert("L")) / 255 * most
        path.unlink()
        values = (pixels / spread ** (i % 4 / 3)).astype(np.uint16)
        Image.fromarray(values).save(deep[i])
    return [path for path in deep if any(part.startswith("val") for part in path.relative_to(folder).parts)]


@pytest.mark.parametrize(("suffix", "most", "white"), [(".png", 4095, 4095), (".tif", 65_535, 65_535)])
def test_a_picture_is_the_same_in_training_in_evaluate_and_alone_in_predict(
    suffix: str,
    most: int,
    white: int,
    pictures: MakePictures,
    tiny: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = pictures()
    held_out = deepened(data, suffix, most, spread=30)
    with shown() as in_training:
        result = api.train(data, out=tmp_path / "run", settings=tiny)
    assert f"levels = (0.0, {white}.0): 24 of 24 sampled pictures hold more than 8 bits" in capsys.readouterr().out
    model = tmp_path / "run" / "model.safetensors"
    assert from_pretrained(model).info.preprocess["levels"] == [0, white]
    with shown() as in_evaluate:
        assert api.evaluate(model, data, precision="fp32")["top1"] == pytest.approx(result.metric)
    for path in held_out:
        with shown() as alone:
            api.predict(model, [path], precision="fp32")
        assert len(alone) == 1
        assert sum(torch.equal(alone[0], one) for one in in_evaluate) == 1
        assert any(torch.equal(alone[0], one) for one in in_training)
        expected = np.asarray(Image.open(path)).astype(int) * 256 // (white + 1)
        np.testing.assert_array_equal(np.asarray(open_image(path, levels=(0, white)))[:, :, 0], expected)
    brightness = sorted(float(one.mean()) for one in in_evaluate)
    assert brightness[-1] - brightness[0] > 0.5  # by its own range each would be as bright


def test_ordinary_pictures_train_as_they_did(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.train(pictures(), out=tmp_path / "run", settings=tiny, report=False)
    assert "levels" not in capsys.readouterr().out
    assert "levels" not in load_checkpoint_metadata(tmp_path / "run" / "model.safetensors")["preprocess"]


def test_a_run_keeps_its_levels(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    data = pictures()
    deepened(data, ".png", 4095, spread=2)
    api.train(data, out=tmp_path / "own", settings=tiny | {"levels": "0,1023"}, report=False)
    assert from_pretrained(tmp_path / "own" / "model.safetensors").info.preprocess["levels"] == [0, 1023]
    api.train(data, tmp_path / "own" / "recipe.json", out=tmp_path / "again", report=False)
    assert from_pretrained(tmp_path / "again" / "model.safetensors").info.preprocess["levels"] == [0, 1023]
    other = pictures("more", train=18)
    deepened(other, ".png", 60_000, spread=1)
    api.train(other, tmp_path / "own" / "recipe.json", out=tmp_path / "other", report=False)
    assert from_pretrained(tmp_path / "other" / "model.safetensors").info.preprocess["levels"] == [0, 65_535]
    with pytest.raises(UserError, match=r"the first must be smaller"):
        api.train(data, out=tmp_path / "bad", settings=tiny | {"levels": "9,3"})


def test_a_run_of_an_earlier_version_goes_on_as_it_began(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convnext.classification.task import Classify

    data, plain, calls = pictures(), Classify.losses, iter(range(100))
    deepened(data, ".png", 4095, spread=2)

    def failing(task: Classify, model: torch.nn.Module, batch: Batch) -> dict[str, Tensor]:
        if next(calls) == 6:
            raise KeyboardInterrupt
        return plain(task, model, batch)

    monkeypatch.setattr(Classify, "losses", failing)
    with pytest.raises(KeyboardInterrupt):
        api.train(data, out=tmp_path / "run", settings=tiny | {"levels": None}, report=False)
    monkeypatch.undo()
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    del recipe["levels"]  # as such a run wrote it
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(recipe))
    api.train(out=tmp_path / "run", resume=True, report=False)
    assert "levels" not in from_pretrained(tmp_path / "run" / "model.safetensors").info.preprocess
    with shown() as seen:
        api.predict(tmp_path / "run" / "model.safetensors", [data / "val"])
    assert max(float(one.max()) for one in seen) < -1  # 4,095 of 65,535 is nearly black


def test_a_detector_and_a_segmenter_are_shown_the_same_everywhere(
    annotated: MakeDense, masked: MakeDense, tiny_detection: dict[str, Any], tmp_path: Path
) -> None:
    segmenter = {name: value for name, value in tiny_detection.items() if not name.startswith("detection.")}
    segmenter |= {"segmentation.channels": 16, "eval_every": 1, "save_every": 1}
    kinds = ((annotated(), "coco/mask_rcnn/tiny", tiny_detection), (masked(), "ade20k/upernet/tiny", segmenter))
    for data, recipe, settings in kinds:
        held_out = deepened(data, ".png", 4095, spread=30)
        run = tmp_path / recipe.split("/")[1]
        with shown() as in_training:
            api.train(data, recipe, out=run, settings=settings, report=False)
        assert from_pretrained(run / "model.safetensors").info.preprocess["levels"] == [0, 4095]
        with shown() as alone:
            api.predict(run / "model.safetensors", held_out, precision="fp32")
        assert len(alone) >= len(held_out) >= 3
        for picture in alone:
            assert any(torch.equal(picture, one) for one in in_training)


def test_check_says_what_it_saw(
    pictures: MakePictures, annotated: MakeDense, masked: MakeDense, capsys: pytest.CaptureFixture[str]
) -> None:
    for data in (pictures(), annotated(), masked()):
        deepened(data, ".png", 4095, spread=30)
        report = check(data)
        (said,) = [problem for problem in report.problems if problem.kind == "levels"]
        assert said.severity == "note"
        assert said.detail.endswith("0 is black and 4,095 white, as 12 bits have")
        assert not [problem for problem in report.problems if problem.kind in ("duplicate", "leak", "looks the same")]
        assert main(["check", str(data)]) == 0
        assert "4,095 white" in capsys.readouterr().out


def test_corrupted_copies_are_as_bright_as_the_pictures(pictures: MakePictures, tmp_path: Path) -> None:
    data = pictures(size=32)
    paths = deepened(data, ".png", 4095, spread=1)
    corrupt_folder(data, tmp_path / "out", corruptions=["brightness"], severities=[1])
    for path in paths:
        copy = tmp_path / "out" / "brightness" / "1" / path.relative_to(data / "val").with_name(f"{path.name}.jpg")
        assert np.asarray(Image.open(copy)).mean() > np.asarray(open_image(path, levels=(0, 4095))).mean()
