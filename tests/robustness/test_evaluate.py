"""Suites checked before anything runs, figures that can be worked out by hand, Table 8 for a network without a clue."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixture_types import MakePictures
from PIL import Image

import convnext
from convnext import files
from convnext.catalog.class_lists import imagenet1k, positions_in_22k
from convnext.commands.main import main
from convnext.data.preprocess import Preprocess
from convnext.errors import UserError
from convnext.robustness import evaluate as module
from convnext.robustness import suites
from convnext.robustness.corrupt_folder import corrupt_folder
from convnext.robustness.evaluate import Result, learned_from, robustness, robustness_on_own, table
from convnext.system.tables import render

SYNSETS = [synset for synset, _ in imagenet1k()]
SHAPE: dict[str, Any] = {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}
ALEXNET = suites.alexnet_errors()
FIVE = (1, 2, 3, 4, 5)


def save(path: Path, *, bias: dict[int, float] | None = None, size: int = 32, **options: Any) -> Path:
    """An untrained network; with `bias` one that gives every picture the same answer, by those logits."""
    torch.manual_seed(0)
    model = convnext.create_model("convnext_atto", **SHAPE | options)
    if bias is not None:
        with torch.no_grad():
            model.head.weight.zero_()
            model.head.bias.fill_(-9)
            for index, value in bias.items():
                model.head.bias[index] = value
    classes = {"classes": json.dumps(options.pop("classes"))} if "classes" in options else {}
    return convnext.save_weights(
        model, path, metadata={"preprocess": json.dumps(Preprocess.for_size(size).to_dict())} | classes
    )


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    """Answers tench (0) always, and stingray (6), one of ImageNet-A's, where tench is not to be had."""
    return save(tmp_path / "fixed.safetensors", bias={0: 2.0, 6: 1.0})


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of class folders with so many noisy pictures each, numbered across the classes."""

    def make(name: str, counts: dict[str, int], size: tuple[int, int] = (32, 32)) -> Path:
        rng, number = np.random.default_rng(0), 0
        for label, count in counts.items():
            (tmp_path / name / label).mkdir(parents=True, exist_ok=True)
            for _ in range(count):
                number += 1
                pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / label / f"ILSVRC2012_val_{number:08d}.JPEG")
        return tmp_path / name

    return make


@pytest.fixture
def corrupted(folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Makes CORRUPTION/SEVERITY/CLASS of two classes, three pictures of stingray to one of tench."""

    def make(name: str, corruptions: Any, severities: Any = FIVE, size: tuple[int, int] = (32, 32)) -> Path:
        source = folder(f"{name} source", {SYNSETS[6]: 3, SYNSETS[0]: 1}, size)
        for corruption in corruptions:
            for severity in severities:
                shutil.copytree(source, tmp_path / name / corruption / str(severity))
        return tmp_path / name

    return make


def test_the_data_files_are_what_they_say() -> None:
    in_a, in_r = suites.classes_of("a"), suites.classes_of("r")
    for classes in (in_a, in_r):
        assert len(classes) == 200
        assert list(classes) == sorted(set(classes))
        assert set(classes) <= set(range(1000))
    assert (in_a[0], in_r[0]) == (6, 1)
    assert len(ALEXNET) == 15
    assert all(0.5 < error < 1 for error in ALEXNET.values())
    positions = positions_in_22k()
    assert [i for i, place in enumerate(positions) if place < 0] == [SYNSETS.index("n04399382")]
    ranked = [place for _, place in sorted(zip(SYNSETS, positions, strict=True)) if place >= 0]
    assert ranked == sorted(set(ranked))  # both lists are sorted by synset
    assert ranked[-1] < 21_841
    for name in ("imagenet_a_r", "imagenet_c_alexnet", "imagenet_22k_to_1k", "table8"):
        assert json.loads(files.asset(f"{name}.json"))["source"]


def test_the_mean_corruption_error_of_alexnet_is_100() -> None:
    assert suites.mean_corruption_error({name: [error] * 5 for name, error in ALEXNET.items()}) == 100


