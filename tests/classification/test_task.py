"""Classification as the loop sees it: growing pictures, class balance, and counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from fixture_types import MakePictures
from torch import Tensor, nn

from convnext.classification import data as sources
from convnext.classification.mixing import smoothed_one_hot
from convnext.classification.task import ClassifiedImage, Classify, class_probabilities
from convnext.data.preprocess import Preprocess
from convnext.data.source import Source
from convnext.data.splits import Splits
from convnext.recipes.progressive import GROWN_AT, mean_area, training_size
from convnext.recipes.recipe import Recipe, override
from convnext.training.runtime import Runtime

CPU = Runtime(torch.device("cpu"))


@pytest.mark.parametrize("full", [8, 32, 112, 224])
@pytest.mark.parametrize("share", [0.3, 0.57, 1.0])
def test_pictures_grow_to_their_full_size_and_never_shrink(full: int, share: float) -> None:
    recipe = override(Recipe(), {"image_size": full, "progressive": share})
    sizes = [training_size(recipe, i / 100) for i in range(101)]
    assert sizes == sorted(sizes)
    assert all(size == full for i, size in enumerate(sizes) if i / 100 >= GROWN_AT)
    assert sizes[0] == pytest.approx(share * full, abs=max(8, full / 8))
    assert mean_area(recipe, 100) == pytest.approx(sum((s / full) ** 2 for s in sizes) / 101, abs=0.03)


def test_without_growth_every_step_costs_the_same() -> None:
    assert mean_area(Recipe(), 10) == 1.0


def test_even_one_epoch_ends_at_the_full_size() -> None:
    assert mean_area(override(Recipe(), {"progressive": 0.5}), 1) == 1.0


def test_the_batches_grow_with_the_epochs(pictures: MakePictures, tiny: dict[str, Any]) -> None:
    splits = sources.open_data(pictures(size=32))
    recipe = override(Recipe(), {**tiny, "image_size": 32, "progressive": 0.5, "steps": 12})
    task = Classify(splits.train, splits.val, recipe, Preprocess.for_size(32), CPU)
    sides = [batch.to(CPU.device).images.shape[-1] for (batch,) in task.batches(0, 12)]
    assert sides[0] == 20  # a quarter of the way from 16 to 32, in steps of 4
    assert sides[-1] == 32
    assert sides == sorted(sides)


def test_balanced_sampling_shows_each_class_as_often(pictures: MakePictures, tiny: dict[str, Any]) -> None:
    data = pictures(train=40, classes=2)
    for extra in sorted((data / "train" / "class 0").iterdir())[4:]:
        extra.unlink()
    splits = sources.open_data(data)
    recipe = override(
        Recipe(), {**tiny, "sampling": "balanced", "augment.mixup": 0, "augment.cutmix": 0, "augment.smoothing": 0}
    )
    task = Classify(splits.train, splits.val, recipe, Preprocess.for_size(16), CPU)
    seen = Counter(int(label) for (batch,) in task.batches(0, 60) for label in batch.to(CPU.device).targets.argmax(1))
    assert seen[0] / (seen[0] + seen[1]) == pytest.approx(0.5, abs=0.1)


class Answers(nn.Module):
    """One answer to every common picture, one to every rare one."""

    def __init__(self) -> None:
        super().__init__()
        self.logits, self.shown = nn.Parameter(torch.zeros(2, 2)), torch.zeros(0, dtype=torch.int64)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[self.shown]


def fifty_to_one(pictures: MakePictures) -> Splits[Source]:
    """Two classes, 50 pictures and 1."""
    data = pictures(train=100, classes=2)
    for extra in sorted((data / "train" / "class 1").iterdir())[1:]:
        extra.unlink()
    return sources.open_data(data)


@pytest.mark.parametrize("loss", ["softmax", "bce"])
@pytest.mark.parametrize("mixup", [0.0, 0.2])
def test_balanced_weights_do_not_make_the_rare_class_the_answer_for_common_pictures(
    loss: str, mixup: float, pictures: MakePictures, tiny: dict[str, Any]
) -> None:
    """With the weights on the smoothed labels, the best answer to every common picture was the rare class."""
    splits = fifty_to_one(pictures)
    settings = {**tiny, "class_weights": "balanced", "loss": loss, "augment.mixup": mixup, "augment.cutmix": 0}
    task = Classify(splits.train, splits.val, override(Recipe(), settings), Preprocess.for_size(16), CPU)
    answers = Answers()
    optimiser = torch.optim.Adam(answers.parameters(), lr=0.05)
    batches = [batch.to(CPU.device) for (batch,) in task.batches(0, 60)]
    for batch in batches * 5:
        answers.shown = batch.targets.argmax(1)
        task.losses(answers, batch)["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
    assert answers.logits.argmax(1).tolist() == [0, 1]


def test_a_samples_weight_is_that_of_the_classes_it_shows(pictures: MakePictures, tiny: dict[str, Any]) -> None:
    splits = fifty_to_one(pictures)
    settings = {**tiny, "class_weights": "balanced", "augment.smoothing": 0.1}
    task = Classify(splits.train, splits.val, override(Recipe(), settings), Preprocess.for_size(16), CPU)
    common, rare = 51 / 100, 51 / 2
    mixed = 0.7 * smoothed_one_hot(torch.tensor([0, 1]), 2, 0.1) + 0.3 * smoothed_one_hot(torch.tensor([1, 1]), 2, 0.1)
    found = task._weights(mixed)
    assert found is not None
    torch.testing.assert_close(found, torch.tensor([0.7 * common + 0.3 * rare, rare]))


def test_probabilities_of_one_label_add_up_and_those_of_several_stand_alone() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    assert float(class_probabilities(logits, several=False).sum()) == pytest.approx(1)
    torch.testing.assert_close(class_probabilities(logits, several=True), logits.sigmoid())


@pytest.mark.parametrize("batch", [1, 3, 256])
def test_every_validation_image_counts_once_whatever_the_batch(
    batch: int, pictures: MakePictures, tiny: dict[str, Any]
) -> None:
    splits = sources.open_data(pictures(val=7))
    task = Classify(
        splits.train, splits.val, override(Recipe(), tiny | {"eval_batch": batch}), Preprocess.for_size(16), CPU
    )
    rows: list[ClassifiedImage] = []
    result = task.evaluate(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 3)), rows.append)
    assert result["count"] == 7
    assert sorted(row["id"] for row in rows) == sorted(splits.val.ids)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"batch_size": 8}, 32),
        ({"batch_size": 64}, 128),
        ({"batch_size": 4096}, 256),
        ({"batch_size": 4096, "micro_batch": 24}, 48),
        ({"batch_size": 4096, "micro_batch": 24, "eval_batch": 7}, 7),
    ],
)
def test_an_evaluation_needs_no_more_memory_than_a_step(
    settings: dict[str, int], size: int, pictures: MakePictures
) -> None:
    splits = sources.open_data(pictures())
    task = Classify(splits.train, splits.val, override(Recipe(), settings), Preprocess.for_size(16), CPU)
    assert task.evaluator.batch == size
