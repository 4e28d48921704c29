"""Suites checked before anything runs, and Table 8 for a network without a clue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from robustness_cases import ALEXNET, SHAPE, SYNSETS, MakeClasses, MakeCorrupted, save

import convnext
from convnext.data.preprocess import Preprocess
from convnext.data.source import Source
from convnext.errors import UserError
from convnext.robustness import evaluate as module
from convnext.robustness import suites
from convnext.robustness.evaluate import Result, robustness, table
from convnext.system.tables import render
from convnext.weights.info import info_of


def test_an_untrained_network_is_at_chance(folder: MakeClasses, tmp_path: Path) -> None:
    everything = folder("sketch", dict.fromkeys(SYNSETS, 1), (8, 8))
    in_r = folder("r", {SYNSETS[i]: 1 for i in suites.classes_of("r")}, (8, 8))
    result = robustness(save(tmp_path / "any.safetensors"), sketch=everything, r=in_r, precision="fp32")
    assert result.counts == {"sketch": 1000, "r": 200}
    assert result.in_sketch is not None
    assert result.in_r is not None
    assert result.in_sketch <= 0.6  # 0.1 expected
    assert result.in_r <= 3  # 0.5 expected
    assert (result.clean, result.inc_mce, result.in_a, result.in_real) == (None, None, None, None)


def test_every_suite_of_a_network_with_one_answer(
    fixed: Path, folder: MakeClasses, corrupted: MakeCorrupted, tmp_path: Path
) -> None:
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
    fixed: Path, folder: MakeClasses, corrupted: MakeCorrupted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown: list[tuple[str, int]] = []

    class Noted:
        def __init__(self, source: Source, preprocess: Preprocess, *_: object) -> None:
            shown.append((preprocess.mode, preprocess.size))

        def evaluate(self, *_: object) -> dict[str, float]:
            return {"top1": 40.0, "count": 1}

    monkeypatch.setattr(module, "ClassificationEvaluator", Noted)
    model = save(tmp_path / "large.safetensors", size=224)
    val = folder("val", {SYNSETS[0]: 1, SYNSETS[6]: 1})
    robustness(model, val=val, c_bar=corrupted("c_bar", suites.C_BAR), partial=True, precision="fp32")
    assert shown == [("crop", 224)] + [("whole", 224)] * 50


def test_a_folder_that_is_not_the_suite_is_named_before_anything_runs(
    fixed: Path, folder: MakeClasses, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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


def test_missing_corruptions_and_severities_are_named(fixed: Path, corrupted: MakeCorrupted) -> None:
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


def test_real_labels_need_their_images(fixed: Path, folder: MakeClasses, tmp_path: Path) -> None:
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


def test_the_network_must_have_imagenets_classes_in_order(folder: MakeClasses, tmp_path: Path) -> None:
    val = folder("val", {SYNSETS[0]: 1, SYNSETS[6]: 1})
    few = save(tmp_path / "few.safetensors", classes=5)
    with pytest.raises(UserError, match="knows 5 classes"):
        robustness(few, val=val, partial=True)
    model = convnext.create_model("convnext_atto", **SHAPE)
    for names, fits in ((SYNSETS, True), (SYNSETS[::-1], False)):
        info_of(model).classes = names
        info_of(model).preprocess = Preprocess.for_size(32).to_dict()
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
