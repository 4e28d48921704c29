"""Speed: what is counted, how long a CPU may take, and that a GPU's settings are put back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from convnext.paper import timing

CPU = torch.device("cpu")


class Clock:
    """A forward pass of a known length on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *lengths: float) -> None:
        self.now, self.lengths, self.passes = 0.0, lengths, 0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def __call__(self) -> None:
        self.now += self.lengths[min(self.passes, len(self.lengths) - 1)]
        self.passes += 1


def test_the_first_pass_warms_up(monkeypatch: pytest.MonkeyPatch) -> None:
    found = timing.of_act(Clock(monkeypatch, 9.0, 2.0, 4.0, 5.0, 10.0), 8, timing.SINGLE, CPU)
    assert (found.forwards, found.median, found.slowest, found.fastest) == (3, 2.0, 1.6, 4.0)


@pytest.mark.parametrize(
    ("length", "passes", "counted"), [(0.1, 31, 30), (1.0, 20, 19), (6.0, 4, 3), (20.0, 2, 1), (400.0, 1, 1)]
)
def test_a_cpu_takes_a_minute_at_most_unless_one_pass_takes_longer(
    length: float, passes: int, counted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, length)
    found = timing.of_act(clock, 1, timing.V100, CPU)
    assert (clock.passes, found.forwards) == (passes, counted)
    assert clock.now <= timing.CPU_LIMIT or passes == 1


def test_slow_is_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = timing.of_act(Clock(monkeypatch, 400.0), 1, timing.V100, CPU).cells
    assert cells["images/s"] == 0.0025
    assert cells["spread"] == "0.0025-0.0025, n = 1"


@pytest.mark.parametrize(("protocol", "precision"), [(timing.V100, "ieee"), (timing.A100, "tf32")])
def test_arithmetic_is_the_protocols_and_is_put_back(protocol: timing.Protocol, precision: str) -> None:
    def settings() -> tuple[str, str, bool]:
        backends: Any = torch.backends  # mypy does not see what they are made of
        return backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision, backends.cudnn.benchmark

    before = settings()
    with timing.arithmetic(protocol):
        assert settings() == (precision, precision, True)
    assert settings() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_runs_the_papers_protocol() -> None:
    found = timing.of_network(torch.nn.Conv2d(3, 8, 3), 32, timing.A100, torch.device("cuda"))
    assert found.forwards == 30
    assert found.how.endswith("batch 64, TF32, channels_last")
