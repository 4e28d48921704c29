"""What is found in a folder with a table of numbers before anything is trained."""

from __future__ import annotations

from fixture_types import MakeMeasured

from convnext import api


def test_a_sound_folder(measured: MakeMeasured) -> None:
    report = api.check(measured(split=True))
    assert report.ok
    assert report.images == {"train": 30, "val": 10}
    assert report.counts["train"]["brightness"] == 30
    assert report.counts["train"]["redness"] < 30
    text = str(report)
    assert "40 images (30 train, 10 val) in 2 targets" in text
    assert "of each target the numbers:" in text


def test_faults_are_named(measured: MakeMeasured) -> None:
    folder = measured()
    (folder / "003.png").write_bytes(b"no picture")
    (folder / "005.png").write_bytes((folder / "004.png").read_bytes())
    table = (folder / "labels.csv").read_text().splitlines()
    table[9] = "008.png,900,12"  # 0.9 without its point
    (folder / "labels.csv").write_text("\n".join(table) + "\n")
    report = api.check(folder)
    found = {problem.kind: problem for problem in report.problems}
    assert not report.ok
    assert found["corrupt"].path == "003.png"
    assert found["far out"].path == "008.png"
    assert "brightness is 900, where half of all lie between" in found["far out"].detail
    assert {"conflicting labels", "duplicate"} & found.keys()


def test_a_table_that_cannot_be_used_is_a_finding(measured: MakeMeasured) -> None:
    folder = measured()
    (folder / "labels.csv").write_text("path,brightness,redness\n000.png,0.5,1.5\n001.png,0.5,2.5\n000.png,0.6,1\n")
    report = api.check(folder)
    assert not report.ok
    assert "lists '000.png' more than once" in report.problems[0].detail
