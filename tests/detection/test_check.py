"""`convnext check` on annotated pictures: every fault that would stop or spoil training is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixture_types import MakeDense

from convnext.api import check
from convnext.commands.main import main
from convnext.detection.check import check_annotations
from convnext.detection.data import open_detection

MINI = Path(__file__).parents[3] / "shared" / "data" / "coco-mini"


def changed(root: Path, change: Callable[[dict[str, Any]], Any], split: str = "train2017") -> Path:
    path = root / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return root


def test_a_sound_folder(annotated: MakeDense, capsys: pytest.CaptureFixture[str]) -> None:
    report = check(annotated())
    assert report.ok
    assert report.problems == []
    assert report.counts == {"train": {"box": 8, "wedge": 4}, "val": {"box": 4, "wedge": 2}}
    assert "18 objects (12 train, 6 val) in 2 classes" in str(report)


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str, str]] = {
    "missing picture": (lambda c: c["images"][0].update(file_name="no.png"), "missing", "error"),
    "image id": (lambda c: c["images"].append(dict(c["images"][0])), "id twice", "error"),
    "annotation id": (lambda c: c["annotations"][1].update(id=1), "id twice", "error"),
    "class name": (lambda c: c["categories"][1].update(name="box"), "id twice", "error"),
    "unknown image": (lambda c: c["annotations"][0].update(image_id=5), "unknown reference", "error"),
    "unknown class": (lambda c: c["annotations"][0].update(category_id=5), "unknown reference", "error"),
    "other classes": (lambda c: c["categories"][0].update(name="x"), "categories differ", "error"),
    "no box": (lambda c: c["annotations"][0].update(bbox=[1, 2]), "bad annotations", "error"),
    "half an entry": (lambda c: c["annotations"][0].pop("bbox"), "bad annotations", "error"),
    "size": (lambda c: c["images"][0].update(width=10), "bad annotations", "error"),
    "outline": (lambda c: c["annotations"][0].update(segmentation=["a"]), "bad outline", "error"),
    "runs": (
        lambda c: c["annotations"][0].update(segmentation={"size": [1, 1], "counts": [1]}),
        "bad outline",
        "error",
    ),
    "outside": (lambda c: c["annotations"][0].update(bbox=[-30, 0, 40, 20]), "box outside", "warning"),
    "no area": (lambda c: c["annotations"][0].update(bbox=[3, 3, 0, 20]), "no area", "warning"),
    "two corners": (lambda c: c["annotations"][0].update(segmentation=[[1, 1, 5, 5]]), "no area", "warning"),
    "ten thousand boxes": (
        lambda c: c["annotations"].extend({**c["annotations"][0], "id": 1000 + k} for k in range(10_000)),
        "many objects",
        "warning",
    ),
    "outline without end": (
        lambda c: c["annotations"][0].update(segmentation=[[1e12, 1e12, -1e12, 5, 7, 1e12]]),
        "bad outline",
        "error",
    ),
    "equal corners": (lambda c: c["annotations"][0].update(segmentation=[[5, 5, 5, 5, 5, 5]]), "no area", "warning"),
    "corners in a line": (
        lambda c: c["annotations"][0].update(segmentation=[[5, 5, 9, 9, 7.5, 7.5]]),
        "no area",
        "warning",
    ),
    "outline outside": (
        lambda c: c["annotations"][0].update(segmentation=[[-9, 5, -3, 5, -3, 9]]),
        "no area",
        "warning",
    ),
    "box far outside": (lambda c: c["annotations"][0].update(bbox=[500, 5, 20, 10]), "no area", "warning"),
    "sizes swapped": (
        lambda c: c["images"][0].update(width=c["images"][0]["height"], height=c["images"][0]["width"]),
        "bad annotations",
        "error",
    ),
    "crowds only": (lambda c: [row.update(iscrowd=1) for row in c["annotations"]], "bad annotations", "error"),
    "empty image": (lambda c: c["annotations"].pop(0), "no object", "warning"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named(annotated: MakeDense, case: str) -> None:
    change, kind, severity = FAULTS[case]
    report = check(changed(annotated(), change))
    assert (kind, severity) in {(problem.kind, problem.severity) for problem in report.problems}
    assert report.ok == (severity == "warning")
    assert kind in str(report)


@pytest.mark.parametrize("case", [*FAULTS, "cut short", "other classes", "no JSON"])
def test_the_same_fault_of_a_test_split_stops_neither_check_nor_train(annotated: MakeDense, case: str) -> None:
    root = annotated()
    shutil.copytree(root / "train2017", root / "test2017")
    marks = root / "annotations" / "instances_test2017.json"
    shutil.copy(root / "annotations" / "instances_train2017.json", marks)
    if case == "cut short":  # which training finds at the end (tests/training/test_run_folder.py)
        path = root / "test2017" / "003.png"
        path.write_bytes(path.read_bytes()[:-2000])
    elif case == "other classes":
        changed(root, lambda content: content["categories"][0].update(name="bicycle"), "test2017")
    elif case == "no JSON":
        marks.write_text("[")
    else:
        changed(root, FAULTS[case][0], "test2017")
    report, splits = check(root), open_detection(root)
    assert report.ok, str(report)
    stops = case not in FAULTS or FAULTS[case][2] == "error"
    assert ("test not judged" in {problem.kind for problem in report.problems}) == stops
    if case not in ("cut short", "annotation id"):  # ids of objects are asked for by nothing
        assert (splits.test is None) == stops


def test_a_picture_that_ends_too_early_is_found(annotated: MakeDense) -> None:
    """Headers alone let it pass, and training stopped at it."""
    path = annotated() / "train2017" / "003.png"
    path.write_bytes(path.read_bytes()[:-2000])
    counted: list[tuple[int, int]] = []
    report = check_annotations(path.parents[1], lambda done, every: counted.append((done, every)))
    assert [(problem.kind, problem.path) for problem in report.problems] == [("truncated", "003.png")]
    assert counted[-1] == (4, 4)
    assert (8, 8) in counted


def test_what_is_said_depends_on_what_the_pictures_are_for(annotated: MakeDense) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"] = [3, 3, 0, 20]
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 102]

    root = changed(annotated(), spoil)
    said = {problem.path: problem.detail for problem in check(root).problems}
    assert said["annotation 1"] == "not learned from: its box is 0 x 20 pixels, and at least 1 a side is needed"
    assert said["002.png"] == "not learned from: it has no annotation"
    root = changed(annotated("other"), spoil, "val2017")
    said = {problem.path: problem.detail for problem in check(root).problems}
    assert (
        said["annotation 1"]
        == "judged all the same, and hardly ever found: its box is 0 x 20 pixels, and at least 1 a side is needed"
    )
    assert said["002.png"] == "whatever is found in it counts as wrong: it has no annotation"


def test_what_training_refuses_is_an_error(annotated: MakeDense) -> None:
    def make_crowds(content: dict[str, Any]) -> None:
        for row in content["annotations"]:
            row["iscrowd"] = 1

    (problem,) = check(changed(annotated(), make_crowds, "val2017")).problems
    assert (problem.kind, problem.severity) == ("bad annotations", "error")
    assert problem.detail.startswith("no object to be judged on: all 6 are crowds")


def test_an_entry_with_a_fault_is_not_missing(annotated: MakeDense) -> None:
    """Its objects were said to be of an image that is not listed, and two remedies followed each other."""
    root = changed(annotated(), lambda content: content["images"][0].update(width=20_000, height=20_000))
    assert [problem.kind for problem in check(root).problems] == ["bad annotations"]


def test_one_bad_polygon_does_not_cost_the_object(annotated: MakeDense) -> None:
    root = changed(annotated(), lambda content: content["annotations"][0]["segmentation"].append([1, 1, 5, 5]))
    (problem,) = check(root).problems
    assert problem.detail == ("one of its 2 polygons has fewer than three corners or half a point; the others are used")


def test_files_that_are_no_annotations(annotated: MakeDense, tmp_path: Path) -> None:
    root = annotated()
    (root / "annotations" / "instances_val2017.json").write_text("{")
    report = check(root)
    assert [problem.kind for problem in report.problems] == ["bad annotations"]
    (tmp_path / "list.json").write_text("[]")
    assert not check(tmp_path / "list.json").ok
    (root / "annotations" / "instances_val2017.json").unlink()
    assert check(root).counts == {"all": {"box": 8, "wedge": 4}}  # a share of them is held out
    (root / "annotations" / "instances_train2017.json").rename(root / "annotations" / "instances_val2017.json")
    assert [problem.kind for problem in check(root).problems] == ["missing split"]


def test_pictures_that_are_learned_from_and_judged_on(annotated: MakeDense) -> None:
    root = annotated()
    (root / "val2017" / "000.png").write_bytes((root / "train2017" / "000.png").read_bytes())
    (problem,) = check(root).problems
    assert (problem.kind, problem.path, problem.detail) == ("leak", "000.png", "same bytes as 000.png")


def test_the_command(annotated: MakeDense, capsys: pytest.CaptureFixture[str]) -> None:
    root = annotated()
    assert main(["check", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["objects"] == 18
    changed(root, lambda content: content["annotations"][0].update(image_id=5))
    assert main(["check", str(root)]) == 2
    assert "its image_id 5 is not listed" in capsys.readouterr().out


@pytest.mark.skipif(not MINI.exists(), reason="the shared pictures are not on this machine")
def test_cocos_own_annotations_are_sound() -> None:
    assert check(MINI).ok


def test_a_class_that_only_the_judged_pictures_have_is_named(annotated: MakeDense) -> None:
    def crowds_alone(content: dict[str, Any]) -> None:
        for row in content["annotations"]:
            if row["category_id"] == 17:
                row.update(iscrowd=1, segmentation={"size": [64, 48], "counts": [0, 64 * 48]}, bbox=[0, 0, 9, 9])

    root = changed(annotated(), crowds_alone)
    (problem,) = [one for one in check(root).problems if one.kind == "not learned"]
    assert (problem.path, problem.severity) == ("wedge", "warning")
    assert "no training picture has an object of it to learn from, and there are 2 in val" in problem.detail
