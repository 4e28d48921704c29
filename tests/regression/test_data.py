"""Which pictures of a table of numbers are learned from, judged on, and left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixture_types import MakeMeasured

from convnext import api
from convnext.data.request import DataRequest
from convnext.errors import UserError
from convnext.regression.data import open_data, open_for_judging
from convnext.tasks.look import look_at


def request(
    folder: Path,
    *,
    labels: str | None = None,
    val_fraction: float = DataRequest.val_fraction,
    fold: int | None = None,
    folds: int | None = None,
) -> DataRequest:
    return DataRequest(str(folder), labels, val_fraction, fold, folds)


def test_a_share_is_held_out_by_name(measured: MakeMeasured) -> None:
    folder = measured()
    splits = open_data(request(folder))
    assert (len(splits.train), len(splits.val), splits.test) == (32, 8, None)
    assert splits.train.classes == ("brightness", "redness")
    assert not set(splits.train.ids) & set(splits.val.ids)
    table = (folder / "labels.csv").read_text().splitlines()
    (folder / "labels.csv").write_text("\n".join([table[0], *reversed(table[1:])]) + "\n")
    assert set(open_data(request(folder)).val.ids) == set(splits.val.ids)
    assert len(open_data(request(folder, val_fraction=0.0)).val) == 0


def test_the_tables_own_split_counts_and_test_judges_at_the_end(measured: MakeMeasured) -> None:
    folder = measured(split=True)
    splits = open_data(request(folder))
    assert (len(splits.train), len(splits.val)) == (30, 10)
    (folder / "labels.csv").write_text((folder / "labels.csv").read_text().replace(",val", ",test"))
    splits = open_data(request(folder))
    assert splits.test is not None
    assert (len(splits.train), len(splits.val), len(splits.test)) == (24, 6, 10)
    assert "10 test images judge the published weights once" in splits.note


def test_training_pictures_of_one_value_are_refused(measured: MakeMeasured) -> None:
    """The table has two, the training split one: a spread of 0, and a loss that is no number."""
    folder = measured(split=True)
    rows = [f"{i:03d}.png,{5 if i % 4 == 3 else 3},{'val' if i % 4 == 3 else 'train'}" for i in range(40)]
    (folder / "labels.csv").write_text("path,age,split\n" + "\n".join(rows) + "\n")
    with pytest.raises(UserError, match="'age' is 3 in each of the 30 training pictures"):
        open_data(request(folder))


def test_folds_hold_each_picture_out_once(measured: MakeMeasured) -> None:
    folder = measured(count=23)
    held = [open_data(request(folder, fold=k, folds=4)).val.ids for k in range(1, 5)]
    assert sorted(map(len, held)) == [5, 6, 6, 6]
    assert len({name for part in held for name in part}) == 23
    with pytest.raises(UserError, match="there is no fold 5 of 4"):
        open_data(request(folder, fold=5, folds=4))
    with pytest.raises(UserError, match="has a split of its own"):
        open_data(request(measured("other", split=True), fold=1, folds=4))
    with pytest.raises(UserError, match="names 23 pictures, and each fold needs one"):
        open_data(request(folder, fold=1, folds=24))


def test_what_is_missing_is_named(measured: MakeMeasured, tmp_path: Path) -> None:
    folder = measured()
    (folder / "007.png").unlink()
    with pytest.raises(UserError, match=r"names files that are not in .*: '007.png'"):
        open_data(request(folder))
    with pytest.raises(UserError, match=r"regress needs pictures with numbers: pass a folder with a labels.csv"):
        open_data(DataRequest())
    (folder / "labels.csv").unlink()
    with pytest.raises(UserError, match=r"has no labels.csv that names its pictures; name the table by --labels"):
        open_data(request(folder))


def test_a_table_elsewhere_and_names_without_their_suffix(measured: MakeMeasured, tmp_path: Path) -> None:
    folder = measured()
    text = (folder / "labels.csv").read_text().replace(".png", "").replace("path", "id")
    (folder / "labels.csv").unlink()
    (tmp_path / "table.csv").write_text(text)
    splits = open_data(request(folder, labels=str(tmp_path / "table.csv")))
    assert len(splits.train) + len(splits.val) == 40
    assert "40 were found by their names" in splits.note
    assert look_at(folder, tmp_path / "table.csv").task == "regress"


def test_a_model_is_judged_on_its_own_targets(measured: MakeMeasured) -> None:
    folder = measured(split=True)
    source, note = open_for_judging(folder, ("redness",))
    assert source.classes == ("redness",)
    assert "images of the val split" in note
    with pytest.raises(UserError, match="has no column 'age'; it has 'brightness', 'redness'"):
        open_for_judging(folder, ("age",))
    with pytest.raises(UserError, match="marks no row as test; choose one of --split train, val"):
        open_for_judging(folder, ("redness",), split="test")
    with pytest.raises(UserError, match="has a split of its own"):
        open_for_judging(folder, ("redness",), split="all")


def test_what_was_learned_from_is_not_judged(
    measured: MakeMeasured, tiny_numbers: dict[str, Any], tmp_path: Path
) -> None:
    folder = measured()
    run = api.train(folder, out=tmp_path / "run", settings=tiny_numbers | {"steps": 1}, report=False)
    said: list[str] = []
    found = api.evaluate(run.path / "model.safetensors", folder, say=said.append)
    assert found["count"] == 8
    assert "32 others, that it learned from, are left out" in said[0]
    assert api.evaluate(run.path / "model.safetensors", folder, split="train")["count"] == 32
    assert api.evaluate(run.path / "model.safetensors", folder, split="all")["count"] == 40


def test_the_folder_is_recognised_and_both_readings_are_named(measured: MakeMeasured) -> None:
    look = look_at(measured())
    assert (look.kind, look.task) == ("numbers", "regress")
    assert look.others().endswith("by --recipe classify")
    folder = measured("counts")
    rows = [f"{i:03d}.png,{i % 5}" for i in range(40)]
    (folder / "labels.csv").write_text("path,digit\n" + "\n".join(rows) + "\n")
    look = look_at(folder)
    assert (look.kind, look.task) == ("table", "classify")
    assert "pictures with numbers in a table ('digit' holds numbers) by --recipe regress" in look.others()
    assert open_data(request(folder)).train.classes == ("digit",)


def test_whoever_asks_for_regression_hears_what_is_wrong(measured: MakeMeasured, tmp_path: Path) -> None:
    """It was told to classify."""
    folder = measured()
    (folder / "labels.csv").write_text("path,height\n000.png,1.5\n001.png,tall\n002.png,2\n")
    with pytest.raises(UserError, match=r"row 3 of .*: 'height' is 'tall', expected a number"):
        api.train(folder, "regress", out=tmp_path / "run")
    (folder / "labels.csv").write_text("path,height\n000.png,5\n001.png,5\n")
    with pytest.raises(UserError, match="'height' is 5 in every picture"):
        api.train(folder, "regress", out=tmp_path / "run")
    (folder / "labels.csv").write_text("path,breed\n000.png,cat\n001.png,dog\n")
    with pytest.raises(UserError, match="has no column of numbers; its columns are 'breed'"):
        api.train(folder, "regress", out=tmp_path / "run")
    assert look_at(folder).others() == ""


def test_numbers_that_float32_does_not_hold_are_refused(measured: MakeMeasured) -> None:
    """They were learned in its steps, or the loss was no number."""
    folder = measured()
    for value in (lambda i: 1e12 + i, lambda i: (1 + i) * 1e301, lambda i: i * 1e-60):
        rows = [f"{i:03d}.png,{value(i)}" for i in range(40)]
        (folder / "labels.csv").write_text("path,t\n" + "\n".join(rows) + "\n")
        with pytest.raises(UserError, match="float32 does not hold"):
            open_data(request(folder))
    rows = [f"{i:03d}.png,{1.6e9 + i * 1e6}" for i in range(40)]  # seconds, over a year
    (folder / "labels.csv").write_text("path,t\n" + "\n".join(rows) + "\n")
    assert len(open_data(request(folder)).train) == 32
