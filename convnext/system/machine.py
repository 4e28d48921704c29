"""What this machine has: instruction sets, cores, free memory. As its system tells, never as a timing shows.

A container's limits count: cgroups, version 1 and 2, are read where there are any. All paths lie below `root`, so that
a test can show another machine.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from math import ceil
from pathlib import Path

NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")  # Windows, Linux, an accelerator

ROOT = Path("/")
BF16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")  # of x86's and, the last, of Arm's processors, as Linux names them


def bf16_instructions(root: Path = ROOT) -> str | None:
    """The processor's instruction set for bf16 matrix products; None where it has none, or where no one tells."""
    flags = set(_field("flags", "Features", root=root).split())
    return next((name for name in BF16_FLAGS if name in flags), None)


def processor(root: Path = ROOT) -> str:
    return _field("model name", root=root) or platform.processor() or platform.machine()


def cores(root: Path = ROOT) -> int:
    """Cores that this process may keep busy: its affinity, and no more than a container's quota of processor time."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min([count, *(ceil(quota) for quota in _quotas(root))]))


def processes_here() -> int:
    """Processes of this run on this machine, as torchrun and `--nproc` tell them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def free_memory(root: Path = ROOT) -> int:
    """Bytes that can be had without swapping or being killed; what caches files counts, as it is given up when needed.

    0 where the system does not tell.
    """
    free = _kilobytes("MemAvailable", root / "proc" / "meminfo")
    if free is None:
        names = getattr(os, "sysconf_names", {})
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_AVPHYS_PAGES" in names else 0
    return max(0, min([free, *_rooms(root)]))


def peak_memory(root: Path = ROOT) -> int:
    """The most bytes that this process has held so far; 0 where the system does not tell."""
    return _kilobytes("VmHWM", root / "proc" / "self" / "status") or 0


def _rooms(root: Path) -> Iterator[int]:
    """Bytes left below each memory limit that holds for this process."""
    for folder in _groups(root, "memory"):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and now is not None:
                yield int(most - now) + _of_table(folder / "memory.stat", cache)


def _quotas(root: Path) -> Iterator[float]:
    """Each quota of processor time that holds for this process, in cores."""
    for folder in _groups(root, "cpu"):
        words = _text(folder / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            yield int(words[0]) / int(words[1])
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            yield quota / period


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control groups, from its own up: the limits of all of them hold.

    Inside a container the names may be those of the host: then the folders that are there are taken.
    """
    base = root / "sys" / "fs" / "cgroup"
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not controllers:
            tops = [base, base / "unified"]
        elif controller in controllers.split(","):
            tops = [base / controllers, base / controller]
        else:
            continue
        for top in tops:
            own = top / path.strip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(top) and folder.is_dir())


def _field(*names: str, root: Path) -> str:
    """The first value under one of the names in /proc/cpuinfo, or "" ."""
    for line in _text(root / "proc" / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


def _kilobytes(name: str, path: Path) -> int | None:
    for line in _text(path).splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _of_table(path: Path, name: str) -> int:
    values = (line.split() for line in _text(path).splitlines())
    return next((int(words[1]) for words in values if len(words) == 2 and words[0] == name), 0)


def _number(path: Path) -> int | None:
    with contextlib.suppress(ValueError):  # "max", or no such file
        return int(_text(path))
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, or an allocator of torch (the CPU's, an accelerator's), gave up."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)