def test_the_mean_corruption_error_of_a_case_by_hand() -> None:
    halved = {name: [error / 2] * 5 for name, error in ALEXNET.items()}
    assert suites.mean_corruption_error(halved) == pytest.approx(50)
    # fog has no errors but at the last severity, where all is wrong: 100 * (1 / 5) / AlexNet's 0.819324 = 24.410367
    only_fog = {name: [0.0] * 5 for name in ALEXNET} | {"fog": [0, 0, 0, 0, 1]}
    assert suites.mean_corruption_error(only_fog) == pytest.approx(24.410367 / 15, abs=1e-6)
    extra = {name: [1.0] * 5 for name in ("speckle_noise", "gaussian_blur", "spatter", "saturate")}
    assert suites.mean_corruption_error(only_fog | extra) == suites.mean_corruption_error(only_fog)


def test_what_a_mean_error_lacks_is_named() -> None:
    errors: dict[str, list[float]] = {name: [0.5] * 5 for name in ALEXNET}
    del errors["fog"], errors["snow"]
    with pytest.raises(UserError, match="'snow', 'fog'"):
        suites.mean_corruption_error(errors)
    with pytest.raises(UserError, match=r"frost \(4\)"):
        suites.mean_corruption_error({name: [0.5] * (4 if name == "frost" else 5) for name in ALEXNET})
    with pytest.raises(UserError, match="'fog' are not shares"):
        suites.mean_corruption_error({name: [60.0 if name == "fog" else 0.6] * 5 for name in ALEXNET})
    with pytest.raises(UserError, match="'sparkles'"):
        suites.mean_error({name: [0.5] * 5 for name in suites.C_BAR[:-1]})


def test_the_mean_error_has_no_reference_in_it() -> None:
    errors = {name: [0.1, 0.2, 0.3, 0.4, 0.5] for name in suites.C_BAR} | {"fog": [1.0] * 5}
    assert suites.mean_error(errors) == pytest.approx(30)
    errors["sparkles"] = [1.0] * 5
    assert suites.mean_error(errors) == pytest.approx(37)


def test_only_the_classes_of_a_subset_can_be_answered() -> None:
    logits = torch.tensor([[5.0, 1.0, 2.0, 0.0], [9.0, -1.0, -2.0, 8.0], [0.0, 1.0, 2.0, 7.0]])
    assert suites.masked_top1(logits, torch.tensor([2, 1, 1]), (1, 2)) == pytest.approx(200 / 3)
    assert suites.masked_top1(logits, torch.tensor([2, 1, 1]), range(4)) == 0


def test_images_without_a_real_label_do_not_count() -> None:
    assert suites.real_accuracy([3, 5, 7, 9], [[1, 3], [], [8], [9]]) == pytest.approx(200 / 3)
    with pytest.raises(UserError, match="none of the validation images"):
        suites.real_accuracy([3], [[]])


def test_an_untrained_network_is_at_chance(folder: Any, tmp_path: Path) -> None:
    everything = folder("sketch", dict.fromkeys(SYNSETS, 1), (8, 8))
    in_r = folder("r", {SYNSETS[i]: 1 for i in suites.classes_of("r")}, (8, 8))
    result = robustness(save(tmp_path / "any.safetensors"), sketch=everything, r=in_r, precision="fp32")
    assert result.counts == {"sketch": 1000, "r": 200}
    assert result.in_sketch is not None
    assert result.in_r is not None
    assert result.in_sketch <= 0.6  # 0.1 expected
    assert result.in_r <= 3  # 0.5 expected
    assert (result.clean, result.inc_mce, result.in_a, result.in_real) == (None, None, None, None)


def test_every_suite_of_a_network_with_one_answer(fixed: Path, folder: Any, corrupted: Any, tmp_path: Path) -> None:
    val = folder("val", {SYNSETS[0]: 1, SYNSETS[6]: 4})
    labels: list[list[int]] = [[]] * 50_000
    labels[:5] = [[], [0, 6], [6], [3, 0], [7]]  # tench is right for two of the four that have a label
    (tmp_path / "real.json").write_text(json.dumps(labels))
    notes: list[str] = []
    result = robustness(
        fixed,
        val=val,
        real_labels=tmp_path / "real.json",
        a=folder("a", {SYNSETS[6]: 3, SYNSETS[11]: 1}),
        r=folder("r", {SYNSETS[6]: 1, SYNSETS[1]: 1}),
        v2=folder("v2", {"0": 2, "6": 1, "11": 1}),
        sketch=folder("sketch", {SYNSETS[0]: 3, SYNSETS[999]: 1}),
        c=corrupted("c", [*ALEXNET, "spatter"]),
        c_bar=corrupted("c_bar", suites.C_BAR, (1, 2.5, 4, 10, 7)),
        partial=True,
        precision="fp32",
        say=notes.append,
    )
    assert result.row | {"model": ""} == {
        "model": "",
        "data": None,
        "size": 32,
        "gflops": round(result.gmacs, 2),
        "params_M": round(result.parameters_m, 1),
        "clean": 20.0,
        "in_real": 50.0,
        "in_a": 75.0,
        "in_r": 50.0,
        "in_v2": 50.0,
        "in_sketch": 75.0,
        "incbar_err": 75.0,
        "inc_mce": round(sum(75 / error for error in ALEXNET.values()) / 15, 2),
    }
    assert result.errors["c"] == dict.fromkeys(ALEXNET, (0.75,) * 5)
    assert result.counts["c_bar"] == 200
    assert "ImageNet-A: top-1 75.00 % of 4 images" in notes


