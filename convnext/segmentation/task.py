"""Segmentation: batches of crops with their labels, the two heads' losses, mean intersection over union."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..data.keep_ratio import KeepRatio
from ..data.loader import Order, load
from ..recipes.recipe import Recipe
from ..training import Metric, Sink
from ..training.runtime import Runtime, default_workers
from .data import SegmentationSource
from .loss import pixel_cross_entropy
from .metrics import SegmentationCounter
from .sliding import label_map
from .transforms import AugmentedMasks, PlainMasks, SegmentationBatch, SegmentationTransform, collated, first_only


@dataclass
class Segment:
    """One training and one validation source under a recipe, on this process."""

    train: SegmentationSource
    val: SegmentationSource
    recipe: Recipe
    preprocess: KeepRatio
    run: Runtime
    order: Order = field(init=False)
    counter: SegmentationCounter = field(init=False)  # of the last evaluation

    def __post_init__(self) -> None:
        self.train, self.val = (one.within(self.preprocess.levels) for one in (self.train, self.val))
        recipe = self.recipe
        self.num_classes = len(self.val.classes)
        self.workers = default_workers(self.run.device) if recipe.workers is None else recipe.workers
        self.order = Order(len(self.train), recipe.batch_size, recipe.seed)
        self.counter = SegmentationCounter(self.num_classes)

    @property
    def described(self) -> dict[str, str]:
        """What a checkpoint's metadata says of the task."""
        return {"task": "segment", "mask_coding": json.dumps(self.val.coding.to_dict())}

    @property
    def metric(self) -> Metric:
        return Metric("miou")

    @property
    def steps_per_epoch(self) -> int:
        return self.order.steps_per_epoch

    def batches(self, start: int, stop: int) -> Iterator[list[SegmentationBatch]]:
        """This process's micro-batches of each step; same samples in the same order on any number of them."""
        micro = self.recipe.micro_batch or self.recipe.batch_size
        transform = SegmentationTransform(self.recipe.segmentation, self.preprocess)
        dataset = AugmentedMasks(self.train, transform, self.recipe.seed)
        return self.run.step_loader(self.order, collated, micro, self.workers)(dataset, start, stop)

    def losses(self, model: nn.Module, batch: SegmentationBatch) -> dict[str, Tensor]:
        main, auxiliary = model(batch.images, coarse=True)  # the loss interpolates
        losses = {"main": pixel_cross_entropy(main, batch.targets)}
        if auxiliary is not None:
            losses["auxiliary"] = self.recipe.segmentation.auxiliary * pixel_cross_entropy(auxiliary, batch.targets)
        return losses

    def evaluate(self, model: nn.Module, sink: Sink | None = None) -> dict[str, float]:
        """mIoU and accuracies in percent over the validation set; every pixel counts once, on whatever process.

        `sink` receives each image's name, position and (H, W) predicted and true labels.
        """
        counter = SegmentationCounter(self.num_classes)
        mine = list(range(self.run.rank, len(self.val), self.run.world))
        workers = self.workers if len(mine) > 2 else 0
        mode = self.recipe.segmentation.test
        for i, sample in zip(mine, load(PlainMasks(self.val), [[i] for i in mine], first_only, workers), strict=True):
            found = label_map(model, sample.image, self.preprocess, mode, self.run)
            counter.update(torch.from_numpy(found), torch.from_numpy(sample.labels))
            if sink is not None:
                sink({"id": sample.id, "index": i, "found": found, "truth": sample.labels})
        counter.load(self.run.all_reduce_sum(counter.state()).cpu())
        self.counter = counter
        return counter.result()


def per_class(counter: SegmentationCounter, classes: tuple[str, ...]) -> dict[str, Any]:
    """IoU in percent by class name, of those that are there or predicted."""
    return {name: float(value) for name, value in zip(classes, counter.iou(), strict=True) if not value.isnan()}
