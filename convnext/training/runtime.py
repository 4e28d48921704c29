"""Device, process group, seeds, precision: the only file that touches torch.distributed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..data.loader import B, StepLoader, Steps, T
from ..errors import UserError
from ..recipes.recipe import Recipe
from ..system import machine, processes
from ..weights.info import info_of

Precision = Literal["bf16", "fp32"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Runtime:
    """Where this process computes and who its siblings are."""

    device: torch.device
    rank: int = 0
    world: int = 1
    precision: Precision = "fp32"

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sum over all processes; counters are integers or float64, so the result does not depend on the order."""
        if self.world > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    def broadcast(self, value: T) -> T:
        """The main process's `value`, everywhere."""
        box = [value]
        if self.world > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Every process's `value`, in rank order."""
        rows = [value] * self.world
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

    def step_loader(
        self, order: Steps, collate: Callable[[list[T]], B], micro_batch: int, workers: int
    ) -> StepLoader[T, B]:
        """What loads this process's part of each step."""
        return StepLoader(order, collate, self.rank, self.world, micro_batch, workers, self.device.type == "cuda")

    def broadcast_buffers(self, buffers: Iterable[Tensor]) -> None:
        """Gives every process the main one's buffers: BatchNorm's averages drift apart between forward passes."""
        for buffer in buffers if self.world > 1 else ():
            dist.broadcast(buffer, src=0)

    @contextlib.contextmanager
    def main_process_first(self) -> Iterator[None]:
        """The body runs on the main process, then on the others, which find what it has downloaded."""
        if not self.is_main:
            self.barrier()
        try:
            yield
        finally:
            if self.is_main:
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
    chosen = runtime.broadcast(native_precision(device)[0] if precision == "auto" else _known(precision))
    try:
        yield Runtime(device, rank, world, chosen)
    except BaseException:
        processes.note_failure()
        raise
    finally:
        if world > 1:
            dist.destroy_process_group()


@contextlib.contextmanager
def start_judging(model: nn.Module, precision: str = "auto", say: Say | None = None) -> Iterator[Runtime]:
    """`start` for a trained model: unless one is asked for, in the precision its own figure was measured in.

    That stands in its metadata. Without it (released weights, other libraries' files) it is fp32, as published figures
    are. `say` is told which and why.
    """
    with start("fp32" if precision == "auto" else precision) as run:
        why = "as asked"
        if precision == "auto":
            chosen, why = _judged_in(model, run.device)
            run = Runtime(run.device, run.rank, run.world, run.broadcast(chosen))
        if say is not None and run.is_main:
            say(f"computed in {run.precision}: {why}")
        yield run


def native_precision(device: torch.device) -> tuple[Precision, str]:
    """bf16 where the device has instructions for it, and the reason: what it has, so that it never changes."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", f"{name} computes bf16 itself"
        return "fp32", f"{name} has no bf16 arithmetic of its own"
    if device.type != "cpu":
        return "fp32", f"bf16 is not used on {device.type}"
    if found := machine.bf16_instructions():
        return "bf16", f"the processor has {found}"
    return "fp32", f"the processor is not known to have any of {', '.join(machine.BF16_FLAGS)}"


def _judged_in(model: nn.Module, device: torch.device) -> tuple[Precision, str]:
    kept = info_of(model).metadata.get("precision")
    if kept == "fp32":
        return "fp32", "as the model was judged while it was trained"
    if kept != "bf16":
        return "fp32", "the file does not say in what the model was judged while it was trained"
    native, why = native_precision(device)
    if native == "fp32":
        return "fp32", f"the model was judged in bf16 while it was trained, but here {why}"
    return "bf16", "as the model was judged while it was trained"


def _known(precision: str) -> Precision:
    if precision in ("bf16", "fp32"):
        return "bf16" if precision == "bf16" else "fp32"
    raise UserError(f"precision {precision!r} is not one of auto, fp32, bf16")


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocator of torch gave up."""
    return isinstance(error, torch.OutOfMemoryError) or machine.out_of_memory(error)


@dataclass(frozen=True)
class Batching:
    """What a task's batches can be divided into, for messages."""

    least: int = 1  # pictures that a part must have
    measured: bool = False  # whether --batch-size auto measures what fits
    same: str = "the same steps"  # what smaller parts leave as it was


@contextlib.contextmanager
def memory_explained(recipe: Recipe, run: Runtime, batching: Batching, path: Path | None = None) -> Iterator[None]:
    """Makes of memory that runs out in training a UserError that says what to make smaller.

    `path` is the run's folder, where it can be resumed.
    """
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        share = -(-recipe.batch_size // run.world)
        micro = min(recipe.micro_batch or share, share)
        size = (
            f"out of memory on {run.device} with {micro} image{'s' * (micro > 1)} of {recipe.image_size} pixels at once"
        )
        raise UserError(f"{size}; {_less_memory(recipe, micro, batching, path)}") from error


def _less_memory(recipe: Recipe, micro: int, batching: Batching, path: Path | None) -> str:
    """What to do about steps that do not fit; an evaluation goes on in halves by itself."""
    take = "pass" if path is None else f"go on with --resume --out {path}"
    if micro > (least := batching.least):
        auto = " --batch-size auto to measure what fits, or" if path is None and batching.measured else ""
        return f"{take}{auto} --set micro_batch={max(least, micro // 2)}: {batching.same}, computed in smaller parts"
    smaller = "start a new run with a smaller --image-size or --model"
    if recipe.grad_checkpointing:
        return smaller
    return f"{take} --set grad_checkpointing=true: the same steps, slower and in less memory; or {smaller}"


def seed_step(seed: int, step: int, rank: int) -> None:
    """Makes drop path and dropout of a step a function of its position: resuming then needs no generator state."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1))


def default_workers(device: torch.device) -> int:
    """Loader processes: one for each spare core, at most eight a device."""
    return max(1, min(8, machine.cores() // machine.processes_here() - (1 if device.type == "cpu" else 0)))


def describe() -> dict[str, str]:
    """The machine and the versions, for logs, reports and `convnext doctor`."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": f"{machine.processor()}, {os.cpu_count()} cores",
        "gpu": cuda,
        "threads": str(torch.get_num_threads()),
    }


def default_device() -> torch.device:
    """This process's accelerator, or the CPU. Raises UserError where there are more processes than GPUs."""
    if torch.cuda.is_available():
        place, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if place >= there:
            raise UserError(
                f"process {place + 1} of {machine.processes_here()} finds no GPU of its own: this machine shows "
                f"{there}; pass --nproc {there}"
            )
        device = torch.device("cuda", place)
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
