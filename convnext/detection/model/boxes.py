"""Box arithmetic, matching and sampling, as mmdetection defines them: the released detectors were trained so.

A box is (x1, y1, x2, y2) in pixels, its width x2 - x1; nothing is rounded. G ground-truth boxes, R regions, K classes.
NMS is torchvision's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from ...models.layers import at_least_fp32

Size = tuple[int, int]  # height, width

LARGEST_STEP = -log(16 / 1000)  # of log width and log height that one decoding makes: a factor of 62.5
FEW_GROUPS = 80  # COCO's classes, for which the released detectors' figures were taken in single precision
AT_ONCE = 32  # ground-truth boxes compared with all regions: bounds the memory of a crowded image
SMALLEST_SIDE = 1e-6  # pixels that a width or height counts as at least: of an empty box no ratio is defined
SMALLEST_UNION = 1e-6  # square pixels: the overlap of two empty boxes is 0, not undefined


@dataclass(frozen=True)
class Coder:
    """Boxes relative to others: centre shifts over width and height, logarithms of the ratios, each over its `stds`."""

    stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

    def encode(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """(R, 4) boxes, (R, 4) boxes to reach -> (R, 4) deltas."""
        centre, side = _centre_form(at_least_fp32(boxes))
        target_centre, target_side = _centre_form(at_least_fp32(targets))
        side, target_side = side.clamp(SMALLEST_SIDE), target_side.clamp(SMALLEST_SIDE)
        deltas = torch.cat(((target_centre - centre) / side, (target_side / side).log()), -1)
        return deltas / deltas.new_tensor(self.stds)

    def decode(self, boxes: Tensor, deltas: Tensor, size: Size | None = None) -> Tensor:
        """(R, 4) boxes, (R, 4 or K x 4) deltas -> boxes in the shape of the deltas, cut to an image of `size`."""
        wide = at_least_fp32(deltas)
        steps = wide.unflatten(1, (-1, 4)) * wide.new_tensor(self.stds)
        centre, side = _centre_form(at_least_fp32(boxes)[:, None])
        centre = centre + side * steps[..., :2]
        half = side * steps[..., 2:].clamp(-LARGEST_STEP, LARGEST_STEP).exp() * 0.5
        decoded = torch.cat((centre - half, centre + half), -1)
        return (decoded if size is None else clip(decoded, size)).flatten(1)


@dataclass(frozen=True)
class Matcher:
    """Which ground-truth box each region stands for, by overlap.

    `allow_low_quality_matches`: the regions that overlap a box most are its, from an overlap of `least` on, even below
    `positive`.
    """

    positive: float
    negative: float
    least: float
    allow_low_quality_matches: bool

    def __call__(self, truth: Tensor, regions: Tensor, ignored: Tensor | None = None) -> Tensor:
        """(G, 4), (R, 4) -> (R,): 0 background, g + 1 for box g, -1 for neither.

        `ignored` (I, 4): objects that are not learned from; what overlaps one of them more than any true box, and by
        more than background may, is neither.
        """
        match = torch.zeros(len(regions), dtype=torch.long, device=regions.device)
        best = match.new_zeros(len(regions), dtype=regions.dtype)
        if len(regions) and ignored is not None and len(ignored):
            best = torch.stack([pairwise_iou(part, regions).amax(0) for part in ignored.split(AT_ONCE)]).amax(0)
            match[best >= self.negative] = -1
        if len(truth) == 0 or len(regions) == 0:
            return match
        return self._matched(truth, regions, best)

    def _matched(self, truth: Tensor, regions: Tensor, elsewhere: Tensor) -> Tensor:
        """`elsewhere` (R,): the overlap with an object that is not learned from."""
        overlap = torch.cat([pairwise_iou(part, regions) for part in truth.split(AT_ONCE)])
        best, which = overlap.max(0)
        match = torch.full_like(which, -1)
        match[best < self.negative] = 0
        match = torch.where(best >= self.positive, which + 1, match)
        match[(elsewhere > best) & (elsewhere >= self.negative)] = -1
        if self.allow_low_quality_matches:
            most = overlap.max(1).values
            box, region = ((overlap == most[:, None]) & (most >= self.least)[:, None]).nonzero(as_tuple=True)
            last = torch.zeros_like(match).scatter_reduce(
                0, region, box + 1, "amax"
            )  # of several, the last box's holds
            match = torch.where(last > 0, last, match)
        return match


@dataclass(frozen=True)
class Sampler:
    """At most `count` regions at random, at most `positive_share` of them positive."""

    count: int
    positive_share: float

    def __call__(self, match: Tensor) -> tuple[Tensor, Tensor]:
        """(R,) matches -> indices of positives, indices of negatives, each rising."""
        positive = _choose((match > 0).nonzero().flatten(), int(self.count * self.positive_share))
        return positive, _choose((match == 0).nonzero().flatten(), self.count - len(positive))


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """(A, 4), (B, 4) -> (A, B) intersection over union; 0 where both are empty."""
    corner, other = first[:, None], second[None]
    inside = (torch.minimum(corner[..., 2:], other[..., 2:]) - torch.maximum(corner[..., :2], other[..., :2])).clamp(0)
    shared = inside[..., 0] * inside[..., 1]
    return shared / (area(first)[:, None] + area(second) - shared).clamp(SMALLEST_UNION)


def area(boxes: Tensor) -> Tensor:
    """(…, 4) -> (…) square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def clip(boxes: Tensor, size: Size) -> Tensor:
    """(…, 4) boxes cut to an image of height and width `size`."""
    height, width = size
    return torch.minimum(boxes.clamp(0), boxes.new_tensor((width, height, width, height)))


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Indices that survive suppression within their group, best first; (R, 4), (R,), (R,) -> (kept,).

    Groups are moved apart by more than the image, so that one pass serves them all: with many of them in double, as
    the distance of the last one leaves single precision no fractions of a pixel.
    """
    from torchvision.ops import nms

    if not len(boxes):
        return torch.empty(0, dtype=torch.long, device=boxes.device)
    if groups.max() >= FEW_GROUPS:
        boxes = boxes.double()
    return nms(boxes + (groups.to(boxes) * (boxes.max() + 1))[:, None], scores.to(boxes), threshold)


def _centre_form(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(…, 4) -> (…, 2) centres, (…, 2) widths and heights."""
    return (boxes[..., :2] + boxes[..., 2:]) * 0.5, boxes[..., 2:] - boxes[..., :2]


def _choose(indices: Tensor, count: int) -> Tensor:
    if len(indices) <= count:
        return indices
    return indices[torch.randperm(len(indices))[:count].to(indices.device)].sort().values
