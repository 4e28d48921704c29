"""Several real processes and real signals: they end together, and the one that failed first is heard."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixture_types import AsArguments, MakePictures
from narrow import not_none

from convnext import files
from convnext.errors import UserError
from convnext.system import processes
from convnext.training.log import read

pytestmark = [pytest.mark.fault, pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's process table")]
Started = tuple[subprocess.Popen[str], list[int]]  # the parent, and its descendants
LATEST_S = 120.0
GONE_S = processes.PATIENCE_S + 3


def family(pid: int) -> list[int]:
    """A process's descendants, those that it started first."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
    found = [pid]
    for one in found:
        found += sorted(child for child, parent in parents.items() if parent == one)
    return found[1:]


def running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    return False


def wait_for(condition: Callable[[], object], seconds: float = LATEST_S) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


@pytest.fixture
def started(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, as_arguments: AsArguments
) -> Iterator[Started]:
    """A run on two processes with two loader processes each, in the middle of training."""
    settings = as_arguments(tiny | {"steps": 1_000_000, "eval_every": 50, "save_every": 1, "workers": 2})
    command = [sys.executable, "-m", "convnext", "train", str(pictures()), "--out", str(tmp_path / "run"), *settings]
    child = subprocess.Popen(
        [*command, "--nproc", "2", "--no-report"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = tmp_path / "run" / "log.jsonl"
    wait_for(lambda: child.poll() is not None or (log.exists() and any(row["step"] > 3 for row in read(log))))
    assert child.poll() is None
    members = family(child.pid)
    yield child, members
    for pid in [child.pid, *members]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    child.communicate()


def nothing_is_left(members: list[int], run: Path) -> None:
    wait_for(lambda: not any(map(running, members)), GONE_S)
    with files.locked(run):
        before = (run / "log.jsonl").read_bytes()
        time.sleep(0.3)
        assert (run / "log.jsonl").read_bytes() == before


def ranks(members: list[int]) -> dict[int, int]:
    """Rank -> process."""
    found: dict[int, int] = {}
    for pid in members:
        words = dict(word.split("=", 1) for word in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in word)
        found.setdefault(int(words["RANK"]), pid)
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_trains_on_when_the_parent_is_told_to_end_or_is_killed(
    number: signal.Signals, started: Started, tmp_path: Path
) -> None:
    parent, members = started
    assert len(members) >= 6
    parent.send_signal(number)
    code = parent.wait(GONE_S)
    nothing_is_left(members, tmp_path / "run")
    if number != signal.SIGKILL:
        assert code == 128 + number
        assert (
            not_none(parent.stderr).read() == f"ended by {number.name}; a training run continues with --resume --out\n"
        )
    else:
        assert "Traceback" not in not_none(parent.stderr).read()  # of a loader process, into the next run's words


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_has_a_sentence(rank: int, started: Started, tmp_path: Path) -> None:
    parent, members = started
    os.kill(ranks(members)[rank], signal.SIGKILL)
    assert parent.wait(2 * GONE_S) == 1
    text = not_none(parent.stderr).read()
    assert text.count("\n") == 1
    assert text.startswith(f"process {rank + 1} of 2 was ended by SIGKILL (the system does so when memory runs out")
    nothing_is_left(members, tmp_path / "run")


def test_a_terminals_interrupt_reaches_all_and_is_told_once(started: Started, tmp_path: Path) -> None:
    parent, members = started
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait(GONE_S) == 130
    assert not_none(parent.stderr).read() == "ended by SIGINT; a training run continues with --resume --out\n"
    nothing_is_left(members, tmp_path / "run")


CHILD = """
import os, sys, time
sys.path.insert(0, {root!r})
from convnext.system import processes
processes.follow_parent()
rank = os.environ["RANK"]
print("warning of", rank, file=sys.stderr, flush=True)
if rank == {first!r}:
    time.sleep(0.2)
    processes.note_failure()
    time.sleep({slow})  # it says so and tidies up while the others notice
    sys.exit("CUDA out of memory on rank " + rank)
time.sleep(0.4)
processes.note_failure()
sys.exit("Connection closed by peer")
"""


@pytest.mark.parametrize(("first", "slow"), [("1", 0.0), ("1", 0.6), ("0", 0.6)])
def test_the_first_to_fail_is_heard_even_when_it_is_not_the_first_to_end(
    first: str, slow: float, tmp_path: Path
) -> None:
    child = CHILD.format(root=str(Path(processes.__file__).parents[2]), first=first, slow=slow)
    (tmp_path / "stand_in.py").write_text(child)
    code = (
        f"import sys; from convnext.system import processes; sys.executable = {str(tmp_path / 'python')!r}\n"
        "sys.exit(processes.spread(2, []))"
    )
    (tmp_path / "python").write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path / 'stand_in.py'}\n")
    (tmp_path / "python").chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"CUDA out of memory on rank {first}" in done.stderr
    assert "Connection closed" not in done.stderr


def test_an_error_of_the_second_process_alone_is_the_one_that_is_shown(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, as_arguments: AsArguments
) -> None:
    """Both fail, as the first waits for the second; one knows why."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os\nif os.environ.get('RANK') == '1':\n"
        "    import convnext.training.engine as engine\n    whole = engine.step\n"
        "    def step(*a, **k):\n        raise RuntimeError('the second device does not answer')\n"
        "    engine.step = step\n"
    )
    root = str(Path(processes.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": f"{site}:{root}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "convnext", "train", str(pictures()), "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [*command, "--nproc", "2", *as_arguments(tiny)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("convnext train: the second device does not answer")
    assert done.stderr.count("\n") == 1


def test_no_process_is_no_run() -> None:
    with pytest.raises(UserError, match="--nproc 0 must be at least 1"):
        processes.spread(0, [])


def test_a_helper_ends_with_its_parent_without_a_word(tmp_path: Path) -> None:
    code = (
        "import json, os, sys, time\nfrom convnext.system.processes import die_with\n"
        "parent = os.getpid()\nchild = os.fork()\n"
        "if not child:\n    die_with(parent); open(sys.argv[1], 'w').write(json.dumps(os.getpid())); time.sleep(60)\n"
        "time.sleep(60)"
    )
    place = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", code, str(place)]) as parent:
        wait_for(lambda: place.exists() and place.read_text())
        helper = json.loads(place.read_text())
        assert running(helper)
        parent.kill()
    wait_for(lambda: not running(helper), 5)
