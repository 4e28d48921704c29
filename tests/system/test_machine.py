"""What a machine has, read from the files of its system: here other machines', written down, and once this one's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from convnext.system import machine

GIB = 1 << 30
MEMINFO = f"MemTotal: {64 << 20} kB\nMemFree: {1 << 20} kB\nMemAvailable: {40 << 20} kB\n"


def shown(root: Path, **texts: str) -> Path:
    """A root of files; "__" stands for "/"."""
    for name, text in {"proc__meminfo": MEMINFO, **texts}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_what_caches_files_is_free_memory(tmp_path: Path) -> None:
    assert machine.free_memory(shown(tmp_path)) == 40 * GIB


def test_a_container_may_use_what_its_limit_leaves(tmp_path: Path) -> None:
    group = "sys__fs__cgroup__pod__"
    root = shown(
        tmp_path,
        **{
            "proc__self__cgroup": "0::/pod/inner\n",
            "sys__fs__cgroup__pod__inner__memory.max": "max\n",
            "sys__fs__cgroup__pod__inner__memory.current": "1\n",
            f"{group}memory.max": f"{8 * GIB}\n",
            f"{group}memory.current": f"{6 * GIB}\n",
            f"{group}memory.stat": f"anon 1\ninactive_file {3 * GIB}\n",
        },
    )
    assert machine.free_memory(root) == 5 * GIB  # the files that it has read are no burden
    (root / "sys/fs/cgroup/pod/memory.current").write_text(f"{12 * GIB}\n")
    assert machine.free_memory(root) == 0


def test_limits_of_the_first_version_count_too_also_under_the_hosts_name_for_the_group(tmp_path: Path) -> None:
    group = "sys__fs__cgroup__memory__"
    root = shown(
        tmp_path,
        **{
            "proc__self__cgroup": "4:memory:/docker/1234\n1:cpu,cpuacct:/docker/1234\n0::/\n",
            f"{group}memory.limit_in_bytes": f"{2 * GIB}",
            f"{group}memory.usage_in_bytes": f"{GIB}",
            f"{group}memory.stat": f"total_inactive_file {GIB // 2}\n",
            "sys__fs__cgroup__cpu,cpuacct__cpu.cfs_quota_us": "50000\n",
            "sys__fs__cgroup__cpu,cpuacct__cpu.cfs_period_us": "100000\n",
        },
    )
    assert machine.free_memory(root) == 3 * GIB // 2
    assert machine.cores(root) == 1


def test_a_machine_that_tells_nothing_has_nothing_to_spare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sysconf_names", {})
    assert machine.free_memory(tmp_path) == 0
    assert machine.peak_memory(tmp_path) == 0
    assert machine.bf16_instructions(tmp_path) is None


@pytest.mark.parametrize(("quota", "most"), [("150000 100000", 2), ("max 100000", 10**6), ("100000 100000", 1)])
def test_a_quota_of_processor_time_is_rounded_up_to_cores(quota: str, most: int, tmp_path: Path) -> None:
    root = shown(tmp_path, **{"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__cpu.max": f"{quota}\n"})
    assert machine.cores(root) == min(most, machine.cores(tmp_path / "none"))


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_tile amx_bf16\n", "amx_bf16"),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n\nflags\t\t: fpu\n", "avx512_bf16"),
        ("flags\t\t: fpu avx2\n", None),
        ("processor\t: 0\nFeatures\t: fp asimd sve bf16 i8mm\n", "bf16"),
    ],
)
def test_instructions_are_those_that_linux_names(cpuinfo: str, expected: str | None, tmp_path: Path) -> None:
    assert machine.bf16_instructions(shown(tmp_path, proc__cpuinfo=cpuinfo)) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's files")
def peak_beside(held: int) -> int:
    """The peak memory of a process of its own that held so many bytes: this one's was higher before, perhaps."""
    code = f"from convnext.system import machine; held = bytearray({held}); print(machine.peak_memory())"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_this_machine_can_give_what_it_says() -> None:
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert 0 < machine.free_memory() <= int(total.split()[1]) * 1024
    assert peak_beside(64 << 20) >= peak_beside(0) + (32 << 20)
    assert machine.processor()
    assert machine.cores() >= 1
