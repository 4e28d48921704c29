"""Images per second as the paper measures them: one clock for networks, detectors and segmenters."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn

from ..system.tables import Row

LEAST_FORWARDS = 3  # on a CPU, where they fit
CPU_SECONDS = 20.0  # after which a CPU is asked for no more forwards than that
CPU_LIMIT = 50.0  # seconds within which the last of them should end: at most a minute a network, building included


@dataclass(frozen=True)
class Protocol:
    """How forward passes are timed on a GPU. A CPU always runs one image at a time in fp32, for a minute at most."""

    batch: int = 64
    warm_up: int = 50
    timed: int = 30
    tf32: bool = False
    channels_last: bool = False

    def __str__(self) -> str:
        return f"{'TF32' if self.tf32 else 'fp32'}{', channels_last' if self.channels_last else ''}"


V100 = Protocol()  # Tables 1 and 2, which follow Swin's
A100 = Protocol(tf32=True, channels_last=True)  # Table 12; its batch is not stated
SINGLE = Protocol(batch=1, warm_up=10)  # whole detections and segmentations (as mmdetection's benchmark.py)


@dataclass(frozen=True)
class Speed:
    """Images per second: the median, the slowest and the fastest of `forwards` passes, and how they were made."""

    median: float
    slowest: float
    fastest: float
    forwards: int
    how: str

    @property
    def cells(self) -> Row:
        """Of a table, to three digits, however slow."""
        spread = f"{self.slowest:.3g}-{self.fastest:.3g}, n = {self.forwards}"
        return {"images/s": float(f"{self.median:.3g}"), "spread": spread, "measured on": self.how}


def of_network(model: nn.Module, image_size: int, protocol: Protocol, device: torch.device) -> Speed:
    """Of forward passes of one resident batch in evaluation mode, without gradients."""
    accelerator = device.type != "cpu"
    layout = torch.channels_last if accelerator and protocol.channels_last else torch.contiguous_format
    model = model.eval().to(device).to(memory_format=layout)
    images = torch.randn(protocol.batch if accelerator else 1, 3, image_size, image_size, device=device)
    batch = images.to(memory_format=layout)
    return of_act(lambda: model(batch), len(batch), protocol, device)


def of_act(act: Callable[[], object], images: int, protocol: Protocol, device: torch.device) -> Speed:
    """Of something that is done with `images` images at once."""
    accelerator = device.type != "cpu"
    times: list[float] = []
    began = time.perf_counter()
    with torch.inference_mode(), arithmetic(protocol):
        while not _enough(times, time.perf_counter() - began, protocol, accelerator):
            if accelerator:
                torch.accelerator.synchronize()
            mark = time.perf_counter()
            act()
            if accelerator:
                torch.accelerator.synchronize()
            times.append(time.perf_counter() - mark)
    warm_up = protocol.warm_up if accelerator else 1
    rates = [images / seconds for seconds in times[warm_up:] or times]  # a first one of minutes is all there is
    return Speed(median(rates), min(rates), max(rates), len(rates), _how(images, protocol, device))


@contextlib.contextmanager
def arithmetic(protocol: Protocol) -> Iterator[None]:
    """A GPU's fp32 products as the protocol has them (PyTorch's default mixes both kinds), kernels chosen by trial."""
    backends: Any = torch.backends  # mypy does not see what they are made of
    conv, matmul, cudnn = backends.cudnn.conv, backends.cuda.matmul, backends.cudnn
    before = conv.fp32_precision, matmul.fp32_precision, cudnn.benchmark
    try:
        conv.fp32_precision = matmul.fp32_precision = "tf32" if protocol.tf32 else "ieee"
        cudnn.benchmark = True
        yield
    finally:
        conv.fp32_precision, matmul.fp32_precision, cudnn.benchmark = before


def _enough(times: list[float], passed: float, protocol: Protocol, accelerator: bool) -> bool:
    if accelerator:
        return len(times) == protocol.warm_up + protocol.timed
    if not times:
        return False
    done = len(times) > protocol.timed or (len(times) > LEAST_FORWARDS and passed >= CPU_SECONDS)
    return done or passed + max(times) > CPU_LIMIT


def _how(images: int, protocol: Protocol, device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, batch {images}, {protocol}"
    if device.type == "cpu":
        return f"CPU, {torch.get_num_threads()} threads, batch {images}, fp32"
    return f"{device.type}, batch {images}, {protocol}"
