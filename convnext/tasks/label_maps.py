"""From a segmenter and a picture to a label for each of its pixels: whole, in windows, at several scales.

As in the official code: windows' logits are averaged, scales' probabilities are; the picture is resized to
the protocol, logits to the network's input and then to the picture. Memory is bounded: the picture's own size is met
in bands only.

Shapes: K classes, h x w the network's input, H x W the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..data.kept_shape import KeptShape
from ..models.pyramid import resize
from ..training.runtime import Runtime

Mode = Literal["slide", "whole", "multiscale"]
MODES: tuple[Mode, ...] = ("slide", "whole", "multiscale")
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # mmsegmentation's, each also mirrored
LEAST_SIDE = 32  # pixels: what is smaller vanishes in the network, so it is padded
WINDOWS_AT_ONCE = 4
BAND_VALUES = 2**25  # of fp32, 128 MiB: a band of the picture times the classes
HELD_VALUES = 2**28  # of all scales' logits, 1 GiB of fp32; more are held in half precision


@torch.inference_mode()
def label_map(model: Any, image: Image.Image, protocol: KeptShape, mode: Mode, run: Runtime) -> np.ndarray:
    """(H, W) int16 labels of an RGB image."""
    size = image.size[::-1]
    if mode != "multiscale":
        logits = logits_of(model, protocol(image), run, window=protocol.size if mode == "slide" else None)
        return np.concatenate([part.argmax(0).to(torch.int16).cpu().numpy() for part in bands(logits, size)])
    held = []
    for scale in SCALES:
        x = protocol(image, scale)
        held += [logits_of(model, x, run), logits_of(model, x.flip(-1), run).flip(-1)]
    if sum(logits.numel() for logits in held) > HELD_VALUES:
        held = [logits.half() for logits in held]
    found = []
    for parts in zip(*(bands(logits, size) for logits in held), strict=True):
        total = parts[0].softmax(0)
        for part in parts[1:]:
            total += part.softmax(0)
        found.append(total.argmax(0).to(torch.int16).cpu().numpy())
    return np.concatenate(found)


def logits_of(
    model: Any, x: Tensor, run: Runtime, *, window: int | None = None, at_once: int = WINDOWS_AT_ONCE
) -> Tensor:
    """(3, h, w) on the CPU -> (K, h, w) fp32 logits on the device, of the whole or averaged over windows of a side."""
    height, width = x.shape[-2:]
    if window is None or max(height, width) <= window:
        return _run(model, x[None], run)[0]
    side = (min(window, height), min(window, width))
    total: Tensor | None = None
    places = list(windows((height, width), window))
    for first in range(0, len(places), at_once):
        part = places[first : first + at_once]
        crops = torch.stack([x[:, top : top + side[0], left : left + side[1]] for top, left in part])
        for (top, left), logits in zip(part, _run(model, crops, run), strict=True):
            if total is None:
                total = logits.new_zeros(len(logits) + 1, height, width)  # the last row counts the windows
            total[:-1, top : top + side[0], left : left + side[1]] += logits
            total[-1, top : top + side[0], left : left + side[1]] += 1
    assert total is not None
    return total[:-1] / total[-1:]


def windows(size: Sequence[int], side: int) -> Iterator[tuple[int, int]]:
    """Top left corners of windows two thirds of a side apart (341 of 512, 426 of 640); the last end at the border."""
    stride = max(1, side * 2 // 3)
    corners = []
    for length in size:
        count = max(length - side + stride - 1, 0) // stride + 1
        corners.append([max(min(i * stride + side, length) - side, 0) for i in range(count)])
    for top in corners[0]:
        for left in corners[1]:
            yield top, left


def bands(logits: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
    """(K, h, w) -> the rows of (K, H, W), bilinear by pixel centres, a few at a time."""
    if tuple(logits.shape[-2:]) == tuple(size):
        yield logits.float()
        return
    height, width = size
    rows = max(1, BAND_VALUES // (len(logits) * width))
    for first in range(0, height, rows):
        row = torch.arange(first, min(first + rows, height), device=logits.device)
        place = ((row + 0.5) * (logits.shape[1] / height) - 0.5).clamp_min(0)
        before = place.long().clamp_max(logits.shape[1] - 1)
        after = (before + 1).clamp_max(logits.shape[1] - 1)
        share = (place - before)[None, :, None]
        part = logits[:, before].float() * (1 - share) + logits[:, after].float() * share
        yield F.interpolate(part[None], size=(len(row), width), mode="bilinear", align_corners=False)[0]


def _run(model: Any, x: Tensor, run: Runtime) -> Tensor:
    """(N, 3, h, w) -> (N, K, h, w) fp32 logits on the device."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (0, max(0, LEAST_SIDE - width), 0, max(0, LEAST_SIDE - height))).to(run.device)
    with run.autocast():
        logits: Tensor = model.coarse(padded)
    return resize(logits.float(), padded.shape[-2:])[..., :height, :width]
