"""Corrupted copies of a folder: what is written, what is refused, and how they are judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import MakePictures
from PIL import Image
from robustness_cases import ALEXNET, SHAPE, SYNSETS, MakeClasses, MakeCorrupted

import convnext
from convnext.commands.main import main
from convnext.data.preprocess import Preprocess
from convnext.errors import UserError
from convnext.robustness.corrupt_folder import corrupt_folder
from convnext.robustness.evaluate import learned_from, robustness_on_own
from convnext.weights.info import info_of


def test_a_folder_is_corrupted_and_judged(folder: MakeClasses, tmp_path: Path) -> None:
    data = folder("data", {"cat": 3, "dog": 1}, (40, 36))
    Image.new("RGB", (600, 300)).save(data / "dog" / "large.png")
    notes: list[str] = []
    options: dict[str, Any] = {"corruptions": ["gaussian_noise", "contrast"], "severities": (1, 5)}
    out = corrupt_folder(data, tmp_path / "out", say=notes.append, **options)
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert len(written) == 2 * 2 * 5
    assert written[0] == "contrast/1/cat/ILSVRC2012_val_00000001.JPEG"
    with Image.open(out / "contrast" / "5" / "dog" / "large.png.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (512, 256))
    again = corrupt_folder(data, tmp_path / "again", **options)
    other = corrupt_folder(data, tmp_path / "other", seed=1, **options)
    noisy = "gaussian_noise/5/cat/ILSVRC2012_val_00000002.JPEG"
    assert (again / noisy).read_bytes() == (out / noisy).read_bytes() != (other / noisy).read_bytes()
    assert not list(tmp_path.glob(".*"))
    assert notes[0].startswith("5 images")
    assert ": 20 files" in notes[0]
    model = convnext.create_model("convnext_atto", **SHAPE | {"num_classes": 3})
    info_of(model).classes, info_of(model).preprocess = ["bird", "cat", "dog"], Preprocess.for_size(32).to_dict()
    with torch.no_grad():
        model.get_parameter("head.weight").zero_()
        model.get_parameter("head.bias").copy_(torch.tensor([0.0, 1.0, 0.0]))
    path = convnext.save_weights(model, tmp_path / "cats.safetensors")
    result = robustness_on_own(path, out, data, precision="fp32")
    assert result.errors == {name: {1: pytest.approx(0.4), 5: pytest.approx(0.4)} for name in options["corruptions"]}
    assert result.count == 20
    assert result.mean == pytest.approx(40)
    assert result.rows[-1] == {"corruption": "mean", "mean error": 40.0}
    assert list(result.rows[0].items()) == [
        ("corruption", "none"),
        ("severity 1", None),
        ("severity 5", None),
        ("mean error", 40.0),
    ]
    (out / "contrast" / "1" / "cat").rename(out / "contrast" / "1" / "wolf")
    with pytest.raises(UserError, match="wolf"):
        robustness_on_own(path, out)


def test_frost_is_left_out_without_pictures_of_it(folder: MakeClasses, tmp_path: Path) -> None:
    data = folder("data", {"cat": 1, "dog": 1})
    notes: list[str] = []
    out = corrupt_folder(data, tmp_path / "out", severities=(1,), say=notes.append)
    assert sorted(path.name for path in out.iterdir()) == sorted(name for name in ALEXNET if name != "frost")
    assert "frost is left out" in notes[0]
    (tmp_path / "frost").mkdir()
    Image.new("RGB", (64, 64), "white").save(tmp_path / "frost" / "ice.png")
    made = corrupt_folder(data, tmp_path / "iced", corruptions=["frost"], severities=(3,), frost=tmp_path / "frost")
    assert [path.name for path in made.iterdir()] == ["frost"]


def test_what_cannot_be_corrupted_is_said_before_anything_is_written(folder: MakeClasses, tmp_path: Path) -> None:
    data = folder("data", {"cat": 1, "dog": 1})
    small = folder("small", {"cat": 1, "dog": 1}, (31, 40))
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("kept")
    cases: list[tuple[Path, Path, dict[str, Any], str]] = [
        (tmp_path / "nowhere", tmp_path / "out", {}, "there is no folder"),
        (data, full, {}, "not an empty folder"),
        (data, data / "out", {}, "lies in the folder that is read"),
        (data, tmp_path / "out", {"corruptions": ["fogg"]}, "'fogg'"),
        (data, tmp_path / "out", {"severities": (1, 6)}, "severities 6"),
        (data, tmp_path / "out", {"corruptions": ["frost"]}, "frost"),
        (data, tmp_path / "out", {"short_side": 8}, "at least 32"),
        (small, tmp_path / "out", {}, "31 x 40"),
    ]
    for source, out, options, says in cases:
        with pytest.raises(UserError, match=says):
            corrupt_folder(source, out, **options)
    assert not (tmp_path / "out").exists()
    assert [path.name for path in full.iterdir()] == ["mine.txt"]


def test_a_failure_leaves_nothing_behind(folder: MakeClasses, tmp_path: Path) -> None:
    data = folder("data", {"cat": 1, "dog": 1})
    victim = min((data / "dog").iterdir())
    victim.write_bytes(victim.read_bytes()[:-200])  # its header is sound, so only decoding finds it
    with pytest.raises(UserError, match=victim.name):
        corrupt_folder(data, tmp_path / "out", corruptions=["contrast"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_folder_of_other_things_is_not_judged(fixed: Path, folder: MakeClasses, corrupted: MakeCorrupted) -> None:
    with pytest.raises(UserError, match="--corrupt has written"):
        robustness_on_own(fixed, folder("plain", {SYNSETS[0]: 1, SYNSETS[6]: 1}))
    with pytest.raises(UserError, match="'clean'"):
        robustness_on_own(fixed, corrupted("own", ["fog"], (1, "clean")))
    result = robustness_on_own(fixed, corrupted("fine", ["fog"], (2,)), precision="fp32")
    assert result.errors == {"fog": {2: 0.75}}  # by synset, though the network names its classes in words


def test_pictures_that_the_network_learned_from_are_left_out(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """Of one folder without a split a run holds some out, and only those tell anything."""
    data = pictures(train=15, val=0, size=32)
    (data / "train").rename(tmp_path / "one")
    settings = tiny | {"steps": 1}
    model = convnext.train(tmp_path / "one", out=tmp_path / "run", settings=settings, report=False).path
    options: dict[str, Any] = {"corruptions": ["contrast"], "severities": (1,)}
    held_out = corrupt_folder(
        tmp_path / "one", tmp_path / "out", learned=learned_from(model, tmp_path / "one"), **options
    )
    assert len(list(held_out.rglob("*.png.jpg"))) == 3
    assert len(list(corrupt_folder(tmp_path / "one", tmp_path / "all", **options).rglob("*.png.jpg"))) == 15
    assert robustness_on_own(model, held_out, tmp_path / "one", precision="fp32").count == 3


def test_what_cannot_be_judged_is_not_copied_first(
    fixed: Path, folder: MakeClasses, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = folder("data", {"cat": 1, "dog": 1}), tmp_path / "out"
    assert main(["robustness", str(fixed), "--corrupt", str(data), "--out", str(out)]) == 2
    assert "does not know the class 'cat', 'dog'" in capsys.readouterr().err
    assert main(["robustness", str(fixed), "--corrupted", str(data), "--batch-size", "0"]) == 2
    assert "positive --batch-size" in capsys.readouterr().err
    known = folder("known", {SYNSETS[0]: 1, SYNSETS[6]: 1})
    words = ["--corrupt", str(known), "--out", str(out), "--severities", "1", "--corruptions", "fog"]
    assert main(["robustness", str(fixed), *words, "--batch-size", "0"]) == 2
    assert not out.exists()
    assert main(["robustness", str(fixed), *words, "--form", "csv"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "corruption,severity 1,mean error",
        "none,,50.0",
        "fog,50.0,50.0",
        "mean,,50.0",
    ]


def test_copies_made_in_several_processes_are_the_same_bytes(
    pictures: MakePictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pictures(train=3, val=3, size=40)
    made = []
    for cores in (1, 3):
        monkeypatch.setattr("convnext.system.machine.cores", lambda cores=cores: cores)
        out = corrupt_folder(data / "train", tmp_path / f"by{cores}", corruptions=["contrast"], severities=(1,))
        made.append({path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*.jpg"))})
    assert made[0] == made[1]
    assert len(made[0]) == 3
    next((data / "train").rglob("*.png")).write_bytes(b"no picture")
    with pytest.raises(UserError, match="is not an image"):
        corrupt_folder(data / "train", tmp_path / "bad", corruptions=["contrast"], severities=(1,))
