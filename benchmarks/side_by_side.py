"""Two ways to do the same work, in turn: what the comparisons with other libraries share."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def timed(act: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    mark = time.perf_counter()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - mark


def compared(acts: dict[str, Callable[[], Any]], n: int, device: torch.device) -> dict[str, Any]:
    """Seconds of ours ("convnext") and of another, taken in turn, and the other's over ours, pair by pair."""
    times: dict[str, list[float]] = {name: [] for name in acts}
    for i in range(n + 1):
        for name, act in acts.items():
            seconds = timed(act, device)
            if i:  # the first of each warms up
                times[name].append(seconds)
    (other,) = times.keys() - {"convnext"}
    ratios = [theirs / ours for ours, theirs in zip(times["convnext"], times[other], strict=True)]
    medians = {f"{name}_s": round(statistics.median(values), 4) for name, values in times.items()}
    spread = [round(min(ratios), 3), round(max(ratios), 3)]
    return {"n": n, **medians, "ratio": round(statistics.median(ratios), 3), "spread": spread}
