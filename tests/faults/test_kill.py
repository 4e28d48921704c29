"""A run that is killed, by one process or two, continues as if nothing had happened."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convnext.training.log import read

pytestmark = [pytest.mark.fault, pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's process table")]
LATEST = 120.0  # seconds until the run must have got anywhere


def command(words: list[str], processes: int) -> list[str]:
    more = ["--nproc", str(processes)] if processes > 1 else []
    return [sys.executable, "-m", "convnext", "train", *words, *more, "--no-report"]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def kill_at(step: int, words: list[str], run: Path, processes: int) -> None:
    """Starts a run and kills all its processes, with no chance to tidy up, once the log has passed `step`."""
    child = subprocess.Popen(
        command(words, processes),
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    give_up = time.monotonic() + LATEST
    while not any(row["step"] >= step for row in (read(run / "log.jsonl") if (run / "log.jsonl").exists() else [])):
        assert child.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < give_up
        time.sleep(0.005)
    for pid in family(child.pid):  # the launcher's workers are not in its process group
        os.kill(pid, signal.SIGKILL)
    child.wait()


def family(pid: int) -> list[int]:
    """A process and its descendants, from Linux's process table."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed_is_bit_for_bit_the_uninterrupted_run(
    pictures, tiny, tmp_path, as_arguments, same_run, processes
) -> None:
    data = pictures(train=26)
    tiny |= {"steps": 150, "save_every": 3, "eval_every": 6}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    words = [str(data), *as_arguments(tiny)]
    subprocess.run(
        command([*words, "--out", str(whole)], processes), env=environment(), check=True, capture_output=True
    )
    kill_at(31, [*words, "--out", str(cut)], cut, processes)
    assert not any(row["kind"] == "end" for row in read(cut / "log.jsonl"))
    again = command(["--out", str(cut), "--resume"], processes)
    done = subprocess.run(again, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "continuing at step" in done.stdout
    same_run(whole, cut)
