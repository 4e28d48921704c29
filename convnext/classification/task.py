"""Classification: batches with augmentation and mixing, the loss, exact evaluation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypedDict, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..data import Batch
from ..data.loader import Collate
from ..image_level.evaluator import ImageEvaluator
from ..image_level.task import ImageTask
from ..training import Metric, Sink
from .losses import balanced_class_weights, binary_cross_entropy, soft_cross_entropy
from .metrics import ClassificationCounter, MultiLabelCounter
from .mixing import mix, unsmoothed


def class_probabilities(logits: Tensor, *, several: bool, groups: Sequence[int] = ()) -> Tensor:
    """(N, K) logits -> (N, K) probabilities: each on its own where an image may carry `several` labels.

    Of classes in `groups` of so many, in which one is the answer, those of a group add up to 1.
    """
    if groups:
        return torch.cat([part.softmax(-1) for part in logits.split(list(groups), -1)], -1)
    return logits.sigmoid() if several else logits.softmax(-1)


@dataclass(frozen=True)
class DeferredMix:
    """A batch that is mixed where it is moved to: a GPU does at once what the host would hold it up with."""

    batch: Batch
    mix: Callable[[Batch], Batch]

    @property
    def ids(self) -> tuple[str, ...]:
        return self.batch.ids

    def to(self, device: torch.device, *, channels_last: bool = False) -> Batch:
        return self.mix(self.batch.to(device, channels_last=channels_last))


class ClassifiedImage(TypedDict):
    """What an evaluation found in one picture: (K,) probabilities beside its class, or a mark for each label."""

    id: str
    target: int | list[float]
    probabilities: np.ndarray


@dataclass
class ClassificationEvaluator(ImageEvaluator):
    """Judges a classifier on labelled pictures."""

    counter: ClassificationCounter | MultiLabelCounter = field(init=False)  # of the last evaluation

    def __post_init__(self) -> None:
        super().__post_init__()
        self.num_classes, self.multi_label = len(self.source.classes), bool(self.source.multi_label)
        self.counter = self._new_counter()

    @property
    def collate(self) -> Collate:
        return Collate(self.num_classes, self.multi_label)

    @torch.inference_mode()
    def evaluate(self, model: nn.Module, sink: Sink[ClassifiedImage] | None = None) -> dict[str, float]:
        """Percentages over all pictures; each counts once, on whatever process it lands."""
        counter = self._new_counter()
        for batch, probabilities in self.answered(model):
            counter.update(probabilities, targets := batch.targets.cpu())
            if sink is not None:
                for i, name in enumerate(batch.ids):
                    sink({"id": name, "target": targets[i].tolist(), "probabilities": probabilities[i].numpy()})
        counter.load(self.run.all_reduce_sum(counter.state()).cpu())
        self.counter = counter
        return counter.result()

    def meaning(self, outputs: Tensor) -> Tensor:
        """(N, K) logits -> probabilities."""
        return class_probabilities(outputs, several=self.multi_label, groups=self.source.groups)

    def _new_counter(self) -> ClassificationCounter | MultiLabelCounter:
        return MultiLabelCounter(self.num_classes) if self.multi_label else ClassificationCounter(self.num_classes)


@dataclass
class Classify(ImageTask):
    """One training and one validation source under a recipe, on this process."""

    evaluator: ClassificationEvaluator = field(init=False)

    def __post_init__(self) -> None:
        self.num_classes = len(self.val.classes)
        self.multi_label = bool(self.val.multi_label)
        self.groups = list(self.val.groups)
        super().__post_init__()
        self.evaluator = ClassificationEvaluator.under(self.recipe, self.val, self.preprocess, self.run)
        self.class_weights = self._class_weights()

    @property
    def collate(self) -> Collate:
        return Collate(self.num_classes, self.multi_label)

    @property
    def described(self) -> dict[str, str]:
        """What a checkpoint's metadata says of the task."""
        groups = {"groups": json.dumps(self.groups)} if self.groups else {}
        return {"task": "multi_label" if self.multi_label else "classify"} | groups

    @property
    def metric(self) -> Metric:
        return Metric("macro_f1" if self.multi_label else "top1")

    def batches(self, start: int, stop: int) -> Iterator[list[DeferredMix]]:
        """The micro-batches of each step, to be mixed."""
        for step, parts in enumerate(self.micro_batches(start, stop), start):
            yield [DeferredMix(batch, partial(self._mixed, step, i)) for i, batch in enumerate(parts)]

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits = model(batch.images).float()
        weights = self._weights(batch.targets)
        if self.groups and self.recipe.loss == "softmax":
            pairs = zip(logits.split(self.groups, -1), batch.targets.split(self.groups, -1), strict=True)
            return {f"loss_{i}": soft_cross_entropy(part, targets) for i, (part, targets) in enumerate(pairs)}
        if self.recipe.loss == "softmax":
            return {"loss": soft_cross_entropy(logits, batch.targets, weights)}
        if weights is not None and not self.multi_label:
            weights = weights[:, None]
        return {"loss": binary_cross_entropy(logits, batch.targets, weights)}

    def _weights(self, targets: Tensor) -> Tensor | None:
        """Of (N, K) soft labels: (N,) weights of the samples, or with several labels an image (K,) of the classes.

        A sample's weight is that of the classes it shows; what smoothing adds to its label does not count.
        """
        if self.class_weights is None or self.multi_label:
            return self.class_weights
        return unsmoothed(targets, self.recipe.augment.smoothing) @ self.class_weights

    def evaluate(self, model: nn.Module, sink: Sink[ClassifiedImage] | None = None) -> dict[str, float]:
        """The evaluator's figures."""
        return self.evaluator.evaluate(model, sink)

    def _mixed(self, step: int, part: int, batch: Batch) -> Batch:
        rng = np.random.default_rng((self.recipe.seed, step, self.run.rank, part, 1))
        images, targets = mix(batch.images, batch.targets, self.num_classes, self.recipe.augment, rng)
        return Batch(images, targets, batch.ids)

    def _counts(self) -> np.ndarray:
        labels = self.train.labels
        flat = [c for row in labels for c in cast(tuple[int, ...], row)] if self.multi_label else labels
        counts = Counter(flat)
        return np.array([counts.get(c, 0) for c in range(self.num_classes)])

    def _class_weights(self) -> Tensor | None:
        """(K,) on the device, copied there once."""
        if self.recipe.class_weights != "balanced":
            return None
        return balanced_class_weights(self._counts()).to(self.run.device)

    def sample_weights(self) -> tuple[float, ...] | None:
        if self.recipe.sampling == "shuffle":
            return None
        inverse = 1 / np.maximum(self._counts(), 1)
        labels = self.train.labels
        if not self.multi_label:
            return tuple(inverse[np.asarray(labels)].tolist())
        return tuple(float(max(inverse[list(cast(tuple[int, ...], row))], default=0.0)) for row in labels)