def test_stored_crops_are_shown_whole(
    fixed: Path, folder: Any, corrupted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown: list[tuple[str, int]] = []

    class Noted:
        def __init__(self, train: Any, val: Any, recipe: Any, preprocess: Preprocess, *_: Any, **__: Any) -> None:
            shown.append((preprocess.mode, preprocess.size))

        def evaluate(self, *_: Any) -> dict[str, float]:
            return {"top1": 40.0, "count": 1}

    monkeypatch.setattr(module, "Classify", Noted)
    model = save(tmp_path / "large.safetensors", size=224)
    val = folder("val", {SYNSETS[0]: 1, SYNSETS[6]: 1})
    robustness(model, val=val, c_bar=corrupted("c_bar", suites.C_BAR), partial=True, precision="fp32")
    assert shown == [("crop", 224)] + [("whole", 224)] * 50


def test_a_folder_that_is_not_the_suite_is_named_before_anything_runs(
    fixed: Path, folder: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_classifier", lambda path: pytest.fail("the checkpoint was opened"))
    good = folder("good", {SYNSETS[6]: 1, SYNSETS[11]: 1})
    not_r = folder("not r", {SYNSETS[0]: 1, SYNSETS[1]: 1})
    odd = folder("odd", {SYNSETS[6]: 1, "n99999999": 1})
    numbered = folder("numbered", {"0": 1, "1000": 1})
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "no suite was given"),
        ({"a": tmp_path / "nowhere"}, "there is no folder"),
        ({"sketch": good}, "998 of its 1000 classes are missing"),
        ({"a": good}, "is not ImageNet-A: 198 of its 200 classes are missing"),
        ({"v2": odd, "partial": True}, "'n99999999', not an ImageNet-1K class"),
        ({"v2": numbered, "partial": True}, "'1000'"),
        ({"val": numbered, "partial": True}, "'0', '1000', not an ImageNet-1K class"),
        ({"r": not_r, "partial": True}, r"1 of its 2 classes are not among the 200 .* \('n01440764'\) and 199 are"),
        ({"val": good, "partial": True, "batch_size": 0}, "positive --batch-size"),
    ]
    for options, says in cases:
        with pytest.raises(UserError, match=says):
            robustness(fixed, **options)


def test_missing_corruptions_and_severities_are_named(fixed: Path, corrupted: Any) -> None:
    lacking = corrupted("lacking", [name for name in ALEXNET if name not in ("fog", "contrast")])
    with pytest.raises(UserError, match="lacks the corruption 'fog', 'contrast'; all 15"):
        robustness(fixed, c=lacking, partial=True)
    short = corrupted("short", ALEXNET, (1, 2, 4))
    with pytest.raises(UserError, match="gaussian_noise lacks the severity 3, 5"):
        robustness(fixed, c=short, partial=True)
    with pytest.raises(UserError, match="998 of its 1000 classes are missing"):
        robustness(fixed, c=corrupted("few", ALEXNET))
    with pytest.raises(UserError, match="40 x 32, but ImageNet-C has square centre crops"):
        robustness(fixed, c=corrupted("wide", ALEXNET, size=(40, 32)), partial=True)


