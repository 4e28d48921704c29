"""What is said of each region: class, box and mask, in one stage or in three (Mask R-CNN; Cascade Mask R-CNN).

Shapes: N images, R regions of all images, P positive ones, K classes (background is the last, number K). Definitions
and parameter names are mmdetection's. One stage is a cascade of length one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.layers import ConvLayer, at_least_fp32
from .boxes import Coder, Matcher, Sampler, Size, batched_nms
from .giou import giou_loss
from .masks import mask_targets, paste, paste_in_parts
from .roi_align import Pooler
from .rpn import Target

BOX_SIDE, MASK_SIDE = 7, 14  # positions a region is pooled to
HIDDEN = 1024  # width of a box head's fully connected layers
SAMPLES, POSITIVE_SHARE = 512, 0.25  # regions of an image that each stage learns from
GIOU_WEIGHT = 10.0
H = TypeVar("H", bound=nn.Module)


@dataclass(frozen=True)
class Stage:
    """One stage of the cascade: what it calls an object, in which units it moves boxes, what its losses weigh."""

    positive: float = 0.5  # overlap from which a region is positive
    stds: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    weight: float = 1.0
    allow_low_quality_matches: bool = True
    decoded: bool = False  # GIoU of decoded boxes instead of L1 of deltas


@dataclass(frozen=True)
class TestSettings:
    """Which detections are reported."""

    score: float = 0.05
    nms: float = 0.5
    most: int = 100  # an image
    mask: float = 0.5  # probability from which a pixel belongs to the object


class BoxHead(nn.Module):
    """Pooled regions -> logits of K + 1 classes and four deltas for each of K classes."""

    def __init__(self, width: int, num_classes: int, *, convs: int, fcs: int) -> None:
        super().__init__()
        if convs:
            self.shared_convs = nn.Sequential(*[ConvLayer(width, width, 3, norm=True, relu=True) for _ in range(convs)])
        sides = [width * BOX_SIDE**2, *[HIDDEN] * fcs]
        self.shared_fcs = nn.ModuleList(_linear(a, b) for a, b in pairwise(sides))
        self.fc_cls = _linear(HIDDEN, num_classes + 1, std=0.01)
        self.fc_reg = _linear(HIDDEN, 4 * num_classes, std=0.001)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, 7, 7) -> (R, K + 1), (R, 4 K)."""
        x = (self.shared_convs(regions) if hasattr(self, "shared_convs") else regions).flatten(1)
        for layer in self.shared_fcs:
            x = F.relu(layer(x))
        return at_least_fp32(self.fc_cls(x)), at_least_fp32(self.fc_reg(x))


class MaskHead(nn.Module):
    """Four convolutions, a doubling, one map of logits for each class."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*[ConvLayer(width, width, 3, relu=True) for _ in range(4)])
        self.upsample = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.conv_logits = nn.Conv2d(width, num_classes, 1)
        for layer in (self.upsample, self.conv_logits):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, regions: Tensor, labels: Tensor) -> Tensor:
        """(R, C, 14, 14), (R,) classes -> (R, 28, 28) logits of each region's own class."""
        return at_least_fp32(self.maps(regions)[torch.arange(len(labels), device=labels.device), labels])

    def maps(self, regions: Tensor) -> Tensor:
        """(R, C, 14, 14) -> (R, K, 28, 28) logits of every class."""
        logits: Tensor = self.conv_logits(F.relu(self.upsample(self.convs(regions))))
        return logits


