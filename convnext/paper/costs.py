"""What a network costs: parameters, multiply-adds and speed, beside the published figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NotRequired, TypedDict, cast

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .. import files
from ..errors import UserError
from ..models.roadmap import build
from ..recipes.roadmap import STEPS, SWIN, Reading
from ..system.tables import Row
from ..training import runtime
from ..weights.backbone import create_model
from . import timing
from .timing import A100, V100, Protocol

AGREES = 0.0055  # GFLOPs: a printed figure of the roadmap has two decimals
ROUNDED = 0.06, 0.01  # GFLOPs, and share of them: tables print one decimal, or none
TABLES = {"1": V100, "2": V100, "12": A100}  # of the paper, that state what networks cost, and how fast they are
FLOPS_PER_MULTIPLY_ADD = 2  # torch's counter has both; the paper's FLOPs are multiply-adds


# A row of Table 1, 2 or 12 by the columns that somebody reads; it has the table's others as well.
NetworkRow = TypedDict(
    "NetworkRow",
    {
        "model": str,
        "size": int,
        "data": NotRequired[str],  # "1K" or "22K", of Table 1
        "GFLOPs (paper)": float,
        "top1": NotRequired[float],  # of Tables 1 and 2
        "M parameters (paper)": float | None,
        "images/s (paper)": float | None,
        "GFLOPs": NotRequired[float],  # of the networks that can be built here
        "M parameters": NotRequired[float],
        "note": NotRequired[str],
    },
)


class Printed(TypedDict):
    """What a row of speed_tables.json is measured by, and held against."""

    network: str
    size: int
    gflops: float


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


def roadmap_rows(regimes: Iterable[str] = tuple(STEPS), reading: Reading | None = None) -> list[Row]:
    """Tables 10 and 11: a row a step, our counted multiply-adds and parameters beside what was printed."""
    rows: list[Row] = []
    for regime in regimes:
        for index, step in enumerate(STEPS[regime]):
            cost = count(partial(build, regime, index, reading=reading))
            difference = cost.gmacs - step.gflops
            rows.append(
                {
                    "regime": regime,
                    "step": index,
                    "change": step.name,
                    "top-1 (paper)": step.top1,
                    "std (paper)": step.std,
                    "GFLOPs (paper)": step.gflops,
                    "GFLOPs (counted)": round(cost.gmacs, 4),
                    "difference": round(difference, 4),
                    "agrees": abs(difference) < AGREES,
                    "parameters": cost.parameters,
                    "note": step.note,
                }
            )
        name, gflops, top1 = SWIN[regime]
        rows.append(
            {"regime": regime, "change": f"{name} (as published)", "top-1 (paper)": top1, "GFLOPs (paper)": gflops}
        )
    return rows


def table_rows(table: str, *, speed: bool = True, say: Callable[[str], None] = print) -> list[NetworkRow]:
    """Table 1, 2 or 12: what was printed, and our counts (and speed) of the same networks, where they can be built.

    Raises UserError for a table that this command does not make.
    """
    if table not in TABLES:
        raise UserError(f"no table {table!r} here: {', '.join(TABLES)}; docs/paper.md lists the command for each table")
    published: list[Printed] = json.loads(files.asset("speed_tables.json"))["tables"][table]
    rows = [_table_row(printed, TABLES[table] if speed else None, say) for printed in published]
    return cast(list[NetworkRow], rows)  # the file is ours


def network_rows(
    names: Iterable[str], image_size: int = 224, *, speed: bool = True, say: Callable[[str], None] = print
) -> list[Row]:
    """A row for each named network, of the family or "torchvision:…", "timm:…", "roadmap:…", side by side."""
    if image_size < 1:
        raise UserError(f"--image-size {image_size} holds no picture; pass a positive number of pixels")
    protocol = V100 if speed else None
    return [
        {"network": name, "size": image_size} | _cells(name, image_size, _counted(name, image_size), protocol, say)
        for name in names
    ]


def _table_row(printed: Printed, protocol: Protocol | None, say: Callable[[str], None]) -> Row:
    labels = {"parameters_m": "M parameters (paper)", "gflops": "GFLOPs (paper)", "images_per_s": "images/s (paper)"}
    row: Row = {labels.get(key, key): value for key, value in printed.items() if key != "network"}
    try:
        cost = _counted(printed["network"], printed["size"])
        row |= _cells(printed["network"], printed["size"], cost, protocol, say)
    except UserError as error:  # a library that is not installed, or has no such network any more
        return row | {"note": f"as published: {error}"}
    except RuntimeError as error:  # one network too large for this machine does not cost the others' rows
        return row | {"note": f"not measured: {str(error).splitlines()[0]}"}
    difference = round(cost.gmacs, 2) - printed["gflops"]
    if abs(difference) > max(ROUNDED[0], ROUNDED[1] * printed["gflops"]):
        row.setdefault("note", f"counts {100 * difference / printed['gflops']:+.0f} % against the print")
    return row


def _counted(name: str, image_size: int) -> Cost:
    try:
        return count(lambda: create_model(name), image_size)
    except (RuntimeError, AssertionError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        why = str(error).splitlines()[0]
        raise UserError(f"{name} takes no images of {image_size} pixels ({why}); pass another --image-size") from error


def _cells(name: str, image_size: int, cost: Cost, protocol: Protocol | None, say: Callable[[str], None]) -> Row:
    row: Row = {"M parameters": round(cost.parameters / 1e6, 1), "GFLOPs": round(cost.gmacs, 2)}
    if protocol is None:
        return row
    device = runtime.default_device()
    say(f"{name} at {image_size} pixels on {device} …")
    return row | timing.of_network(create_model(name), image_size, protocol, device).cells
