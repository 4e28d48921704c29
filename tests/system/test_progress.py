"""Progress is said beside the results, and only where the work is long."""

import pytest

from convnext.system import progress
from convnext.system.progress import Progress


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("checked") as said:
        assert list(said.over("abc", 3)) == ["a", "b", "c"]
        assert not said.long
    assert capsys.readouterr() == ("", "")


def test_long_work_says_how_far_it_is_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "QUIET_S", 0)
    monkeypatch.setattr(progress, "LINES_S", 0)
    with Progress("checked") as said, Progress("checked", quiet=True) as silent:
        for work in (said, silent):
            work(1_000, 2_000)
            work.line("a.png is empty")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "checked: 1,000 of 2,000, about 0:00 left\na.png is empty\n"
