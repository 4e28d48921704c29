"""The everyday job through the functions that the command line calls."""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from fixture_types import MakePictures
from narrow import instance_of
from PIL import Image
from small_models import ModelOptions

import convnext
from convnext import api
from convnext.errors import UserError
from convnext.pretrained import from_pretrained
from convnext.training import run_folder
from convnext.training.log import read
from convnext.weights.checkpoint import load_checkpoint_metadata


def recipe_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "recipe.json").read_text())


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet10t"])
def test_a_baseline_trains_evaluates_and_predicts_through_the_same_functions(
    name: str, pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    data = pictures(size=32)
    settings = {k: v for k, v in tiny.items() if k not in ("depths", "dims", "patch_size", "drop_path", "dropout")}
    settings |= {"model": name, "image_size": 32, "steps": 6}
    result = api.train(data, out=tmp_path / "run", settings=settings)
    model = tmp_path / "run" / "model.safetensors"
    assert api.evaluate(model, data, precision="fp32")["top1"] == pytest.approx(result.metric)
    (answer,) = api.predict(model, [next((data / "val").rglob("*.png"))], top=2)
    assert answer.error is None
    assert {label for label, _ in instance_of(api.Prediction, answer).top} <= {"class 0", "class 1", "class 2"}
    assert (tmp_path / "run" / "report" / "index.html").exists()


def test_what_a_baseline_cannot_do_is_said(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    settings = {k: v for k, v in tiny.items() if k not in ("depths", "dims", "patch_size", "dropout")}
    settings |= {"model": "torchvision:resnet18", "grad_checkpointing": True}
    with pytest.raises(UserError, match="cannot recompute its activations"):
        api.train(pictures(), out=tmp_path / "run", settings=settings)
    with pytest.raises(UserError, match="takes no dropout rate"):
        api.train(pictures("more"), out=tmp_path / "run", settings=settings | {"dropout": 0.1})
    assert not (tmp_path / "run").exists()


@pytest.fixture
def tagged(pictures: MakePictures) -> Path:
    """A folder of pictures with a table of labels: each has its colour, and every second one is even."""
    folder = pictures(train=24, val=0) / "train"
    with (folder / "labels.csv").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["path", "labels"])
        for i, path in enumerate(sorted(folder.rglob("*.png"))):
            table.writerow([path.relative_to(folder), ";".join([path.parent.name] + ["even"] * (i % 2 == 0))])
    return folder


def test_several_labels_an_image(tagged: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    result = api.train(tagged, out=tmp_path / "run", settings=tiny)
    assert recipe_of(result.path)["loss"] == "bce"
    assert result.best["metric"] == "macro_f1"
    model = result.path / "model.safetensors"
    assert load_checkpoint_metadata(model)["task"] == "multi_label"
    tops = [instance_of(api.Prediction, answer).top for answer in api.predict(model, [tagged], top=4)]
    sums = [sum(p for _, p in top) for top in tops]
    assert all(len(top) == 4 for top in tops)
    assert any(abs(total - 1) > 1e-3 for total in sums)  # each label on its own, not shares of one
    found = api.evaluate(model, tagged, precision="fp32")
    assert found["macro_f1"] == pytest.approx(result.metric)


def test_too_few_passes_in_the_minutes_make_the_pictures_smaller(
    pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was chosen is what is trained, kept, resumed and shown to the published model."""
    network = {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8), "batch_size": 8}
    data = pictures(size=160, train=48)
    run = api.train(data, out=tmp_path / "run", settings=network | {"minutes": 0.01}, report=False).path
    assert "image_size = 64: 0.01 minutes are" in capsys.readouterr().out
    assert recipe_of(run)["image_size"] == 64
    assert from_pretrained(run / "model.safetensors").info.preprocess["size"] == 64
    api.train(data, out=tmp_path / "own", settings=network | {"minutes": 0.01, "image_size": 160}, report=False)
    assert recipe_of(tmp_path / "own")["image_size"] == 160


def test_a_time_budget_settles_the_steps_once_and_keeps_them(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    del tiny["steps"], tiny["ema"], tiny["eval_every"]
    result = api.train(pictures(), out=tmp_path / "run", settings=tiny | {"minutes": 0.03}, report=False)
    recipe = recipe_of(result.path)
    end = result.history[-1]
    assert end["kind"] == "end"
    assert end["step"] == recipe["steps"] >= 1
    assert recipe["epochs"] == pytest.approx(recipe["steps"] / 3)
    assert (recipe["ema"] is None) == (recipe["steps"] < 20)  # too few for an average
    # The schedule ends with the budget: the last step's rate is close to the floor.
    assert [row for row in result.history if row["kind"] == "train"][-1]["lr"] < 0.2 * recipe["optim"]["lr"]


def test_the_micro_batch_is_measured_on_request(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    api.train(pictures(), out=tmp_path / "run", settings=tiny | {"auto_batch": True}, report=False)
    assert recipe_of(tmp_path / "run")["micro_batch"] == 8


def test_recomputing_activations_changes_nothing(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    data = pictures()
    losses = []
    for i, on in enumerate((False, True)):
        settings = tiny | {"grad_checkpointing": on}
        result = api.train(data, out=tmp_path / str(i), settings=settings, report=False)
        losses.append([row["loss"] for row in result.history if row["kind"] == "train"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


@pytest.mark.parametrize("change", [{"class_weights": "balanced"}, {"sampling": "balanced"}, {"loss": "bce"}])
def test_imbalance_and_other_losses_by_option(
    change: dict[str, str], pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    data = pictures()
    for extra in sorted((data / "train" / "class 0").iterdir())[2:]:
        extra.unlink()
    result = api.train(data, out=tmp_path / "run", settings=tiny | change, report=False)
    plain = api.train(data, out=tmp_path / "plain", settings=tiny, report=False)
    losses = [[row["loss"] for row in one.history if row["kind"] == "train"] for one in (result, plain)]
    assert losses[0] != losses[1]


def test_finetuning_keeps_the_backbone_and_says_what_became_of_the_head(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.train(pictures("one"), out=tmp_path / "first", settings=tiny, report=False)
    shape = {k: tiny[k] for k in ("model", "depths", "dims", "patch_size", "image_size", "workers", "precision")}
    settings = shape | {"weights": str(tmp_path / "first" / "model.safetensors"), "epochs": 2}
    result = api.train(pictures("two", classes=2), out=tmp_path / "second", settings=settings, report=False)
    assert recipe_of(result.path)["name"] == "finetune"
    assert recipe_of(result.path)["optim"]["layer_decay"] is None  # 24 pictures taught it too little to be kept
    assert "head" in capsys.readouterr().out


def test_evaluation_matches_classes_by_name(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    data = pictures(val=9)
    calm = {"augment.mixup": 0, "augment.cutmix": 0, "augment.randaugment": 0, "augment.erase": 0, "drop_path": 0}
    result = api.train(data, out=tmp_path / "run", settings=tiny | calm | {"steps": 60, "dropout": 0}, report=False)
    fewer = tmp_path / "fewer"
    shutil.copytree(data, fewer)
    for split in ("train", "val"):
        shutil.rmtree(fewer / split / "class 0")
    found = api.evaluate(result.path / "model.safetensors", fewer, precision="fp32")
    assert found["count"] == 6
    assert found["top1"] == result.metric == 100  # class 1 and 2 are still they, not 0 and 1
    for split in ("train", "val"):
        (fewer / split / "class 1").rename(fewer / split / "unheard of")
    with pytest.raises(UserError, match="unheard of"):
        api.evaluate(result.path / "model.safetensors", fewer)


def test_flips_and_crops_are_averaged(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    data = pictures(size=24)
    result = api.train(data, out=tmp_path / "run", settings=tiny, report=False)
    model = result.path / "model.safetensors"
    plain = api.evaluate(model, data, precision="fp32")
    several = api.evaluate(model, data, flip=True, crops=5, precision="fp32")
    assert several["count"] == plain["count"]
    assert several["loss"] != plain["loss"]


def test_the_public_names_are_those_of_the_design() -> None:
    for name in (
        "list_models",
        "create_model",
        "load_weights",
        "save_weights",
        "from_pretrained",
        "get_recipe",
        "train",
        "evaluate",
        "predict",
        "convnext_tiny",
        "convnext_isotropic_large",
    ):
        assert callable(getattr(convnext, name))
        assert name in dir(convnext)
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = importlib.import_module("convnext").nothing_such


def test_a_result_tells_what_simpler_methods_reach(tmp_path: Path, tiny: dict[str, Any]) -> None:
    settings = {k: v for k, v in tiny.items() if not k.startswith("augment")} | {"image_size": 8, "steps": 3}
    result = api.train(out=tmp_path / "run", settings=settings)
    assert [name.split()[0] for name, _ in result.comparisons] == ["logistic", "RBF"]
    assert all(90 < value < 100 for _, value in result.comparisons)
    assert read(result.path / "log.jsonl")[-1]["kind"] == "comparison"
    again = api.train(out=tmp_path / "run", resume=True)
    assert again.comparisons == result.comparisons


def test_a_report_that_is_missing_is_made_on_resuming(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    api.train(pictures(), out=tmp_path / "run", settings=tiny, report=False)
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    api.train(out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "report" / "index.html").exists()
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_compiling_the_network_is_a_switch(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    data = pictures()
    quiet = tiny | {"drop_path": 0, "dropout": 0}
    one = api.train(data, out=tmp_path / "a", settings=quiet, report=False)
    two = api.train(data, out=tmp_path / "b", settings=quiet | {"compile": True}, report=False)
    losses = [[row["loss"] for row in run.history if row["kind"] == "train"] for run in (one, two)]
    torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(losses[1]), atol=1e-4, rtol=0)


def test_a_replayed_recipe_can_be_shortened(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    data = pictures()
    api.train(data, out=tmp_path / "a", settings=tiny, report=False)
    again = api.train(
        data, str(tmp_path / "a" / "recipe.json"), out=tmp_path / "b", settings={"epochs": 1}, report=False
    )
    assert again.history[-1]["step"] == 3


def test_converting_keeps_names_and_protocol(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    result = api.train(pictures(), out=tmp_path / "run", settings=tiny, report=False)
    api.convert(result.path / "model.safetensors", tmp_path / "timm.safetensors", naming="timm")
    before, after = (
        convnext.from_pretrained(p) for p in (result.path / "model.safetensors", tmp_path / "timm.safetensors")
    )
    assert after.info.classes == before.info.classes == ["class 0", "class 1", "class 2"]
    assert after.info.preprocess == before.info.preprocess


def test_a_folder_without_a_split_is_judged_whole_unless_it_was_learned_from(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other = pictures("one", train=30) / "train", pictures("two", train=12) / "train"
    result = api.train(folder, out=tmp_path / "run", settings=tiny, val_fraction=0.4, report=False)
    model = result.path / "model.safetensors"
    for path in other.rglob("*.png"):  # no copies, though of the same names
        Image.effect_noise((16, 16), 90).convert("RGB").save(path)
    assert api.evaluate(model, folder, precision="fp32", say=print)["count"] == 12
    assert "held out of its training" in capsys.readouterr().out
    assert api.evaluate(model, folder, split="train", precision="fp32")["count"] == 18
    assert api.evaluate(model, folder, split="all", precision="fp32")["count"] == 30
    assert api.evaluate(model, other, precision="fp32", say=print)["count"] == 12
    assert "all 12 images" in capsys.readouterr().out


def test_a_lone_validation_folder_can_be_judged(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    data = pictures()
    result = api.train(data, out=tmp_path / "run", settings=tiny, report=False)
    shutil.rmtree(data / "train")
    assert api.evaluate(result.path / "model.safetensors", data, precision="fp32")["count"] == 7


def test_weights_bring_their_size_and_shape(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    first = api.train(pictures("one"), out=tmp_path / "first", settings=tiny, report=False)
    settings = {"weights": str(first.path / "model.safetensors"), "epochs": 1, "workers": 0, "precision": "fp32"}
    second = api.train(pictures("two"), out=tmp_path / "second", settings=settings, report=False)
    recipe = recipe_of(second.path)
    assert recipe["dims"] == list(tiny["dims"])
    assert (recipe["patch_size"], recipe["image_size"]) == (1, 16)


def test_a_released_tag_is_fine_tuned_and_its_pictures_recorded(
    pictures: MakePictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVNEXT_HOME", str(tmp_path / "cache"))
    released = tmp_path / "cache" / "weights" / "convnext_tiny_1k_224_ema.pth"  # as a finished download
    released.parent.mkdir(parents=True)
    torch.save({"model": dict(convnext.create_model("convnext_tiny").state_dict())}, released)
    settings = {"weights": "in1k", "image_size": 32, "steps": 2, "batch_size": 2, "workers": 0}
    result = api.train(pictures(train=6, val=3), out=tmp_path / "run", settings=settings, report=False)
    assert recipe_of(result.path)["model"] == "convnext_tiny"
    model = result.path / "model.safetensors"
    assert json.loads(load_checkpoint_metadata(model)["data"])["pictures"]["count"] == 6
    second = settings | {"weights": str(model), "image_size": 32}
    another = api.train(pictures("more", train=9, val=3), out=tmp_path / "second", settings=second, report=False)
    learned = json.loads(load_checkpoint_metadata(another.path / "model.safetensors")["data"])
    assert learned["pictures"]["count"] == 9  # six of them are the same pictures by name and contents


def test_a_damaged_record_in_first_weights_is_said_before_the_first_step(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    api.train(pictures("one"), out=tmp_path / "first", settings=tiny, report=False)
    model, damaged = convnext.from_pretrained(tmp_path / "first" / "model.safetensors"), tmp_path / "w.safetensors"
    record = json.dumps({"pictures": {"count": 24, "names": "AAAA"}})
    convnext.save_weights(model, damaged, metadata=model.info.metadata | {"data": record})
    with pytest.raises(UserError, match="list of the pictures it learned from is damaged"):
        api.train(pictures("two"), out=tmp_path / "run", settings=tiny | {"weights": str(damaged)}, report=False)
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_a_file_without_a_classifier_or_for_other_channels_is_said(pictures: MakePictures, tmp_path: Path) -> None:
    shape: ModelOptions = {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}
    bare, grey = shape | {"num_classes": 0}, shape | {"in_chans": 1}
    for name, options, says in (("bare", bare, "no classifier"), ("grey", grey, "1 channels")):
        path = tmp_path / f"{name}.safetensors"
        convnext.save_weights(convnext.create_model("convnext_atto", **options), path)
        with pytest.raises(UserError, match=says):
            api.predict(path, [next(pictures(name).rglob("*.png"))])


def test_pictures_that_vanish_in_the_network_are_refused_before_the_folder_is_made(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="16 pixels vanish in a network of stride 32"):
        api.train(pictures(), out=tmp_path / "run", settings=tiny | {"patch_size": 4})
    assert not (tmp_path / "run").exists()


def test_what_was_changed_of_a_recipe_is_kept(pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path) -> None:
    recipe = convnext.get_recipe("scratch", **tiny)
    convnext.train(pictures(), recipe, out=tmp_path / "run", report=False)
    saved = recipe_of(tmp_path / "run")
    assert (saved["steps"], saved["batch_size"], saved["optim"]["lr"]) == (12, 8, 2e-3)
    assert (saved["ema"], saved["drop_path"], saved["image_size"]) == (0.9, 0.2, 16)


def test_a_baseline_on_tiny_pictures_is_not_trained_in_bf16_on_a_cpu(pictures: MakePictures, tmp_path: Path) -> None:
    settings = {"model": "torchvision:resnet18", "image_size": 16, "steps": 2, "batch_size": 8, "workers": 0}
    picked = mock.patch("convnext.training.runtime.native_precision", return_value=("bf16", "it has"))
    cpu = mock.patch("convnext.training.runtime.default_device", return_value=torch.device("cpu"))
    with picked, cpu:
        convnext.train(pictures(), settings=settings, out=tmp_path / "tiny", report=False)
        convnext.train(pictures("more"), settings=settings | {"image_size": 32}, out=tmp_path / "run", report=False)
        forced = settings | {"precision": "bf16", "steps": 1}
        with contextlib.suppress(RuntimeError):  # it may well diverge
            convnext.train(pictures("most"), settings=forced, out=tmp_path / "forced", report=False)
    assert [recipe_of(tmp_path / name)["precision"] for name in ("tiny", "run", "forced")] == ["fp32", "bf16", "bf16"]


def test_two_runs_that_start_at_once_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = convnext.get_recipe("scratch")
    chosen = [run_folder.choose(None, recipe, resume=False) for _ in range(2)]
    assert chosen == [Path("runs/scratch-1")] * 2
    made = [run_folder.make(path, recipe, numbered=True) for path in chosen]
    assert made == [Path("runs/scratch-1"), Path("runs/scratch-2")]


def test_a_file_in_the_place_of_runs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").touch()
    with pytest.raises(UserError, match="is a file, not a folder"):
        run_folder.make(Path("runs/scratch-1"), convnext.get_recipe("scratch"), numbered=True)