def test_real_labels_need_their_images(fixed: Path, folder: Any, tmp_path: Path) -> None:
    val = folder("val", {SYNSETS[0]: 1, SYNSETS[6]: 1})
    file = tmp_path / "real.json"
    with pytest.raises(UserError, match="name their folder too"):
        robustness(fixed, real_labels=file)
    for text, says in (("{", "not JSON"), ("[[1]]", "no list of 50,000"), (json.dumps([[1000]] * 50_000), "0 to 999")):
        file.write_text(text)
        with pytest.raises(UserError, match=says):
            robustness(fixed, val=val, real_labels=file, partial=True)
    file.write_text(json.dumps([[1]] * 50_000))
    min((val / SYNSETS[0]).iterdir()).rename(val / SYNSETS[0] / "tench.jpg")
    with pytest.raises(UserError, match=r"tench\.jpg"):
        robustness(fixed, val=val, real_labels=file, partial=True)


def test_the_network_must_have_imagenets_classes_in_order(folder: Any, tmp_path: Path) -> None:
    val = folder("val", {SYNSETS[0]: 1, SYNSETS[6]: 1})
    few = save(tmp_path / "few.safetensors", num_classes=5)
    with pytest.raises(UserError, match="knows 5 classes"):
        robustness(few, val=val, partial=True)
    model = convnext.create_model("convnext_atto", **SHAPE)
    for names, fits in ((SYNSETS, True), (SYNSETS[::-1], False)):
        model.classes = names
        model.preprocess = Preprocess.for_size(32).to_dict()
        path = convnext.save_weights(model, tmp_path / "named.safetensors")
        if fits:
            assert robustness(path, val=val, partial=True, precision="fp32").counts == {"val": 2}
        else:
            with pytest.raises(UserError, match="not ImageNet-1K's in their order"):
                robustness(path, val=val, partial=True)


def test_our_row_stands_below_the_published_ones() -> None:
    rows = table(Result("mine", 224, 4.5, 28.6, clean=80.0, inc_mce=55.123))
    assert [row["model"] for row in rows][-2:] == ["ConvNeXt-XL", "mine"]
    assert len(rows) == 11
    text = render(rows).splitlines()
    assert "76.7" in text[1]
    assert text[-1].split() == ["mine", "-", "224", "4.5", "28.6", "80.0", "55.12", "-", "-", "-", "-", "-", "-"]
    assert render(rows, form="markdown").count("\n") == 12
    assert json.loads(render(rows, form="json"))[3]["inc_mce"] == 53.2
    assert render(rows, form="csv").splitlines()[0].endswith("in_sketch,in_v2,in_real")


def test_a_folder_is_corrupted_and_judged(folder: Any, tmp_path: Path) -> None:
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
    model = convnext.create_model("convnext_atto", num_classes=3, **SHAPE)
    model.classes, model.preprocess = ["bird", "cat", "dog"], Preprocess.for_size(32).to_dict()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    path = convnext.save_weights(model, tmp_path / "cats.safetensors")
    result = robustness_on_own(path, out, data, precision="fp32")
    assert result.errors == {name: {1: pytest.approx(0.4), 5: pytest.approx(0.4)} for name in options["corruptions"]}
    assert (result.count, result.mean) == (20, pytest.approx(40))
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


def test_frost_is_left_out_without_pictures_of_it(folder: Any, tmp_path: Path) -> None:
    data = folder("data", {"cat": 1, "dog": 1})
    notes: list[str] = []
    out = corrupt_folder(data, tmp_path / "out", severities=(1,), say=notes.append)
    assert sorted(path.name for path in out.iterdir()) == sorted(name for name in ALEXNET if name != "frost")
    assert "frost is left out" in notes[0]
    (tmp_path / "frost").mkdir()
    Image.new("RGB", (64, 64), "white").save(tmp_path / "frost" / "ice.png")
    made = corrupt_folder(data, tmp_path / "iced", corruptions=["frost"], severities=(3,), frost=tmp_path / "frost")
    assert [path.name for path in made.iterdir()] == ["frost"]


def test_what_cannot_be_corrupted_is_said_before_anything_is_written(folder: Any, tmp_path: Path) -> None:
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


def test_a_failure_leaves_nothing_behind(folder: Any, tmp_path: Path) -> None:
    data = folder("data", {"cat": 1, "dog": 1})
    victim = min((data / "dog").iterdir())
    victim.write_bytes(victim.read_bytes()[:-200])  # its header is sound, so only decoding finds it
    with pytest.raises(UserError, match=victim.name):
        corrupt_folder(data, tmp_path / "out", corruptions=["contrast"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_folder_of_other_things_is_not_judged(fixed: Path, folder: Any, corrupted: Any) -> None:
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
    fixed: Path, folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
