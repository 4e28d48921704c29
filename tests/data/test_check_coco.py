"""`convnext check` on annotated pictures: every fault that would stop or spoil training is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convnext.cli import main
from convnext.data.check import check

MINI = Path(__file__).parents[3] / "shared" / "data" / "coco-mini"


def changed(root: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    path = root / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return root


def test_a_sound_folder(annotated: Any, capsys: pytest.CaptureFixture[str]) -> None:
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
    "other classes": (lambda c: c["categories"].append({"id": 9, "name": "x"}), "categories differ", "error"),
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
    "empty image": (lambda c: c["annotations"].pop(0), "no object", "warning"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named(annotated: Any, case: str) -> None:
    change, kind, severity = FAULTS[case]
    report = check(changed(annotated(), change))
    assert (kind, severity) in {(problem.kind, problem.severity) for problem in report.problems}
    assert report.ok == (severity == "warning")
    assert kind in str(report)


def test_files_that_are_no_annotations(annotated: Any, tmp_path: Path) -> None:
    root = annotated()
    (root / "annotations" / "instances_val2017.json").write_text("{")
    report = check(root)
    assert [problem.kind for problem in report.problems] == ["bad annotations"]
    (tmp_path / "list.json").write_text("[]")
    assert not check(tmp_path / "list.json").ok
    (root / "annotations" / "instances_val2017.json").unlink()
    assert [problem.kind for problem in check(root).problems] == ["missing split"]


def test_the_command(annotated: Any, capsys: pytest.CaptureFixture[str]) -> None:
    root = annotated()
    assert main(["check", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["objects"] == 18
    changed(root, lambda content: content["annotations"][0].update(image_id=5))
    assert main(["check", str(root)]) == 2
    assert "its image_id 5 is not listed" in capsys.readouterr().out


@pytest.mark.skipif(not MINI.exists(), reason="the shared pictures are not on this machine")
def test_cocos_own_annotations_are_sound() -> None:
    assert check(MINI).ok
