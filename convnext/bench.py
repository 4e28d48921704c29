"""What a network costs: parameters, multiply-adds and speed, beside the published figures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from . import files
from .errors import UserError
from .models import create_model
from .models.roadmap import build
from .recipes.roadmap import STEPS, SWIN, Reading
from .training import runtime

AGREES = 0.0055  # GFLOPs: a printed figure has two decimals
TABLES = ("1", "2", "12")  # of the paper, that state what networks cost
GPU_WARM_UP, GPU_TIMED, GPU_BATCH = 50, 30, 64  # forwards and images: the paper's protocol, which follows Swin's
CPU_SECONDS = 20.0  # of timed forwards a network, one image each
LEAST_FORWARDS = 3
FLOPS_PER_MULTIPLY_ADD = 2  # torch's counter has both; the paper's FLOPs are multiply-adds


@dataclass(frozen=True)
class Cost:
    """Of one network: trainable values, and multiply-adds of convolutions and linear layers for one image."""

    parameters: int
    multiply_adds: int

    @property
    def gmacs(self) -> float:
        """Multiply-adds in units of 10^9: what the paper prints as GFLOPs."""
        return self.multiply_adds / 1e9


def count(make: Callable[[], nn.Module], image_size: int = 224) -> Cost:
    """The cost of the network that `make` builds, for one (3, image_size, image_size) image; nothing is computed."""
    image = torch.empty(1, 3, image_size, image_size, device="meta")
    try:
        with torch.device("meta"):
            model = make().eval()
    except NotImplementedError:  # a network that computes while it is built, as some of timm's do
        model = make().eval().to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(parameters, counter.get_total_flops() // FLOPS_PER_MULTIPLY_ADD)


def roadmap_rows(regimes: Iterable[str] = tuple(STEPS), reading: Reading | None = None) -> list[dict[str, Any]]:
    """Tables 10 and 11: a row a step, our counted multiply-adds and parameters beside what was printed."""
    rows: list[dict[str, Any]] = []
    for regime in regimes:
        for index, step in enumerate(STEPS[regime]):
            cost = count(lambda regime=regime, index=index: build(regime, index, reading=reading))  # type: ignore[misc]
            difference = cost.gmacs - step.gflops
            rows.append({
                "regime": regime, "step": index, "change": step.name,
                "top-1 (paper)": step.top1, "std (paper)": step.std,
                "GFLOPs (paper)": step.gflops, "GFLOPs (counted)": round(cost.gmacs, 4),
                "difference": round(difference, 4), "agrees": abs(difference) < AGREES,
                "parameters": cost.parameters, "note": step.note,
            })  # fmt: skip
        name, gflops, top1 = SWIN[regime]
        rows.append(
            {"regime": regime, "change": f"{name} (as published)", "top-1 (paper)": top1, "GFLOPs (paper)": gflops}
        )
    return rows


@dataclass(frozen=True)
class Speed:
    """Images per second of forward passes in fp32: the median, the slowest and the fastest, and of how many."""

    median: float
    slowest: float
    fastest: float
    forwards: int


def table_rows(table: str, *, speed: bool = True, say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Table 1, 2 or 12: what was printed, and our counts (and speed) of the same networks, where they can be built.

    Raises UserError for a table that this command does not make.
    """
    if table not in TABLES:
        raise UserError(f"no table {table!r} here: {', '.join(TABLES)}; docs/paper.md lists the command for each table")
    published = json.loads(files.asset("speed_tables.json"))["tables"][table]
    return [_table_row(printed, speed, say) for printed in published]


def network_rows(names: Iterable[str], image_size: int = 224, *, speed: bool = True,
                 say: Callable[[str], None] = print) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each named network, of the family or "torchvision:…", "timm:…", "roadmap:…", side by side."""
    return [{"network": name, "size": image_size} | _measured(name, image_size, speed, say) for name in names]


def throughput(model: nn.Module, image_size: int, device: torch.device) -> Speed:
    """Forward passes of one resident batch, evaluation mode, fp32; see the constants above for how many."""
    accelerator = device.type != "cpu"
    model = model.eval().to(device)
    batch = torch.randn(GPU_BATCH if accelerator else 1, 3, image_size, image_size, device=device)
    times: list[float] = []
    with torch.no_grad():
        for _ in range(GPU_WARM_UP if accelerator else 1):
            model(batch)
        began = time.perf_counter()
        while len(times) < (GPU_TIMED if accelerator else LEAST_FORWARDS) or (
            not accelerator and time.perf_counter() - began < CPU_SECONDS and len(times) < GPU_TIMED
        ):
            if accelerator:
                torch.accelerator.synchronize()
            mark = time.perf_counter()
            model(batch)
            if accelerator:
                torch.accelerator.synchronize()
            times.append(time.perf_counter() - mark)
    rates = [len(batch) / seconds for seconds in times]
    return Speed(median(rates), min(rates), max(rates), len(rates))


def _table_row(printed: dict[str, Any], speed: bool, say: Callable[[str], None]) -> dict[str, Any]:
    labels = {"parameters_m": "M parameters (paper)", "gflops": "GFLOPs (paper)", "images_per_s": "images/s (paper)"}
    row = {labels.get(key, key): value for key, value in printed.items() if key != "network"}
    try:
        return row | _measured(printed["network"], printed["size"], speed, say)
    except UserError as error:  # a library that is not installed, or has no such network any more
        return row | {"note": f"as published: {error}"}


def _measured(name: str, image_size: int, speed: bool, say: Callable[[str], None]) -> dict[str, Any]:
    cost = count(lambda: create_model(name), image_size)
    row: dict[str, Any] = {"M parameters": round(cost.parameters / 1e6, 1), "GFLOPs": round(cost.gmacs, 2)}
    if speed:
        device = runtime.default_device()
        say(f"{name} at {image_size} pixels on {device} …")
        found = throughput(create_model(name), image_size, device)
        row["images/s"] = round(found.median, 1)
        row["spread"] = f"{found.slowest:.1f}-{found.fastest:.1f}, n = {found.forwards}"
    return row
