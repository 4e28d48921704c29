"""Annotated pictures -> what a detector learns from and is asked: sizes, crops, mirror images, masks; whole batches.

All randomness comes from the generator handed in. Shapes: 3 channels, H x W pixels, G objects of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data.keep_ratio import KeepRatio, pixels_of, resized, size_keeping_ratio
from ..data.loader import Order
from ..recipes.recipe import Detection
from .coco_format import RunLengths
from .rle import mask_library
from .source import DetectionSample, DetectionSource, Objects, Outline

PAPER_SIDE, PAPER_LONG = 800, 1333  # short and long side of the test image; all other lengths are given for these
CROP_SHORT_SIDES = (400, 500, 600)  # before a crop
CROP_RANGE = (384, 600)
MOST_OBJECTS = 300  # in sight that are learned from at once, the largest; COCO's fullest image has 93
LEAST_SIDE = 1e-2  # pixels of a box after scaling and cutting: what only touches the border is not in sight
DECODED = 2**21  # pixels of a mask that are drawn whole, which is faster; of a large photograph it takes too much
Pair = tuple[float, float]


def protocol(size: int) -> KeepRatio:
    """How a detector is shown an image with a short side of `size`: 800, at most 1333, in proportion."""
    return KeepRatio(size, round(size * PAPER_LONG / PAPER_SIDE))


@dataclass(frozen=True)
class DetectionTransform:
    """The training transform: mirrored in half of the cases, at one of several sizes, half of them cropped first."""

    rules: Detection
    preprocess: KeepRatio
    masks: bool = True  # whether they are drawn

    def __call__(self, sample: DetectionSample, rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """-> (3, H, W) normalised, and "boxes" (G, 4), "labels" (G,), "masks" (G, H, W) of what is still in sight."""
        pixels = pixels_of(sample.image)
        place = AxisAffine()
        if rng.random() < self.rules.hflip:
            place = place.mirrored(pixels.shape[-1])
            pixels = pixels.flip(-1)
        if self.rules.crop and rng.random() < 0.5:
            pixels, place = self._resized(pixels, place, CROP_SHORT_SIDES, rng)
            pixels, place = self._cropped(pixels, place, rng)
        pixels, place = self._resized(pixels, place, self.rules.short_sides, rng)
        return self.preprocess.normalised(pixels), transform_objects(
            sample.objects, place, (pixels.shape[-2], pixels.shape[-1]), masks=self.masks
        )

    def _resized(
        self, pixels: Tensor, place: AxisAffine, sides: Sequence[int], rng: np.random.Generator
    ) -> tuple[Tensor, AxisAffine]:
        before = pixels.shape[-2:]
        pixels = resized(
            pixels, size_keeping_ratio(before, self._length(int(rng.choice(sides))), self.preprocess.longest)
        )
        return pixels, place.scaled(pixels.shape[-1] / before[1], pixels.shape[-2] / before[0])

    def _cropped(self, pixels: Tensor, place: AxisAffine, rng: np.random.Generator) -> tuple[Tensor, AxisAffine]:
        shortest, longest = (self._length(side) for side in CROP_RANGE)
        height, width = (int(rng.integers(min(s, shortest), min(s, longest) + 1)) for s in pixels.shape[-2:])
        top, left = (
            int(rng.integers(0, s - part + 1)) for s, part in zip(pixels.shape[-2:], (height, width), strict=True)
        )
        return pixels[:, top : top + height, left : left + width], place.shifted(-left, -top)

    def _length(self, pixels: int) -> int:
        return max(1, round(pixels * self.preprocess.size / PAPER_SIDE))


@dataclass(frozen=True)
class AxisAffine:
    """Where a picture's points have gone: x -> scale x + shift, for x and y."""

    scale: Pair = (1.0, 1.0)
    shift: Pair = (0.0, 0.0)

    def mirrored(self, width: int) -> AxisAffine:
        return AxisAffine((-self.scale[0], self.scale[1]), (width - self.shift[0], self.shift[1]))

    def scaled(self, x: float, y: float) -> AxisAffine:
        return AxisAffine((self.scale[0] * x, self.scale[1] * y), (self.shift[0] * x, self.shift[1] * y))

    def shifted(self, x: float, y: float) -> AxisAffine:
        return AxisAffine(self.scale, (self.shift[0] + x, self.shift[1] + y))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(…, 2) -> (…, 2)."""
        return points * np.array(self.scale) + np.array(self.shift)


def transform_objects(
    objects: Objects, place: AxisAffine, size: tuple[int, int], *, masks: bool = True
) -> dict[str, Tensor]:
    """The objects in a picture of height and width `size` made by `place`; what is out of sight is left out.

    "boxes" (G, 4), "labels" (G,), with `masks` "masks" (G, H, W), and where there are any "ignored" (I, 4).
    """
    boxes, seen = _in_sight(objects.boxes, place, size)
    ignored, partly = _in_sight(objects.ignored, place, size)
    ignored = ignored[partly]
    if len(seen) > MOST_OBJECTS:  # more would take gigabytes; what is cut is not background for that
        sides = boxes[seen, 2:] - boxes[seen, :2]
        order = seen[np.argsort(-sides.prod(1), kind="stable")]
        seen, ignored = np.sort(order[:MOST_OBJECTS]), np.concatenate((ignored, boxes[order[MOST_OBJECTS:]]))
    target = {"boxes": torch.from_numpy(boxes[seen]), "labels": torch.from_numpy(objects.labels[seen])}
    if masks:
        pixels = [rasterize(objects.outlines[i], boxes[i], place, size) for i in seen]
        target["masks"] = torch.from_numpy(np.stack(pixels) if pixels else np.zeros((0, *size), np.uint8))
    return target | ({"ignored": torch.from_numpy(ignored)} if len(ignored) else {})


def _in_sight(boxes: np.ndarray, place: AxisAffine, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) -> (N, 4) moved and cut, as they will be learned from, and the positions of those that are still there."""
    corners = place(boxes.reshape(-1, 2, 2).astype(np.float64))
    whole = np.concatenate((corners.min(1), corners.max(1)), 1).astype(np.float32)  # in which 1e-13 wide is 0 wide
    cut = whole.clip(0, np.array((size[1], size[0]) * 2, np.float32))
    return cut, ((cut[:, 2:] - cut[:, :2]) >= LEAST_SIDE).all(1).nonzero()[0]


