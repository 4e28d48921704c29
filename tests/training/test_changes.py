"""A run goes on when its pictures have been mended as its own messages advise."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from fixture_types import MakeDense, MakePictures
from PIL import Image

from convnext import api
from convnext.classification.data import open_data
from convnext.data.request import DataRequest
from convnext.errors import UserError
from convnext.image_level import setup as image_level
from convnext.recipes import get_recipe
from convnext.tasks import open_data as opened
from convnext.training import changes
from convnext.training.log import read
from convnext.weights.checkpoint import load_checkpoint_metadata


def cut_short(run: Path, step: int) -> None:
    """As if the run had been killed after `step`: later checkpoints and rows are not there."""
    for folder in (run / "checkpoints").glob("step-*"):
        if int(folder.name[5:]) > step:
            shutil.rmtree(folder)
    rows = [row for row in read(run / "log.jsonl") if row["step"] <= step and row["kind"] != "end"]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_damaged_picture_can_be_taken_out_or_replaced(
    pictures: MakePictures,
    tiny: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The message says so, and --resume refused to go on: the data had changed."""
    monkeypatch.setattr(image_level, "CACHE_SHARE", 0.0)
    data = pictures(train=50) / "train"
    victim, other = (data / name for name in random.Random(0).sample(open_data(data).train.ids, 2))
    for i, path in enumerate((victim, other)):
        sound = path.read_bytes()
        path.write_bytes(sound[:60])
        with pytest.raises(UserError, match=r"replace it or take it out") as caught:
            api.train(
                None if i else data, out=tmp_path / "run", settings=None if i else tiny, resume=bool(i), report=False
            )
        assert path.name in str(caught.value)
        path.unlink() if i == 0 else path.write_bytes(sound)
    result = api.train(out=tmp_path / "run", resume=True, report=False)
    assert result.history[-1]["kind"] == "end"
    out = capsys.readouterr().out
    assert f"1 picture is gone ('{victim.relative_to(data)}')" in out
    assert "the order of samples is another one from here" in out


def test_pictures_stay_on_their_side_and_new_ones_are_left_out(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    data, run = pictures(train=60) / "train", tmp_path / "run"
    begun = open_data(data)
    api.train(data, out=run, settings=tiny, report=False)
    cut_short(run, 6)
    for name in (begun.val.ids[0], begun.train.ids[0]):
        (data / name).unlink()
    Image.effect_noise((16, 16), 90).convert("RGB").save(data / "class 1" / "new.png")
    now = changes.as_started(run, open_data(data))
    assert set(now.train.ids) <= set(begun.train.ids) - {begun.train.ids[0]}
    assert set(now.val.ids) <= set(begun.val.ids) - {begun.val.ids[0]}
    assert len(now.train) + len(now.val) >= 60 - 2 - 3
    assert "2 pictures are gone" in now.note
    assert "1 is new and left out ('class 1/new.png')" in now.note
    result = api.train(out=run, resume=True, report=False)
    assert result.history[-1] | {"time_s": 0} == {"kind": "end", "step": 12, "steps": 12, "time_s": 0}
    told = json.loads(load_checkpoint_metadata(run / "model.safetensors")["data"])
    assert told["pictures"]["count"] >= len(now.train)


def test_other_data_is_refused_with_what_differs(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    data, run = pictures(train=30) / "train", tmp_path / "run"
    api.train(data, out=run, settings=tiny, report=False)
    first = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png"))
    for name in first[:4]:
        (data / name).rename(tmp_path / name.replace("/", " "))
    with pytest.raises(UserError, match=r"has changed since .*: 4 pictures are gone .'class 0/000.png'.* start a new"):
        api.train(out=run, resume=True)
    for name in first[:4]:
        (tmp_path / name.replace("/", " ")).rename(data / name)
    (data / "class 0").rename(data / "class 9")
    with pytest.raises(UserError, match="has changed since"):
        api.train(out=run, resume=True)


def test_a_run_of_before_goes_on_with_the_test_split_that_chose(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """Earlier versions chose the best weights by test/ where there was no val/."""
    data, run = pictures(), tmp_path / "run"
    api.train(data, out=run, settings=tiny, report=False)
    cut_short(run, 6)
    (data / "val").rename(data / "test")
    start, *rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    from convnext.training.run_folder import fingerprint

    start["fingerprint"] = fingerprint(opened(DataRequest(str(data), test_chooses=True), api.get_recipe("scratch")))
    del start["request"]["test_chooses"]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (start, *rows)))
    (run / "pictures.json").unlink()
    result = api.train(out=run, resume=True, report=False)
    assert result.history[-1]["kind"] == "end"
    assert result.best["raw"]["count"] == 7


def test_a_run_of_before_on_a_test_split_is_not_told_that_its_data_has_changed(
    masked: MakeDense, tmp_path: Path
) -> None:
    """It took test/ for its validation pictures, and kept no names."""
    data = masked(train=8)
    (data / "images" / "val").rename(data / "images" / "test")
    (data / "annotations" / "val").rename(data / "annotations" / "test")
    splits = opened(DataRequest(str(data)), get_recipe("segment"))
    assert splits.test is not None
    with pytest.raises(UserError, match="or the earlier version that started it took the test split for validation"):
        changes.as_started(tmp_path, splits)
