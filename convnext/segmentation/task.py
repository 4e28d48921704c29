"""Segmentation: batches of crops with their labels, the two heads' losses, mean intersection over union."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from ..data.keep_ratio import KeepRatio
from ..data.loader import Order, load
from ..dense.task import Augmented, DenseTask
from ..recipes.recipe import TestMode
from ..training import Metric, Sink
from ..training.runtime import Runtime, default_workers
from .data import SegmentationSource, protocol
from .loss import pixel_cross_entropy
from .metrics import SegmentationCounter
from .sliding import label_map
from .transforms import PlainMasks, SegmentationBatch, SegmentationTransform, collated, first_only


class SegmentedImage(TypedDict):
    """What an evaluation found in one picture: (H, W) labels beside the true ones."""

    id: str
    index: int
    found: np.ndarray
    truth: np.ndarray


@dataclass
class SegmentationEvaluator:
    """Judges a segmenter on pictures with masks, seen as `mode` says. `workers`: None for what the machine has."""

    source: SegmentationSource
    preprocess: KeepRatio
    run: Runtime
    mode: TestMode = "slide"
    workers: int | None = None
    counter: SegmentationCounter = field(init=False)  # of the last evaluation

    def __post_init__(self) -> None:
        self.source = self.source.within(self.preprocess.levels)
        self.counter = SegmentationCounter(len(self.source.classes))

    def evaluate(self, model: nn.Module, sink: Sink[SegmentedImage] | None = None) -> dict[str, float]:
        """mIoU and accuracies in percent over all pictures; every pixel counts once, on whatever process.

        `sink` receives each image's name, position and (H, W) predicted and true labels.
        """
        counter = SegmentationCounter(len(self.source.classes))
        mine = list(range(self.run.rank, len(self.source), self.run.world))
        workers = default_workers(self.run.device) if self.workers is None else self.workers
        samples = load(PlainMasks(self.source), [[i] for i in mine], first_only, workers if len(mine) > 2 else 0)
        for i, sample in zip(mine, samples, strict=True):
            found = label_map(model, sample.image, self.preprocess, self.mode, self.run)
            counter.update(torch.from_numpy(found), torch.from_numpy(sample.labels))
            if sink is not None:
                sink({"id": sample.id, "index": i, "found": found, "truth": sample.labels})
        counter.load(self.run.all_reduce_sum(counter.state()).cpu())
        self.counter = counter
        return counter.result()


@dataclass
class Segment(DenseTask[SegmentationSource, SegmentedImage]):
    """One training and one validation source under a recipe, on this process."""

    evaluator: SegmentationEvaluator = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        recipe = self.recipe
        self.order = Order(len(self.train), recipe.batch_size, recipe.seed)
        mode = recipe.segmentation.test
        self.evaluator = SegmentationEvaluator(self.val, self.preprocess, self.run, mode, recipe.workers)

    protocol = staticmethod(protocol)

    @property
    def described(self) -> dict[str, str]:
        """What a checkpoint's metadata says of the task."""
        return {"task": "segment", "mask_coding": json.dumps(self.val.coding.to_dict())}

    @property
    def metric(self) -> Metric:
        return Metric("miou")

    def batches(self, start: int, stop: int) -> Iterator[list[SegmentationBatch]]:
        """This process's micro-batches of each step; same samples in the same order on any number of them."""
        micro = self.recipe.micro_batch or self.recipe.batch_size
        transform = SegmentationTransform(self.recipe.segmentation, self.preprocess)
        dataset = Augmented(self.train, transform, self.recipe.seed)
        return self.run.step_loader(self.order, collated, micro, self.workers)(dataset, start, stop)

    def losses(self, model: nn.Module, batch: SegmentationBatch) -> dict[str, Tensor]:
        main, auxiliary = model(batch.images, coarse=True)  # the loss interpolates
        losses = {"main": pixel_cross_entropy(main, batch.targets)}
        if auxiliary is not None:
            losses["auxiliary"] = self.recipe.segmentation.auxiliary * pixel_cross_entropy(auxiliary, batch.targets)
        return losses


def per_class(counter: SegmentationCounter, classes: tuple[str, ...]) -> dict[str, float]:
    """IoU in percent by class name, of those that are there or predicted."""
    return {name: float(value) for name, value in zip(classes, counter.iou(), strict=True) if not value.isnan()}