def rasterize(outline: Outline, box: np.ndarray, place: AxisAffine, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 mask of an object; of one without an outline, its box."""
    rle = mask_library()
    if outline.runs is not None:
        height, width = outline.runs["size"]
        x, y = (
            np.floor((np.arange(side) + 0.5 - shift) / scale).astype(int).clip(0, most - 1)
            for side, shift, scale, most in zip(size[::-1], place.shift, place.scale, (width, height), strict=True)
        )
        if height * width <= DECODED:
            runs = outline.runs
            whole = rle.decode(rle.frPyObjects(runs, height, width) if isinstance(runs["counts"], list) else runs)
            return whole[y[:, None], x]
        at = x * height + y[:, None]  # runs go down the columns
        return (np.searchsorted(run_ends(outline.runs), at, side="right") & 1).astype(np.uint8)
    polygons = outline.polygons or (box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2).astype(np.float64),)
    points = [(place(part) if outline.polygons else part).ravel().tolist() for part in polygons]
    return rle.decode(rle.merge(rle.frPyObjects(points, *size)))


def run_ends(runs: RunLengths) -> np.ndarray:
    """Where each of COCO's run lengths ends, in pixels down the columns: outside first, inside second, and so on.

    Compressed lengths are numbers of 5 bits a character, from the third on the difference to the one before the last.
    """
    if isinstance(runs["counts"], list):
        return np.cumsum(np.array(runs["counts"], np.int64))
    text = runs["counts"].encode() if isinstance(runs["counts"], str) else runs["counts"]
    counts: list[int] = []
    value = shift = 0
    for code in text:
        bits = code - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last character of a number; its highest bit is the sign
            value -= (bits & 16) << (shift - 4) if bits & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return np.cumsum(np.array(counts, np.int64))


@dataclass(frozen=True)
class DetectionBatch:
    """Images of any sizes, what is in them, and what they are called."""

    images: tuple[Tensor, ...]  # each (3, H, W) float32, normalised
    targets: tuple[dict[str, Tensor], ...]
    ids: tuple[str, ...]

    def to(self, device: torch.device, *, channels_last: bool = False) -> DetectionBatch:
        """On `device`; the detector itself lays its batch out, so `channels_last` changes nothing here."""
        images = tuple(image.to(device, non_blocking=True) for image in self.images)
        targets = tuple({k: v.to(device, non_blocking=True) for k, v in t.items()} for t in self.targets)
        return DetectionBatch(images, targets, self.ids)


class PlainDetection(Dataset[tuple[Tensor, dict[str, Tensor], str]]):
    """A source seen through the evaluation protocol, without its objects."""

    def __init__(self, source: DetectionSource, preprocess: KeepRatio) -> None:
        self.source, self.preprocess = source, preprocess

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor], str]:
        return self.preprocess(self.source.image(index)), {}, self.source.ids[index]

    def __len__(self) -> int:
        return len(self.source)


def collated(rows: list[tuple[Tensor, dict[str, Tensor], str]]) -> DetectionBatch:
    images, targets, ids = zip(*rows, strict=True)
    return DetectionBatch(images, targets, ids)


@dataclass(frozen=True)
class ShapeOrder(Order):
    """Epochs in groups of `group` images that are all wide or all tall, so that little of a batch is padding.

    What is left over of both kinds makes mixed groups: no image is lost to the grouping.
    """

    wide: tuple[bool, ...] = ()
    group: int = 1

    def epoch(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, epoch))
        order, wide = rng.permutation(self.samples), np.array(self.wide)
        kinds = [order[wide[order]], order[~wide[order]]]
        even = [len(kind) // self.group * self.group for kind in kinds]
        groups = np.concatenate([kind[:n].reshape(-1, self.group) for kind, n in zip(kinds, even, strict=True)])
        rest = [kind[n:] for kind, n in zip(kinds, even, strict=True)]
        return np.concatenate((rng.permutation(groups).ravel(), *rest))
