"""Processes that end together: the same command several times on one machine, and children that outlive no parent.

`spread` starts the processes and stays their parent. Each of them watches a pipe whose end says that the parent is
gone, however that came about. The one whose failure came first is shown: it notes the moment before it leaves the
process group, whose other members then fail as well, and often end sooner.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from ..errors import UserError
from . import machine

GRACE_S = 1.0  # between a process's failure and the end of its siblings: they may have failed before it
PATIENCE_S = 5.0  # for a process to tidy up after SIGTERM; then it is killed
POLL_S = 0.05
SETTLED_S = 0.5  # what the first process writes is shown this late: a sibling's failure may be what it speaks of
EXIT_FAILED = 1
PARENT, NOTE = "CONVNEXT_PARENT_PIPE", "CONVNEXT_FAILURE_NOTE"  # in a child's environment
PR_SET_PDEATHSIG = 1


@dataclass
class _Child:
    rank: int
    process: subprocess.Popen[bytes]
    words: Path  # its standard error
    note: Path  # when it failed
    shown: int = 0  # bytes of its words that have been passed on
    sizes: list[tuple[float, int]] = field(default_factory=list)

    def failed_at(self, otherwise: float) -> float:
        """When it failed by its own account, in seconds of the system's clock; else `otherwise`."""
        with contextlib.suppress(OSError, ValueError):
            return float(self.note.read_text())
        return otherwise

    def pass_on(self, *, everything: bool = False) -> None:
        """Shows what has been lying there for a while, or all."""
        now, size = time.monotonic(), self.words.stat().st_size
        self.sizes.append((now, size))
        settled = [size for moment, size in self.sizes if moment <= now - SETTLED_S]
        self.sizes = self.sizes[max(0, len(settled) - 1) :]
        until = size if everything else max(settled, default=0)
        if until > self.shown:
            with self.words.open("rb") as handle:
                handle.seek(self.shown)
                sys.stderr.write(handle.read(until - self.shown).decode(errors="replace"))
            sys.stderr.flush()
            self.shown = until


def spread(count: int, arguments: list[str]) -> int:
    """`convnext` with `arguments` in `count` processes on this machine, as torchrun would start them.

    Returns 0, or the exit code of the process that failed first, whose words are shown (a mistake of the user's is
    found by all); 128 and the signal's number when a signal ended this process. Raises UserError for no processes.
    """
    if count < 1:
        raise UserError(f"--nproc {count} must be at least 1")
    caught: list[int] = []
    with tempfile.TemporaryDirectory() as place, _catching(caught):
        children: list[_Child] = []
        inner, outer = os.pipe()  # of ours alone: the children see its end when this process has ended
        try:
            for rank, environment in enumerate(_environments(count)):
                children.append(_started(rank, arguments, environment | {PARENT: str(inner)}, Path(place), inner))
            return _outcome(children, caught)
        finally:
            _end(children)
            os.close(inner)
            os.close(outer)


def follow_parent() -> None:
    """In a process that `spread` started: ends it when that has gone, and makes of SIGTERM an orderly end."""
    pipe = os.environ.pop(PARENT, None)
    if pipe is None:
        return
    os.set_inheritable(int(pipe), False)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to us, too; the parent tells us by SIGTERM

    def watch(descriptor: int) -> None:
        os.read(descriptor, 1)  # nothing is ever written: this returns when the other end is closed
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE_S)
        os._exit(EXIT_FAILED)  # it waits for a sibling that is gone

    threading.Thread(target=watch, args=(int(pipe),), daemon=True).start()


def note_failure() -> None:
    """Notes, once, that this process has failed by now; before it leaves its group, which makes others fail."""
    if (place := os.environ.pop(NOTE, None)) is not None:
        with contextlib.suppress(OSError):
            Path(place).write_text(repr(time.monotonic()))


def die_with(parent: int) -> None:
    """In a helper process: it is killed at once, without a last word, when process `parent` ends. On Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before we asked
            os._exit(EXIT_FAILED)


def _environments(count: int) -> Iterator[dict[str, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, machine.cores() // count)))
    common = {**os.environ, "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "OMP_NUM_THREADS": threads}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for rank in range(count):
        yield common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def _started(rank: int, arguments: list[str], environment: dict[str, str], place: Path, pipe: int) -> _Child:
    words, note = place / f"words-{rank}", place / f"failed-{rank}"
    with words.open("wb") as handle:
        process = subprocess.Popen(
            [sys.executable, "-m", "convnext", *arguments],
            env=environment | {NOTE: str(note)},
            stderr=handle,
            pass_fds=(pipe,),
        )
    return _Child(rank, process, words, note)


@contextlib.contextmanager
def _catching(caught: list[int]) -> Iterator[None]:
    """Collects the signals that ask this process to end."""

    def catch(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        for number in before:
            signal.signal(number, catch)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outcome(children: list[_Child], caught: list[int]) -> int:
    """Waits for all, for the first to fail, or for a signal; shows what there is to say."""
    ended: dict[int, float] = {}
    while len(ended) < len(children) and not caught:
        for child in children:
            if child.rank not in ended and child.process.poll() is not None:
                ended[child.rank] = time.monotonic()
        if any(child.process.returncode for child in children):
            break
        children[0].pass_on()
        time.sleep(POLL_S)
    if caught:
        name = signal.Signals(caught[0]).name
        children[0].pass_on(everything=True)
        _end(children)
        print(f"ended by {name}; a training run continues with --resume --out", file=sys.stderr)
        return 128 + caught[0]
    if not any(child.process.returncode for child in children):
        children[0].pass_on(everything=True)
        return 0
    time.sleep(GRACE_S)
    return _failure([child for child in children if child.process.poll()], len(children), ended)


def _failure(failed: list[_Child], count: int, ended: dict[int, float]) -> int:
    """Shows why the run failed: a process that was killed is the cause whenever there is one, else the first to fail.

    Not so one that aborted itself, as the threads of NCCL do when a sibling is gone.
    """
    now = time.monotonic()
    killed = [child for child in failed if child.process.returncode < 0 and child.process.returncode != -signal.SIGABRT]
    first = min(killed or failed, key=lambda child: child.failed_at(ended.get(child.rank, now)))
    if first.process.returncode != -signal.SIGKILL:  # it had no last words: what stands there are its helpers'
        first.pass_on(everything=True)
    if first.process.returncode > 0:
        return first.process.returncode
    number = -first.process.returncode
    why = " (the system does so when memory runs out: then try a smaller --set micro_batch)" * (
        number == signal.SIGKILL
    )
    name = signal.Signals(number).name
    print(
        f"process {first.rank + 1} of {count} was ended by {name}{why}; the run continues with --resume --out",
        file=sys.stderr,
    )
    return EXIT_FAILED


def _end(children: list[_Child]) -> None:
    """Ends those that still run: by SIGTERM, and by SIGKILL where that does not help."""
    for child in children:
        child.process.terminate()
    latest = time.monotonic() + PATIENCE_S
    for child in children:
        try:
            child.process.wait(max(0.0, latest - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: tidying up is not to be interrupted
    raise KeyboardInterrupt
