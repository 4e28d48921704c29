"""Time of a training step of ConvNeXt, ours beside timm's, torchvision's and transformers', in turn in one run.

    python benchmarks/train_step.py

The same work for each: batch, picture size, AdamW in its fastest form, bf16 autocast, channels_last, one machine.
Medians of n turns; the ratio is the peer's time over ours (above 1: ours is faster).
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convnext.training import runtime
from convnext.weights.backbone import create_model

ROUNDS = 7
CASES: list[tuple[str, int, int]] = [("tiny", 8, 224), ("atto", 32, 112)]


class Logits(nn.Module):
    """A transformers classifier that returns a tensor like the others."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=x).logits


def contestants(size: str) -> dict[str, Callable[[], nn.Module]]:
    import timm
    import torchvision
    from transformers import ConvNextConfig, ConvNextForImageClassification

    classes: dict[str, Any] = {"num_labels": 1000}
    made: dict[str, Callable[[], nn.Module]] = {
        "ours": lambda: create_model(f"convnext_{size}"),
        "timm": lambda: timm.create_model(f"convnext_{size}"),
    }
    if size == "tiny":
        made["torchvision"] = lambda: torchvision.models.convnext_tiny()
        made["transformers"] = lambda: Logits(ConvNextForImageClassification(ConvNextConfig(**classes)))
    return made


def stepper(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], float]:
    model = model.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> float:
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(model(images).float(), labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return 1e3 * (time.perf_counter() - began)

    return step


def main() -> None:
    rows: list[dict[str, Any]] = []
    for size, batch, side in CASES:
        images = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(1000, (batch,))
        steps = {name: stepper(make(), images, labels) for name, make in contestants(size).items()}
        times: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(1 + ROUNDS):
            for name, step in steps.items():
                taken = step()
                if turn:
                    times[name].append(taken)
        ours = statistics.median(times["ours"])
        for name, found in times.items():
            middle = statistics.median(found)
            spread = [round(min(found), 1), round(max(found), 1)]
            row = {"model": size, "batch": batch, "pixels": side, "who": name, "n": ROUNDS, "spread_ms": spread}
            rows.append(row | {"median_ms": round(middle, 1), "ratio": round(middle / ours, 2)})
            print(
                f"{size:6} batch {batch:3} {side:4} px  {name:14}{middle:9.1f} ms  {spread}  {middle / ours:.2f} x ours"
            )
    out = Path(__file__).parent / "results" / "train_step.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"machine": runtime.describe(), "rows": rows}, indent=2) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
