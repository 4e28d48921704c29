"""`convnext check` on pictures with masks: every fault that would stop or spoil training is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fixture_types import MakeDense
from PIL import Image

from convnext.api import check
from convnext.commands.main import main
from convnext.data.request import DataRequest
from convnext.recipes import get_recipe
from convnext.segmentation.check import check_masks
from convnext.segmentation.data import SegmentationSource, SegmentationSplits
from convnext.segmentation.mask_scan import require_sound
from convnext.tasks import open_data

SHARED = Path(__file__).parents[3] / "shared" / "data"
TRAIN = Path("annotations") / "train"


def test_a_sound_folder(masked: MakeDense, capsys: pytest.CaptureFixture[str]) -> None:
    report = check(masked())
    assert report.ok
    (values,) = report.problems
    assert str(values.detail) == ("no file names the classes; 4 values in 9 masks: 0 in 9, 1 in 9, 2 in 9, 255 in 9")
    assert report.counts["val"] == {"0": 3, "1": 3, "2": 3}
    assert main(["check", str(masked("again"))]) == 0
    assert "fit to train on" in capsys.readouterr().out


def write(values: list[list[int]], kind: type = np.uint8) -> Callable[[Path], None]:
    return lambda root: Image.fromarray(np.array(values, kind)).save(root / TRAIN / "000.png")


def whole(value: int) -> Callable[[Path], None]:
    return lambda root: Image.fromarray(np.full((48, 64), value, np.uint8)).save(root / TRAIN / "000.png")


def named(text: str, then: Callable[[Path], None] | None = None) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / "classes.txt").write_text(text)
        if then:
            then(root)

    return change


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "other size": (write([[0, 1]]), "sizes differ", "error"),
    "value outside": (named("a\nb\nc\n", whole(9)), "bad mask", "error"),
    "sixteen bits": (named("a\nb\nc\n", write([[0, 40_000]], np.uint16)), "bad mask", "error"),
    "colours": (lambda root: Image.new("RGB", (64, 48), (9, 8, 7)).save(root / TRAIN / "000.png"), "bad mask", "error"),
    "no mask": (lambda root: (root / TRAIN / "000.png").unlink(), "image without mask", "warning"),
    "one name": (
        lambda root: Image.new("RGB", (9, 9)).save(root / "images" / "train" / "000.jpg"),
        "bad annotations",
        "error",
    ),
    "cut short": (lambda root: (root / TRAIN / "000.png").write_bytes(b"\x89PNG"), "bad mask", "error"),
    "no label": (whole(255), "no label", "warning"),
    "unseen": (named("a\nb\nc\nd\n"), "unseen class", "warning"),
    "unused": (lambda root: Image.new("L", (9, 9)).save(root / TRAIN / "extra.png"), "not an image", "note"),
}


@pytest.mark.fault
@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named(masked: MakeDense, case: str) -> None:
    change, kind, severity = FAULTS[case]
    root = masked()
    change(root)
    report = check(root)
    assert (kind, severity) in {(problem.kind, problem.severity) for problem in report.problems}
    assert report.ok == (severity != "error")
    assert kind in str(report)


@pytest.mark.fault
@pytest.mark.parametrize("case", [*FAULTS, "all unlabelled"])
def test_the_same_fault_of_a_test_split_stops_neither_check_nor_train(masked: MakeDense, case: str) -> None:
    root, faulty = masked(), masked("faulty")
    if case == "all unlabelled":
        for i in range(6):
            path = faulty / TRAIN / f"{i:03d}.png"
            Image.fromarray(np.full(np.array(Image.open(path)).shape, 255, np.uint8)).save(path)
    else:
        FAULTS[case][0](faulty)
    for part in ("images", "annotations"):
        (faulty / part / "train").rename(root / part / "test")
    if (faulty / "classes.txt").exists():
        (root / "classes.txt").write_text((faulty / "classes.txt").read_text())
    report, splits = check(root), open_data(DataRequest(str(root)), get_recipe("segment"))
    assert report.ok, str(report)
    assert isinstance(splits.train, SegmentationSource)
    assert isinstance(splits.val, SegmentationSource)
    require_sound(SegmentationSplits(splits.train, splits.val, splits.name, splits.note))
    stops = case == "all unlabelled" or FAULTS[case][2] == "error"
    assert (splits.test is None) == ("the test split is not judged" in splits.note) == stops
    assert ("test not judged" in {problem.kind for problem in report.problems}) == stops


@pytest.mark.fault
def test_masks_that_label_nothing_are_no_training_set(masked: MakeDense) -> None:
    root = masked()
    (root / "classes.txt").write_text("a\nb\nc\n")
    for path in (root / TRAIN).iterdir():
        Image.fromarray(np.full(np.array(Image.open(path)).shape, 255, np.uint8)).save(path)
    report = check(root)
    assert not report.ok
    assert "none of its 6 masks labels a pixel" in str(report)


@pytest.mark.fault
def test_one_fault_is_named_once_and_two_of_one_pair_are_both(masked: MakeDense) -> None:
    root = masked()
    (root / "classes.txt").write_text("a\na\n")
    Image.new("L", (5, 7)).save(root / TRAIN / "000.png")
    kinds = [problem.kind for problem in check(root).problems]
    assert sorted(kinds) == ["bad mask", "sizes differ"]
    (root / "classes.txt").write_text("a\nb\nc\n")
    Image.new("L", (5, 7), 9).save(root / TRAIN / "000.png")
    report = check(root)
    assert sorted(problem.kind for problem in report.problems) == ["bad mask", "sizes differ"]
    assert "its mask" in str(report)
    assert "holds the value 9" in str(report)


@pytest.mark.fault
def test_a_mask_on_its_side_is_of_another_size(masked: MakeDense) -> None:
    root = masked()
    Image.new("L", (48, 64)).save(root / TRAIN / "000.png")
    assert [problem.kind for problem in check(root).problems] == ["sizes differ", "mask values"]


def test_the_classes_may_lie_elsewhere(masked: MakeDense, tmp_path: Path) -> None:
    root = masked()
    (tmp_path / "own.txt").write_text("ground\ndisc\nsquare\n")
    assert check_masks(root, tmp_path / "own.txt").counts["val"] == {"ground": 3, "disc": 3, "square": 3}
    assert main(["check", str(root), "--labels", str(tmp_path / "own.txt")]) == 0
    report = check_masks(root, tmp_path / "none.txt")
    assert [problem.kind for problem in report.problems] == ["bad mask"]
    assert "cannot read the classes" in str(report)


@pytest.mark.fault
def test_images_alone_lack_their_masks(masked: MakeDense) -> None:
    root = masked()
    for path in (root / "annotations").rglob("*.png"):
        path.unlink()
    for folder in (root / TRAIN, root / "annotations" / "val", root / "annotations"):
        folder.rmdir()
    report = check(root)
    assert not report.ok
    assert "images/train has no masks: looked for annotations, masks" in str(report)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared pictures are not on this machine")
@pytest.mark.parametrize("name", ["camvid-320", "ade20k-samples"])
def test_the_shared_masks_are_sound(name: str) -> None:
    assert check(SHARED / name).ok


@pytest.mark.fault
def test_pictures_that_are_learned_from_and_judged_on(masked: MakeDense) -> None:
    root = masked()
    for part in ("images", "annotations"):
        for name in ("000.png", "001.png"):
            (root / part / "val" / name).write_bytes((root / part / "train" / name).read_bytes())
    report = check(root)
    assert report.ok
    assert [problem.kind for problem in report.problems] == ["leak", "leak", "mask values"]
    assert "000.png: same bytes as " in str(report)


def test_the_values_of_all_masks_are_listed(many: Path) -> None:
    """Of 601 masks, 200 were looked at, and a value of three others was called bad."""
    report = check(many)
    assert report.ok
    assert report.counts["all"] == {"0": 601, "1": 601, "2": 1}
    assert "3 values in 601 masks: 0 in 601, 1 in 601, 2 in 1" in str(report)


def test_one_image_is_too_few(masked: MakeDense) -> None:
    root = masked(train=1, val=0)
    for part in ("images", "annotations"):
        (root / part / "val").rmdir()
    assert "one image cannot be both learned from and judged on" in str(check(root))
    assert not check(root).ok


def test_a_damaged_mask_hides_no_other_class(masked: MakeDense) -> None:
    root = masked()
    (root / TRAIN / "000.png").write_bytes(b"\x89PNG")
    report = check(root)
    assert [problem.kind for problem in report.problems] == ["bad mask", "mask values"]
    assert report.counts["train"] == {"0": 5, "1": 5, "2": 5}
