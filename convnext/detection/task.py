"""Detection: batches of pictures with their objects, the detector's own losses, COCO's average precision."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict, cast

import torch
from torch import Tensor, nn

from ..data.keep_ratio import KeepRatio
from ..data.loader import load
from ..dense.task import Augmented, DenseTask
from ..training import Metric, Sink
from ..training.runtime import Runtime, default_workers
from .coco_format import ResultRow
from .metrics import Details, as_coco, judge
from .model.rcnn import WITHOUT_MASKS, Detector
from .source import DetectionSource
from .transforms import DetectionBatch, DetectionTransform, PlainDetection, ShapeOrder, collated, protocol


class DetectedImage(TypedDict):
    """What an evaluation found in one picture, as COCO result rows."""

    id: str
    index: int
    rows: list[ResultRow]


@dataclass
class DetectionEvaluator:
    """Judges a detector on annotated pictures. `workers`: None for what the machine has."""

    source: DetectionSource
    preprocess: KeepRatio
    run: Runtime
    workers: int | None = None
    details: dict[str, Details] = field(init=False, default_factory=dict)  # behind the last evaluation's figures

    def __post_init__(self) -> None:
        self.source = self.source.within(self.preprocess.levels)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, sink: Sink[DetectedImage] | None = None) -> dict[str, float]:
        """COCO's figures in percent over all pictures; each counts once, on whatever process it lands.

        `sink` receives each image's name, position and COCO result rows.
        """
        source, detector = self.source, cast(Detector, model)
        mine = list(range(self.run.rank, len(source), self.run.world))
        rows: list[ResultRow] = []
        workers = default_workers(self.run.device) if self.workers is None else self.workers
        plain = PlainDetection(source, self.preprocess)
        batches = load(plain, [[i] for i in mine], collated, workers if len(mine) > 2 else 0)
        for i, batch in zip(mine, batches, strict=True):
            size = source.sizes[i][::-1]
            image = batch.to(self.run.device).images[0]
            own = found_in(detector, image, size, self.run, source.image_ids[i], source.category_ids)
            rows += own
            if sink is not None:
                sink({"id": source.ids[i], "index": i, "rows": own})
        every = [row for part in self.run.gather(rows) for row in part]
        # All that the file lists is judged, also what nothing could be learned from: pycocotools does so, and figures
        # on the same file must be the same. What cannot be found costs recall; `check` and the run's note say so.
        figures, self.details = judge(source.raw, every, masks=source.masks)
        return figures


@dataclass
class Detect(DenseTask[DetectionSource, DetectedImage]):
    """One training and one validation source under a recipe, on this process."""

    evaluator: DetectionEvaluator = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        recipe = self.recipe
        self.masks = recipe.detection.detector not in WITHOUT_MASKS.values()
        self.val = replace(self.val, masks=self.val.masks and self.masks)
        wide = tuple(width >= height for width, height in self.train.sizes)
        group = min(recipe.micro_batch or recipe.batch_size, recipe.batch_size)  # on any number of processes the same
        self.evaluator = DetectionEvaluator(self.val, self.preprocess, self.run, recipe.workers)
        self.order = ShapeOrder(len(wide), recipe.batch_size, recipe.seed, wide=wide, group=group)

    protocol = staticmethod(protocol)

    @property
    def described(self) -> dict[str, str]:
        """What a checkpoint's metadata says of the task."""
        return {"task": "detect", "category_ids": json.dumps(self.val.category_ids)}

    @property
    def metric(self) -> Metric:
        return Metric("box_ap")

    def batches(self, start: int, stop: int) -> Iterator[list[DetectionBatch]]:
        """This process's micro-batches of each step; same samples in the same order on any number of them."""
        transform = DetectionTransform(self.recipe.detection, self.preprocess, masks=self.masks)
        dataset = Augmented(self.train, transform, self.recipe.seed)
        return self.run.step_loader(self.order, collated, self._micro(), self.workers)(dataset, start, stop)

    def losses(self, model: nn.Module, batch: DetectionBatch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = model(batch.images, batch.targets)
        return found

    def _micro(self) -> int:
        share = -(-self.recipe.batch_size // self.run.world)
        return min(self.recipe.micro_batch or share, share)


def found_in(
    model: Detector,
    image: Tensor,
    size: tuple[int, int],
    run: Runtime,
    image_id: int,
    category_ids: Sequence[int],
    least_score: float = 0.0,
) -> list[ResultRow]:
    """COCO result rows of a picture (3, H, W) that had height and width `size` before it was resized, surest first."""
    with run.autocast():
        found = model([image], originals=[size], pasted=False)[0]
    kept = found["scores"] >= least_score  # before masks are pasted: those of a large picture take long
    found = {name: value[kept] for name, value in found.items()}
    return as_coco(found, image_id, category_ids, model.roi_head.masks(found, size) if model.masked else None)
