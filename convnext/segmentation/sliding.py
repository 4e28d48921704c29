"""From a segmenter and a picture to a label for each of its pixels: whole, in windows, at several scales.

As in the official code, the picture is resized to the protocol, logits to the network's input and then to the picture.
Scales' probabilities are averaged, but windows' logits: that is what mmsegmentation's `slide_inference` adds up, and so
what the published figures are of.

Memory is bounded: logits are held where the network has them, a quarter of its input's sides, and the sizes of the
input and of the picture are met in bands of rows only.

Shapes: K classes, h x w the network's input, a x b its logits, H x W the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ..data.keep_ratio import KeepRatio
from ..models.pyramid import resize
from ..recipes.recipe import TestMode
from ..training.runtime import Runtime

MODES: tuple[TestMode, ...] = ("slide", "whole", "multiscale")
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # mmsegmentation's, each also mirrored
LEAST_SIDE = 32  # pixels: what is smaller vanishes in the network, so it is padded
WINDOWS_AT_ONCE = 4
BAND_VALUES = 2**25  # of fp32, 128 MiB: a band of the picture times the classes
Size = tuple[int, int]


@dataclass(frozen=True)
class Logits:
    """What a network says of a picture that it was shown at one size."""

    values: Tensor  # (K, a, b) fp32
    padded: Size  # h x w: what `values` are resized to
    shown: Size  # the part of it, at the top left, that is the picture
    mirrored: bool = False

    def rows(self, first: int, last: int, size: Size) -> Tensor:
        """(last - first, W, K): these rows of the logits at the picture's `size`; nothing else is computed.

        Bilinear by pixel centres, to `padded` and from there to `size`. The two directions do not depend on each other.
        A pixel's classes lie side by side: on a CPU that is what interpolation and softmax are twice as fast with.
        """
        device = self.values.device
        above, below, share = _neighbours(self.shown[0], size[0], torch.arange(first, last, device=device))
        top, bottom = int(above[0]), int(below[-1]) + 1
        inside = _rows(self.values, self.padded[0], torch.arange(top, bottom, device=device))
        part = _mixed(inside, above - top, below - top, share)
        part = part[None].contiguous(memory_format=torch.channels_last)
        part = resize(part, (last - first, self.padded[1]))[..., : self.shown[1]]
        part = resize(part.flip(-1) if self.mirrored else part, (last - first, size[1]))
        return part[0].permute(1, 2, 0).contiguous()


@torch.inference_mode()
def label_map(model: nn.Module, image: Image.Image, protocol: KeepRatio, mode: TestMode, run: Runtime) -> np.ndarray:
    """(H, W) int16 labels of an RGB image."""
    if mode == "multiscale":
        held = [
            logits_of(model, protocol(image, scale), run, mirrored=mirrored)
            for scale in SCALES
            for mirrored in (False, True)
        ]
    else:
        held = [logits_of(model, protocol(image), run, window=protocol.size if mode == "slide" else None)]
    size = (image.height, image.width)
    return np.concatenate([_best(held, *band, size) for band in bands(held, size)])


def logits_of(
    model: nn.Module,
    x: Tensor,
    run: Runtime,
    *,
    window: int | None = None,
    at_once: int = WINDOWS_AT_ONCE,
    mirrored: bool = False,
) -> Logits:
    """(3, h, w) on the CPU -> logits on the device, of the whole or averaged over windows of a side."""
    height, width = x.shape[-2:]
    if window is None or max(height, width) <= window:
        values, padded = _run(model, (x.flip(-1) if mirrored else x)[None], run)
        return Logits(values[0], padded, (height, width), mirrored)
    return Logits(_in_windows(model, x, run, window, at_once), (height, width), (height, width))


def bands(held: Sequence[Logits], size: Size) -> Iterator[Size]:
    """First row and the one after the last of each part of a picture that is small enough to be looked at at once."""
    widest = max(size[1], *(one.padded[1] for one in held))
    rows = max(1, BAND_VALUES // (len(held[0].values) * widest))
    for first in range(0, size[0], rows):
        yield first, min(first + rows, size[0])


def windows(size: Sequence[int], side: int) -> Iterator[Size]:
    """Top left corners of windows two thirds of a side apart (341 of 512, 426 of 640); the last end at the border."""
    stride = max(1, side * 2 // 3)
    corners = []
    for length in size:
        count = max(length - side + stride - 1, 0) // stride + 1
        corners.append([max(min(i * stride + side, length) - side, 0) for i in range(count)])
    for top in corners[0]:
        for left in corners[1]:
            yield top, left


def _best(held: Sequence[Logits], first: int, last: int, size: Size) -> np.ndarray:
    """Labels of a band: one network's largest logit, several networks' largest mean probability."""
    if len(held) == 1:
        total = held[0].rows(first, last, size)
    else:
        total = held[0].rows(first, last, size).softmax(-1)
        for one in held[1:]:
            total += one.rows(first, last, size).softmax(-1)
    return total.argmax(-1).to(torch.int16).cpu().numpy()


def _in_windows(model: nn.Module, x: Tensor, run: Runtime, window: int, at_once: int) -> Tensor:
    """(K, h, w): the mean of the windows' logits at each place."""
    height, width = x.shape[-2:]
    side = (min(window, height), min(window, width))
    total: Tensor | None = None
    places = list(windows((height, width), window))
    for start in range(0, len(places), at_once):
        part = places[start : start + at_once]
        crops = torch.stack([x[:, top : top + side[0], left : left + side[1]] for top, left in part])
        values, padded = _run(model, crops, run)
        for (top, left), coarse in zip(part, values, strict=True):
            if total is None:
                total = coarse.new_zeros(len(coarse) + 1, height, width)  # the last row counts the windows
            logits = resize(coarse[None], padded)[0, :, : side[0], : side[1]]
            total[:-1, top : top + side[0], left : left + side[1]] += logits
            total[-1, top : top + side[0], left : left + side[1]] += 1
    assert total is not None
    return total[:-1].div_(total[-1:])


def _run(model: nn.Module, x: Tensor, run: Runtime) -> tuple[Tensor, Size]:
    """(N, 3, h, w) -> (N, K, a, b) fp32 logits on the device, and the size of the input that they are of."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (0, max(0, LEAST_SIDE - width), 0, max(0, LEAST_SIDE - height))).to(run.device)
    with run.autocast():
        logits: Tensor = model(padded, coarse=True)
    return logits.float(), (padded.shape[-2], padded.shape[-1])


def _neighbours(before: int, after: int, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Resizing `before` rows to `after`: of the wanted rows the two that each lies between, and the second's share."""
    place = ((wanted + 0.5) * (before / after) - 0.5).clamp_min(0)
    above = place.long().clamp_max(before - 1)
    return above, (above + 1).clamp_max(before - 1), place - above


def _rows(values: Tensor, height: int, wanted: Tensor) -> Tensor:
    """(K, a, b) -> (K, number wanted, b): of the `height` rows that bilinear interpolation makes, the wanted ones."""
    return _mixed(values, *_neighbours(values.shape[1], height, wanted))


def _mixed(values: Tensor, above: Tensor, below: Tensor, share: Tensor) -> Tensor:
    return torch.lerp(values[:, above], values[:, below], share[None, :, None])
