"""Masks between an object's box and its image: what a mask head learns, and what it found pasted where it belongs.

Shapes: P regions, G ground-truth masks, S mask side, H x W image. Definitions are mmdetection's.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .boxes import Size

OUTSIDE = 3.0  # in grid_sample's units a mask reaches from -1 to 1
PASTE_VALUES = 2**28  # grid values held at once on an accelerator: 1 GiB of fp32
BAND_VALUES = 2**23  # the same on a CPU: 32 MiB, about what its caches hold
PART_PIXELS = 2**26  # of the masks that `paste_in_parts` makes at once: 64 MiB


def mask_targets(masks: Tensor, boxes: Tensor, which: Tensor, side: int) -> Tensor:
    """(G, H, W) masks, (P, 4) boxes, (P,) mask of each -> (P, side, side) of 0 and 1."""
    from torchvision.ops import roi_align

    if not len(boxes):
        return boxes.new_zeros(0, side, side)
    regions = torch.cat((which[:, None].to(boxes), boxes), 1)
    return (roi_align(masks[:, None].to(boxes), regions, side, 1.0, 0, True)[:, 0] >= 0.5).to(boxes)


def paste_in_parts(probabilities: Tensor, boxes: Tensor, size: Size, threshold: float) -> Iterator[Tensor]:
    """The masks of `paste` a few at a time: a hundred of a picture of 9000 x 9000 pixels take 8 GB."""
    step = max(1, PART_PIXELS // (size[0] * size[1]))
    for first in range(0, len(boxes), step):
        part = slice(first, first + step)
        yield paste(probabilities[part], boxes[part], size, threshold)


def paste(probabilities: Tensor, boxes: Tensor, size: Size, threshold: float) -> Tensor:
    """(P, S, S) probabilities within (P, 4) boxes -> (P, H, W) masks: bilinear, true from `threshold` on."""
    height, width = size
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool, device=boxes.device)
    if boxes.device.type == "cpu":  # few pixels each, one after the other
        for mask, probability, box in zip(masks, probabilities, boxes, strict=True):
            left, top = (int(v) for v in (box[:2].floor() - 1).clamp(0))
            right, bottom = (min(int(v), most) for v, most in zip(box[2:].ceil() + 1, (width, height), strict=True))
            if left >= right:
                continue
            rows = max(1, BAND_VALUES // (2 * (right - left)))
            for first in range(top, bottom, rows):
                last = min(first + rows, bottom)
                sampled = _sample(probability[None], box[None], (first, last), (left, right))
                mask[first:last, left:right] = sampled[0] >= threshold
        return masks
    step = max(1, PASTE_VALUES // (2 * height * width))
    for first in range(0, len(boxes), step):
        part = slice(first, first + step)
        masks[part] = _sample(probabilities[part], boxes[part], (0, height), (0, width)) >= threshold
    return masks


def _sample(probabilities: Tensor, boxes: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """The probability at each pixel's centre, 0 outside the box: (P, S, S), (P, 4) -> (P, rows, columns)."""
    y, x = (torch.arange(*span, device=boxes.device) + 0.5 for span in (rows, columns))
    places = []
    for centres, low, high in ((x, boxes[:, 0], boxes[:, 2]), (y, boxes[:, 1], boxes[:, 3])):
        place = (centres - low[:, None]) / (high - low)[:, None] * 2 - 1
        places.append(torch.where(place.isfinite(), place, OUTSIDE))  # a box without width or height has no mask
    grid = torch.stack((places[0][:, None].expand(-1, len(y), -1), places[1][:, :, None].expand(-1, -1, len(x))), 3)
    return F.grid_sample(probabilities[:, None].to(grid), grid, align_corners=False)[:, 0]
