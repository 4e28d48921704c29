"""Classification: batches with augmentation and mixing, the loss, exact evaluation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..data import Batch
from ..data.loader import Augmented, Collate, Order, Plain, load
from ..data.preprocess import Preprocess
from ..data.source import Source
from ..recipes.progressive import training_size
from ..recipes.recipe import Recipe
from ..training import Sink
from ..training.runtime import Runtime, default_workers, out_of_memory
from .losses import balanced_class_weights, binary_cross_entropy, soft_cross_entropy
from .metrics import ClassificationCounter, MultiLabelCounter
from .mixing import mix, unsmoothed
from .transforms import TrainTransform

LEAST_EVALUATED, MOST_EVALUATED = 32, 256  # images of an evaluation batch; without gradients, twice as many fit
EVALUATED_ALONE = 512  # images that one process prepares for an evaluation


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


@dataclass
class Classify:
    """One training and one validation source under a recipe, on this process."""

    train: Source
    val: Source
    recipe: Recipe
    preprocess: Preprocess
    run: Runtime
    eval_batch: int | None = None  # None: the recipe's
    views: Callable[..., Tensor] | None = None  # image -> (V, 3, S, S); None: the one view of the protocol
    views_each: int = 1
    order: Order = field(init=False)
    counter: Any = field(init=False, default=None)  # of the last evaluation

    def __post_init__(self) -> None:
        self.train, self.val = (one.within(self.preprocess.levels) for one in (self.train, self.val))
        self.num_classes = len(self.val.classes)
        self.multi_label = bool(self.val.multi_label)
        self.groups = list(self.val.groups)
        recipe = self.recipe
        self.order = Order(len(self.train), recipe.batch_size, recipe.seed, self._sample_weights())
        self.collate = Collate(self.num_classes, self.multi_label)
        share = -(-recipe.batch_size // self.run.world)
        derived = min(MOST_EVALUATED, max(LEAST_EVALUATED, 2 * min(recipe.micro_batch or share, share)))
        self.eval_batch_size = max(1, (self.eval_batch or recipe.eval_batch or derived) // self.views_each)
        self.workers = default_workers(self.run.device) if recipe.workers is None else recipe.workers
        self.class_weights = self._class_weights()

    def under(self, recipe: Recipe) -> Classify:
        """The same pictures under another recipe, shown at its size."""
        preprocess = replace(Preprocess.for_size(recipe.image_size), levels=self.preprocess.levels)
        return replace(self, recipe=recipe, preprocess=preprocess)

    @property
    def described(self) -> dict[str, str]:
        """What a checkpoint's metadata says of the task."""
        groups = {"groups": json.dumps(self.groups)} if self.groups else {}
        return {"task": "multi_label" if self.multi_label else "classify"} | groups

    @property
    def metric(self) -> tuple[str, Literal["max", "min"]]:
        return ("macro_f1" if self.multi_label else "top1"), "max"

    @property
    def steps_per_epoch(self) -> int:
        return self.order.steps_per_epoch

    def batches(self, start: int, stop: int) -> Iterator[list[DeferredMix]]:
        """This process's micro-batches of each step; same samples in the same order on any number of processes."""
        micro = self.recipe.micro_batch or self.recipe.batch_size
        dataset = Augmented(self.train, self.transform_of, self.recipe.seed)
        steps = self.run.step_loader(self.order, self.collate, micro, self.workers)(dataset, start, stop)
        for step, parts in enumerate(steps, start):
            yield [DeferredMix(batch, partial(self._mixed, step, i)) for i, batch in enumerate(parts)]

    def transform_of(self, epoch: int) -> TrainTransform:
        """The training transform of an epoch: with `progressive`, early epochs see smaller pictures."""
        recipe, size = self.recipe, self.recipe.image_size
        if recipe.steps is not None and recipe.progressive < 1:
            # By the epoch's end, so that the last one has the full size however short the run is.
            size = training_size(recipe, (epoch + 1) * self.steps_per_epoch / recipe.steps)
        return TrainTransform(recipe.augment, size, self.preprocess.mean, self.preprocess.std)

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

    @torch.inference_mode()
    def evaluate(self, model: nn.Module, sink: Sink | None = None) -> dict[str, float]:
        """Percentages over the validation set; every image counts once, on whatever process it lands."""
        counter = self.make_counter()
        for batch in self._eval_batches():
            batch = batch.to(self.run.device, channels_last=self.recipe.channels_last and self.views is None)
            probabilities = self._in_parts(model, batch.images).cpu()
            counter.update(probabilities, batch.targets.cpu())
            if sink is not None:
                for i, name in enumerate(batch.ids):
                    sink({"id": name, "target": batch.targets[i].tolist(), "probabilities": probabilities[i].numpy()})
        counter.load(self.run.all_reduce_sum(counter.state()).cpu())
        self.counter = counter
        return counter.result()

    def probabilities(self, model: nn.Module, images: Tensor) -> Tensor:
        """(N, 3, S, S) or (N, V, 3, S, S) -> (N, K); views of one image are averaged."""
        shape = images.shape[:-3]
        with self.run.autocast():
            logits = model(images.flatten(0, -4)).float()
        values = class_probabilities(logits, several=self.multi_label, groups=self.groups)
        return values.unflatten(0, shape).flatten(1, -2).mean(1) if len(shape) > 1 else values

    def _in_parts(self, model: nn.Module, images: Tensor) -> Tensor:
        """`probabilities` of a batch, in halves from then on where memory does not suffice for the whole."""
        if len(images) <= self.eval_batch_size:
            try:
                return self.probabilities(model, images)
            except RuntimeError as error:
                if not out_of_memory(error) or len(images) == 1:
                    raise
                self.eval_batch_size = len(images) // 2
        return torch.cat([self._in_parts(model, part) for part in images.split(self.eval_batch_size)])

    def make_counter(self) -> Any:
        return MultiLabelCounter(self.num_classes) if self.multi_label else ClassificationCounter(self.num_classes)

    def _eval_batches(self) -> Iterator[Batch]:
        mine = list(range(self.run.rank, len(self.val), self.run.world))
        size = self.eval_batch_size
        chunks = [mine[i : i + size] for i in range(0, len(mine), size)]
        transform = self.views or self.preprocess
        # Of few images the processes would take longer to start than to prepare them.
        workers = min(self.workers, len(chunks)) if len(mine) * self.views_each > EVALUATED_ALONE else 0
        return load(Plain(self.val, transform), chunks, self.collate, workers)

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

    def _sample_weights(self) -> tuple[float, ...] | None:
        if self.recipe.sampling == "shuffle":
            return None
        inverse = 1 / np.maximum(self._counts(), 1)
        labels = self.train.labels
        if not self.multi_label:
            return tuple(inverse[np.asarray(labels)].tolist())
        return tuple(float(max(inverse[list(cast(tuple[int, ...], row))], default=0.0)) for row in labels)
