"""K runs on K folds: every picture judged once, by a model that did not learn from it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fixture_types import AsArguments, MakeDense, MakePictures

from convnext import RunResult, api
from convnext.classification.data import open_fold
from convnext.commands.main import main
from convnext.errors import UserError
from convnext.studies import folds
from convnext.system.tables import Row
from convnext.training.log import read


def test_folds_are_alike_and_judge_every_picture_once(pictures: MakePictures) -> None:
    data = pictures(train=32) / "train"
    parts = [open_fold(data, number, 5) for number in range(1, 6)]
    judged = [name for part in parts for name in part.val.ids]
    assert len(judged) == len(set(judged)) == 32
    for part in parts:
        assert not set(part.train.ids) & set(part.val.ids)
        assert len(part.train) + len(part.val) == 32
        assert len(part.val) in (6, 7)
        assert all(2 <= count <= 3 for count in part.val.class_counts())
    assert open_fold(data, 2, 5).val.ids == parts[1].val.ids


def test_folds_give_a_mean_and_an_interval_and_go_on(
    pictures: MakePictures,
    tiny: dict[str, Any],
    tmp_path: Path,
    as_arguments: AsArguments,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, out = pictures(train=30) / "train", tmp_path / "folds"
    words = [
        "train",
        str(data),
        "--folds",
        "3",
        "--out",
        str(out),
        "--no-report",
        *as_arguments(tiny | {"patience": 1}),
    ]
    real = api.train

    def killed(*args: Any, **options: Any) -> RunResult:
        if options.get("fold") == (3, 3):
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(api, "train", killed)
    assert main(words) == 130
    assert len(json.loads((out / "folds.json").read_text())["folds"]) == 2
    monkeypatch.setattr(api, "train", real)
    before = (out / "fold-1" / "log.jsonl").read_bytes()
    assert main(words) == 0
    assert (out / "fold-1" / "log.jsonl").read_bytes() == before
    said = capsys.readouterr().out
    assert "% in the mean of 3 folds, 95 % interval" in said
    assert "each of 30 pictures was judged once" in said
    found = json.loads((out / "folds.json").read_text())
    assert [row["judged"] for row in found["folds"]] == [10, 10, 10]
    low, high = found["interval"]
    assert low <= found["mean"] <= high
    for number in (1, 2, 3):
        rows = [row for row in read(out / f"fold-{number}" / "log.jsonl") if row["kind"] == "eval"]
        assert rows[-1]["step"] == 12  # none was stopped early
        assert rows[-1]["best"]
        assert not rows[-1]["chosen"]
        assert rows[-1]["value"] == found["folds"][number - 1]["top1"]
        model = out / f"fold-{number}" / "model.safetensors"
        assert api.evaluate(model, data, precision="fp32")["top1"] == pytest.approx(rows[-1]["value"])
    assert main([*words, "--epochs", "2"]) == 2
    assert "holds other folds" in capsys.readouterr().err


def test_folds_of_so_many_minutes_are_as_long_as_the_first(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measured anew, each fold had steps of its own: one run of 205 steps and one of 66 were averaged."""
    del tiny["steps"], tiny["eval_every"], tiny["ema"]
    settings = tiny | {"minutes": 0.05, "batch_size": 4}
    out = tmp_path / "folds"
    api.train_folds(pictures(train=18) / "train", folds=2, out=out, settings=settings, report=False)
    one, other = (json.loads((out / f"fold-{number}" / "recipe.json").read_text()) for number in (1, 2))
    assert one["minutes"] == 0.05
    assert {name: (one[name], other[name]) for name in one if one[name] != other[name]} == {"minutes": (0.05, None)}
    assert f"{one['steps']:,} steps, as many as were measured for the first fold" in capsys.readouterr().out


def test_folds_of_pictures_that_have_changed_are_not_gone_on_with(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """They would be divided otherwise: a picture would be judged by a model that learned from it, or twice."""
    data, out = pictures(train=30) / "train", tmp_path / "folds"
    options: dict[str, Any] = {"folds": 3, "out": out, "settings": tiny | {"steps": 2}, "report": False}
    api.train_folds(data, **options)
    (data / "class 0" / "another.png").write_bytes((data / "class 0" / "000.png").read_bytes())
    shutil.rmtree(out / "fold-3")
    with pytest.raises(UserError, match="the pictures have changed since the folds"):
        api.train_folds(data, **options)
    (data / "class 0" / "another.png").unlink()
    written = json.loads((out / "folds.json").read_text())
    del written["plan"]["pictures"], written["plan"]["recipe"]["eval_batch"]  # as an earlier version wrote it
    (out / "folds.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match="holds other folds"):
        api.train_folds(data, **options | {"settings": tiny | {"steps": 3}})
    assert len(api.train_folds(data, **options)["folds"]) == 3


def test_a_setting_that_was_refused_leaves_the_folder_free(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    data = pictures(train=12) / "train"
    with pytest.raises(UserError, match="smaller --batch-size"):
        api.train_folds(data, folds=2, out=tmp_path / "folds", settings=tiny | {"batch_size": 9999}, report=False)
    found = api.train_folds(
        data, folds=2, out=tmp_path / "folds", settings=tiny | {"batch_size": 4, "steps": 2}, report=False
    )
    assert len(found["folds"]) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--folds", "1"], "choose at least 2"), (["--folds", "11"], "has 10 images"),
     (["--folds", "3", "--resume"], "repeat"),
     (["--folds", "3", "--nproc", "2"], "leave out --nproc"), (["--folds", "3", "--val-fraction", "0.1"], "in turn")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(
    words: list[str], says: str, pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = pictures(train=30) / "train"
    assert main(["train", str(data), "--out", str(tmp_path / "out"), *words]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folds_of_data_with_a_split_are_refused(pictures: MakePictures, annotated: MakeDense, tmp_path: Path) -> None:
    for data, says in (
        (pictures(), "has a split of its own.*/train"),
        ("digits", "has a split of its own"),
        (annotated(), "--folds is for classifiers"),
    ):
        with pytest.raises(UserError, match=says):
            api.train_folds(data, folds=3, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_interval_is_never_that_of_no_spread() -> None:
    low, high = folds._interval([100.0, 100.0, 100.0], [10, 10, 10], [100.0] * 3)
    assert low == pytest.approx(88.43, abs=0.01)
    assert high == 100
    low, high = folds._interval([30.0, 50.0, 40.0], [10, 10, 10], [30.0, 30.0, 30.0])
    assert (low, high) == pytest.approx(
        (40 - 4.3027 * 10 * (1 / 3 + 1 / 2) ** 0.5, 40 + 4.3027 * 10 * (5 / 6) ** 0.5), 1e-3
    )
    low, high = folds._interval([80.0, 80.0], [10, 10], [60.0, 60.0])  # two folds of one F1 are no certainty
    assert low < 65
    assert 95 < high <= 100


@pytest.mark.parametrize("fold", [0, 4])
def test_there_is_no_fold_beyond_the_last(fold: int, pictures: MakePictures) -> None:
    with pytest.raises(UserError, match=f"there is no fold {fold} of 3"):
        open_fold(pictures(train=30) / "train", fold, 3)


def test_two_folds_are_called_few() -> None:
    rows: list[Row] = [{"fold": i, "judged": 40, "top1": 40.0 + i, "run": f"fold-{i}"} for i in (1, 2)]
    found: folds.Summary = {"metric": "top1", "folds": rows, "mean": 41.5, "interval": (0.0, 100.0)}
    assert "take --folds 5 for a narrower interval" in folds.as_text(found, "data")
