"""Training-step time with and without the tiled depthwise weight gradient, A and B in turn, one thread.

    python benchmarks/depthwise.py

Processor time, not wall time: it does not count what other programs on the machine take.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from convnext.models import depthwise
from convnext.training import runtime
from convnext.weights.backbone import create_model

atto = partial(create_model, "convnext_atto", num_classes=10)
CASES: list[tuple[str, Callable[[], nn.Module], int, int]] = [
    ("atto, 112 pixels", atto, 32, 112),
    ("tiny, 224 pixels", partial(create_model, "convnext_tiny", num_classes=10), 8, 224),
    ("the demo's network, 8 pixels", partial(atto, depths=(1, 1, 4, 1), dims=(32, 64, 128, 208), patch_size=1), 64, 8),
]
ROUNDS = 9


def step_ms(model: nn.Module, images: torch.Tensor) -> float:
    began = time.process_time()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(images).float().square().mean()
    loss.backward()
    model.zero_grad(set_to_none=True)
    return 1e3 * (time.process_time() - began)


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for title, make, batch, size in CASES:
        model = make().to(memory_format=torch.channels_last)
        images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
        times: dict[str, list[float]] = {"tiled": [], "library": []}
        for turn in range(2 + ROUNDS):
            for way, found in times.items():
                with mock.patch.object(depthwise, "_tiles_pay", lambda *_, w=way: w == "tiled"):
                    taken = step_ms(model, images)
                if turn >= 2:
                    found.append(taken)
        middle = {way: statistics.median(found) for way, found in times.items()}
        row = {
            "case": title,
            "batch": batch,
            "n": ROUNDS,
            "median_ms": {way: round(value, 1) for way, value in middle.items()},
            "spread_ms": {way: [round(min(found), 1), round(max(found), 1)] for way, found in times.items()},
            "ratio": round(middle["library"] / middle["tiled"], 3),
        }
        rows.append(row)
        print(
            f"{title:32} library {middle['library']:8.1f} ms  tiled {middle['tiled']:8.1f} ms  {row['ratio']:.2f} x",
            flush=True,
        )
    out = Path(__file__).parent / "results" / "depthwise.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"machine": runtime.describe(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
