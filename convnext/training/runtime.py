"""Device, process group, seeds, precision: the only file that touches torch.distributed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

BF16_WORTHWHILE = 1.2  # bf16 is used where its matrix product is at least this much faster than fp32's


@dataclass(frozen=True)
class Runtime:
    """Where this process computes and who its siblings are."""

    device: torch.device
    rank: int = 0
    world: int = 1
    precision: Literal["bf16", "fp32"] = "fp32"

    @property
    def main(self) -> bool:
        return self.rank == 0

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def all_sum(self, values: Tensor) -> Tensor:
        """Sum over all processes; counters are integers or float64, so the result does not depend on the order."""
        if self.world > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    def from_main(self, value: Any) -> Any:
        """The main process's `value`, everywhere."""
        box = [value]
        if self.world > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Every process's `value`, in rank order."""
        rows: list[Any] = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(rows, value)
        return rows

    def distribute(self, model: nn.Module) -> nn.Module:
        """The model whose backward pass averages gradients over processes."""
        if self.world == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        # Of depthwise kernels: their channel axis of length 1 may have any stride in the same memory, at no cost.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        return nn.parallel.DistributedDataParallel(model, device_ids=ids)

    def broadcast_buffers(self, buffers: Iterable[Tensor]) -> None:
        """Gives every process the main one's buffers: BatchNorm's averages drift apart between forward passes."""
        for buffer in buffers if self.world > 1 else ():
            dist.broadcast(buffer, src=0)

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The body runs on the main process, then on the others, which find what it has downloaded."""
        if not self.main:
            self.barrier()
        try:
            yield
        finally:
            if self.main:
                self.barrier()

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@contextlib.contextmanager
def start(precision: str = "auto") -> Iterator[Runtime]:
    """Joins the process group that torchrun describes, if any, and leaves it at the end."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = default_device()
    if world > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    _keep_memory(device)
    runtime = Runtime(device, rank, world)
    chosen = runtime.from_main(_pick_precision(device) if precision == "auto" else precision)
    try:
        yield Runtime(device, rank, world, chosen)
    finally:
        if world > 1:
            dist.destroy_process_group()


def seed_step(seed: int, step: int, rank: int) -> None:
    """Makes drop path and dropout of a step a function of its position: resuming then needs no generator state."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1))


def default_workers(device: torch.device) -> int:
    """Loader processes: one for each spare core, at most eight a device."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(1, min(8, cores // local - (1 if device.type == "cpu" else 0)))


def describe() -> dict[str, str]:
    """The machine and the versions, for logs, reports and `convnext doctor`."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "python": sys.version.split()[0], "torch": torch.__version__, "platform": platform.platform(),
        "cpu": f"{_cpu_name()}, {os.cpu_count()} cores", "gpu": cuda, "threads": str(torch.get_num_threads()),
    }  # fmt: skip


def bf16_speedup(device: torch.device, size: int = 768, repeats: int = 5) -> float:
    """How much faster a bf16 matrix product is than an fp32 one here (best of a few of each)."""
    best: dict[torch.dtype, float] = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(size, size, dtype=dtype, device=device)
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            total = (a @ a).sum()
            float(total)
            times.append(time.perf_counter() - began)
        best[dtype] = min(times[1:])
    return best[torch.float32] / best[torch.bfloat16]


def _pick_precision(device: torch.device) -> Literal["bf16", "fp32"]:
    if device.type == "mps":
        return "fp32"
    return "bf16" if bf16_speedup(device) >= BF16_WORTHWHILE else "fp32"


def default_device() -> torch.device:
    """This process's accelerator, or the CPU."""
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
        return device
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def _keep_memory(device: torch.device) -> None:
    """Tells glibc to keep freed activations: returning and refetching them costs page faults, a sixth of a CPU step."""
    if device.type != "cpu" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL("libc.so.6")
    for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 256 << 20)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
        libc.mallopt(parameter, value)


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
