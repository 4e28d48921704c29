"""log.jsonl: what is written comes back, what a kill cut off is left out, and only people see a bar."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from convnext.training import log
from convnext.training.log import TIME_FIELDS, Log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def without_time(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    return [{key: value for key, value in row.items() if key not in TIME_FIELDS} for row in rows]


def write(path: Path, steps: range = range(1, 5)) -> None:
    with Log(path, total_steps=4) as run:
        for step in steps:
            run.row("train", step, loss=1 / step, images_per_s=3.0)


def test_rows_come_back_as_written(path: Path) -> None:
    with Log(path, total_steps=2) as run:
        run.row("train", 1, loss=0.25, lr=1e-3, epoch=0.5)
        run.row("eval", 2, raw={"top1": 50.0}, ema=None, best=True, note="Zürich")
    rows = log.read(path)
    assert without_time(rows) == [
        {"kind": "train", "step": 1, "loss": 0.25, "lr": 1e-3, "epoch": 0.5},
        {"kind": "eval", "step": 2, "raw": {"top1": 50.0}, "ema": None, "best": True, "note": "Zürich"},
    ]
    assert 0 <= rows[0]["time_s"] <= rows[1]["time_s"]


def test_rows_are_on_disk_before_the_run_ends(path: Path) -> None:
    with Log(path, total_steps=2) as run:
        run.row("train", 1)
        assert len(log.read(path)) == 1
        run.row("train", 2)
        assert len(log.read(path)) == 2


def test_a_second_run_appends(path: Path) -> None:
    write(path, range(1, 3))
    write(path, range(3, 5))
    assert [row["step"] for row in log.read(path)] == [1, 2, 3, 4]


def test_a_last_line_cut_short_anywhere_is_left_out(path: Path) -> None:
    write(path)
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    start = sum(map(len, lines[:-1]))
    for length in range(start, len(whole) - 1):
        path.write_text(whole[:length])
        assert [row["step"] for row in log.read(path)] == [1, 2, 3], whole[start:length]
    path.write_text(whole[:-1])  # only the line's end is missing: the row is whole
    assert [row["step"] for row in log.read(path)] == [1, 2, 3, 4]


def test_an_empty_log_has_no_rows(path: Path) -> None:
    path.touch()
    assert log.read(path) == []


def test_cut_keeps_rows_up_to_the_step_and_drops_the_end(path: Path) -> None:
    write(path)
    with Log(path, total_steps=4) as run:
        run.row("end", 2, steps=4)  # a run that stopped early says so; one that goes on has not ended
    before = log.read(path)
    log.cut(path, 2)
    assert log.read(path) == before[:2]


def test_cut_clears_the_cut_line_so_that_new_rows_can_follow(path: Path) -> None:
    write(path)
    path.write_text(path.read_text()[:-9])
    log.cut(path, 4)
    write(path, range(4, 5))
    assert [row["step"] for row in log.read(path)] == [1, 2, 3, 4]
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]


def test_cut_of_a_log_that_was_never_written_leaves_an_empty_one(path: Path) -> None:
    log.cut(path, 3)
    assert path.read_text() == ""


def test_a_quiet_log_writes_and_says_nothing(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Log(path, total_steps=2, quiet=True) as run:
        run.row("train", 1, loss=1.0)
        run.say("hello")
        run.tick(1, 10.0, 0)
    assert not path.exists()
    assert capsys.readouterr().out == ""


def test_without_a_terminal_there_are_plain_lines_and_no_bar(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "epoch 1  " + "a long line stays one line  " * 10
    with Log(path, total_steps=2) as run:
        run.tick(1, 10.0, 0)
        run.say(long)
        run.say("[bold]not markup[/bold] 12.5 %")
    assert capsys.readouterr().out == f"{long}\n[bold]not markup[/bold] 12.5 %\n"


def test_the_bar_is_taken_down_when_training_ends_or_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Log(path, total_steps=2)
    monkeypatch.setattr(type(run.console), "is_terminal", property(lambda self: True))
    with run:
        run.tick(1, 10.0, 0)
        assert run._bar is not None
        assert run._bar.live.is_started is True
    run.__enter__()
    run.__exit__(RuntimeError, RuntimeError("diverged"), None)
    assert run._bar.live.is_started is False


@pytest.mark.parametrize(("passed", "shown"), [(100.0, "5:00"), (3.0, "0:09"), (0.0, "0:00")])
def test_time_left_is_at_the_pace_since_the_start_or_resume(
    path: Path, passed: float, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Log(path, total_steps=60)
    monkeypatch.setattr(log.time, "perf_counter", lambda: run.began + passed)
    assert run.left(step=30, since=20) == shown  # 10 steps so far, 30 to go


def test_without_a_terminal_a_line_a_minute_says_how_far_the_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with log.Log(tmp_path / "log.jsonl", 400) as rows:
        rows.tick(10, 12.5, 0)
        assert capsys.readouterr().out == ""
        monkeypatch.setattr(log, "LINE_S", 0.0)
        rows.row("train", 20, loss=2.345678)
        rows.tick(20, 12.5, 0)
        assert capsys.readouterr().out.startswith("step 20/400  loss 2.3457  12.5 images/s  0:0")
        monkeypatch.setattr(log, "LINE_S", 60.0)
        rows.tick(21, 12.5, 0)
        assert capsys.readouterr().out == ""


def test_time_left_has_hours() -> None:
    assert [log.clock(seconds) for seconds in (0, 59.6, 3599, 3600, 300_000)] == [
        "0:00",
        "1:00",
        "59:59",
        "1:00:00",
        "83:20:00",
    ]
    assert [log.in_words(seconds) for seconds in (4000, 7 * 3600, 12.2 * 86_400)] == ["1.1 hours", "7 hours", "12 days"]


def test_hours_ahead_are_said_once_after_a_few_seconds_with_what_to_do(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(total: int) -> list[str]:
        run = Log(path, total_steps=total)
        for seconds, step in [(1.0, 1), (6.0, 2), (12.0, 3), (14.0, 6)]:
            monkeypatch.setattr(log.time, "perf_counter", lambda seconds=seconds: run.began + seconds)
            run.tick(step, 12.3, 0)
        return capsys.readouterr().out.splitlines()

    (line,) = printed(7 * 900)
    assert line.startswith("about 7 hours to go on this machine at 12.3 images/s")
    assert "--minutes 60" in line
    assert printed(100) == []