class RoIHead(nn.Module):
    """The stages, one after the other: each reads the regions that the one before has moved."""

    def __init__(
        self,
        width: int,
        strides: Sequence[int],
        num_classes: int,
        stages: Sequence[Stage],
        *,
        box_layers: tuple[int, int],
        masked: bool = True,
    ) -> None:
        super().__init__()
        self.strides, self.num_classes, self.stages = tuple(strides), num_classes, tuple(stages)
        self.test, self.sample = TestSettings(), Sampler(SAMPLES, POSITIVE_SHARE)
        convs, fcs = box_layers
        boxes = [BoxHead(width, num_classes, convs=convs, fcs=fcs) for _ in stages]
        masks = [MaskHead(width, num_classes) for _ in stages if masked]
        self.masked = masked
        single = len(stages) == 1  # then the released files number no heads
        self.bbox_head: BoxHead | nn.ModuleList = boxes[0] if single else nn.ModuleList(boxes)
        if masked:
            self.mask_head: MaskHead | nn.ModuleList = masks[0] if single else nn.ModuleList(masks)

    @property
    def heads(self) -> list[tuple[BoxHead, MaskHead | None, Stage]]:
        masks: Sequence[MaskHead | None]
        masks = _each(self.mask_head, MaskHead) if self.masked else [None] * len(self.stages)
        return list(zip(_each(self.bbox_head, BoxHead), masks, self.stages, strict=True))

    def learn(
        self, pyramid: Sequence[Tensor], proposals: Sequence[Tensor], sizes: Sequence[Size], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """Weighted losses of every stage; the regions are proposals and, besides, the ground truth itself."""
        read, regions = Pooler(pyramid[: len(self.strides)], self.strides), list(proposals)
        losses: dict[str, Tensor] = {}
        for i, (box_head, mask_head, stage) in enumerate(self.heads):
            drawn = [
                sample_regions(stage, self.sample, r, t, s) for r, t, s in zip(regions, targets, sizes, strict=True)
            ]
            logits, deltas = box_head(read([d.regions for d in drawn], BOX_SIDE))
            labels = torch.cat([d.labels(self.num_classes) for d in drawn])
            prefix = f"s{i}_" if len(self.stages) > 1 else ""
            losses[f"{prefix}cls"] = stage.weight * F.cross_entropy(logits, labels)
            losses[f"{prefix}box"] = stage.weight * self._box_loss(stage, deltas, labels, drawn)
            if mask_head is not None:
                losses[f"{prefix}mask"] = stage.weight * self._mask_loss(mask_head, read, drawn)
            if stage is not self.stages[-1]:
                sure = torch.where(labels == self.num_classes, logits[:, :-1].argmax(1), labels)
                counts = [len(d.regions) for d in drawn]
                moved = refine_boxes(
                    stage, [d.regions for d in drawn], deltas.detach().split(counts), sure.split(counts), sizes
                )
                regions = [m[~d.is_truth] for m, d in zip(moved, drawn, strict=True)]
        return losses

    def detect(
        self,
        pyramid: Sequence[Tensor],
        proposals: Sequence[Tensor],
        sizes: Sequence[Size],
        originals: Sequence[Size],
        *,
        pasted: bool = True,
    ) -> list[dict[str, Tensor]]:
        """Detections of each image, best first, boxes and masks in pixels of the original image.

        Not `pasted`: instead of "masks" the "probabilities" (D, S, S) within the boxes, which `masks` takes.
        """
        read, regions = Pooler(pyramid[: len(self.strides)], self.strides), list(proposals)
        counts = [len(r) for r in regions]
        total = torch.zeros((), device=pyramid[0].device)
        for box_head, _, stage in self.heads:
            logits, deltas = box_head(read(regions, BOX_SIDE))
            total = total + logits
            if stage is not self.stages[-1]:
                sure = logits[:, :-1].argmax(1)
                regions = refine_boxes(stage, regions, deltas.split(counts), sure.split(counts), sizes)
        scores = (total / len(self.stages)).softmax(1)[:, :-1].split(counts)
        parts = zip(regions, scores, deltas.split(counts), sizes, strict=True)
        found = [self._select(*part) for part in parts]
        inside = self._mask_probabilities(read, found).split([len(f["labels"]) for f in found]) if self.masked else None
        for i, (result, size, original) in enumerate(zip(found, sizes, originals, strict=True)):
            scale = result["boxes"].new_tensor((original[1] / size[1], original[0] / size[0]))
            result["boxes"] = result["boxes"] * scale.repeat(2)
            if inside is None:
                continue
            if pasted:
                result["masks"] = paste(inside[i], result["boxes"], original, self.test.mask)
            else:
                result["probabilities"] = inside[i]
        return found

    def masks(self, found: dict[str, Tensor], size: Size) -> Iterator[Tensor]:
        """The masks (part of D, H, W) of an image's detections that are not pasted yet, a few at a time."""
        return paste_in_parts(found["probabilities"], found["boxes"], size, self.test.mask)

    def _box_loss(self, stage: Stage, deltas: Tensor, labels: Tensor, drawn: Sequence[SampledRegions]) -> Tensor:
        """Over positives, divided by the number of all regions."""
        rows = (labels < self.num_classes).nonzero().flatten()
        regions, goals = torch.cat([d.positives for d in drawn]), torch.cat([d.goals for d in drawn])
        coder, steps = Coder(stage.stds), _of_class(deltas[rows], labels[rows])
        if stage.decoded:
            return GIOU_WEIGHT * giou_loss(coder.decode(regions, steps), goals).sum() / len(labels)
        return F.l1_loss(steps, coder.encode(regions, goals), reduction="sum") / len(labels)

    def _mask_loss(self, head: MaskHead, read: Pooler, drawn: Sequence[SampledRegions]) -> Tensor:
        """Mean binary cross-entropy over the pixels of the positives' own classes."""
        labels = torch.cat([d.target["labels"][d.truth] for d in drawn])
        logits = head(read([d.positives for d in drawn], MASK_SIDE), labels)
        if not len(labels):
            return logits.sum()
        truth = torch.cat([mask_targets(d.target["masks"], d.positives, d.truth, logits.shape[-1]) for d in drawn])
        return F.binary_cross_entropy_with_logits(logits, truth.to(logits))

    def _select(self, regions: Tensor, scores: Tensor, deltas: Tensor, size: Size) -> dict[str, Tensor]:
        """(R, 4), (R, K), (R, 4 K) -> boxes in the input image, scores and labels of at most `test.most`."""
        boxes = Coder(self.stages[-1].stds).decode(regions, deltas, size).unflatten(1, (-1, 4))
        row, label = (scores > self.test.score).nonzero(as_tuple=True)
        boxes, scores = boxes[row, label], scores[row, label]
        kept = batched_nms(boxes, scores, label, self.test.nms)[: self.test.most]
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": label[kept]}

    def _mask_probabilities(self, read: Pooler, found: Sequence[dict[str, Tensor]]) -> Tensor:
        """(detections of all images, 28, 28): the mean of the stages' probabilities."""
        regions = read([f["boxes"] for f in found], MASK_SIDE)
        labels = torch.cat([f["labels"] for f in found])
        heads = [head for _, head, _ in self.heads if head is not None]
        return torch.stack([head(regions, labels).sigmoid() for head in heads]).mean(0)


@dataclass(frozen=True)
class SampledRegions:
    """The regions of one image that a stage learns from, positives first."""

    regions: Tensor  # (R, 4)
    truth: Tensor  # (P,) which ground-truth box each positive stands for
    is_truth: Tensor  # (R,) whether the region is a ground-truth box itself
    target: Target

    @property
    def positives(self) -> Tensor:
        return self.regions[: len(self.truth)]

    @property
    def goals(self) -> Tensor:
        return self.target["boxes"][self.truth]

    def labels(self, background: int) -> Tensor:
        """(R,) class of each region."""
        labels = torch.full((len(self.regions),), background, device=self.regions.device)
        labels[: len(self.truth)] = self.target["labels"][self.truth]
        return labels


def sample_regions(stage: Stage, sample: Sampler, proposals: Tensor, target: Target, size: Size) -> SampledRegions:
    """Matches proposals to the ground truth, adds that, and samples."""
    boxes = target["boxes"]
    if not len(proposals) and not len(boxes):  # so that every image has something to learn from
        proposals = proposals.new_tensor([(0, 0, size[1], size[0])])
    matcher = Matcher(stage.positive, stage.positive, stage.positive, stage.allow_low_quality_matches)
    match = matcher(boxes, proposals, target.get("ignored"))
    match = torch.cat((torch.arange(1, len(boxes) + 1, device=match.device), match))
    positive, negative = sample(match)
    rows = torch.cat((positive, negative))
    if not len(rows):  # all lie on ignored objects: a pixel in the corner is background, whatever covers it
        return SampledRegions(boxes.new_tensor([(0, 0, 1, 1)]), positive, boxes.new_zeros(1, dtype=torch.bool), target)
    return SampledRegions(torch.cat((boxes, proposals))[rows], match[positive] - 1, rows < len(boxes), target)


def refine_boxes(
    stage: Stage, regions: Sequence[Tensor], deltas: Sequence[Tensor], labels: Sequence[Tensor], sizes: Sequence[Size]
) -> list[Tensor]:
    """The regions of each image by the deltas (R, 4 K) of the class that each is taken for."""
    parts = zip(regions, deltas, labels, sizes, strict=True)
    return [Coder(stage.stds).decode(r, _of_class(d, label), size) for r, d, label, size in parts]


def _of_class(deltas: Tensor, labels: Tensor) -> Tensor:
    """(R, 4 K), (R,) -> (R, 4)."""
    return deltas.unflatten(1, (-1, 4))[torch.arange(len(labels), device=labels.device), labels]


def _each(heads: nn.Module, kind: type[H]) -> list[H]:
    """The heads of all stages, which are one head or a list of them."""
    every = heads if isinstance(heads, nn.ModuleList) else [heads]
    return [head for head in every if isinstance(head, kind)]


def _linear(before: int, after: int, std: float | None = None) -> nn.Linear:
    """Bias zero; weights normal with `std`, or Xavier's uniform ones."""
    layer = nn.Linear(before, after)
    nn.init.xavier_uniform_(layer.weight) if std is None else nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer
