"""Intervals of an evaluation hold what they should as often as they say."""

import numpy as np
import pytest
import torch

from convnext import intervals
from convnext.metrics import ClassificationCounter, MultiLabelCounter


def test_intervals_of_a_classifier_hold_the_truth() -> None:
    """600 evaluations of a classifier that is right in 60 and 90 % of two classes' images."""
    rng = np.random.default_rng(0)
    held = {"top1": 0, "mean_class_accuracy": 0, "loss": 0}
    truth = {"top1": 75.0, "mean_class_accuracy": 75.0, "loss": -np.log(0.8) * 0.75 - np.log(0.2) * 0.25}
    for _ in range(600):
        targets = np.repeat([0, 1], 40)
        right = rng.random(80) < np.where(targets == 0, 0.6, 0.9)
        p = np.where(right, 0.8, 0.2)
        probabilities = np.stack([np.where(targets == 0, p, 1 - p), np.where(targets == 0, 1 - p, p)], 1)
        counter = ClassificationCounter(2)
        counter.update(torch.from_numpy(probabilities), torch.from_numpy(targets))
        found = intervals.of_classifier(counter, list(-np.log(p)))
        for name in held:
            held[name] += found[name][0] <= truth[name] <= found[name][1]
    assert all(0.93 <= count / 600 <= 0.99 for count in held.values()), held


def test_all_right_is_no_certainty() -> None:
    counter = ClassificationCounter(3)
    counter.update(torch.eye(3).repeat(12, 1), torch.arange(3).repeat(12))
    found = intervals.of_classifier(counter, [0.0] * 36)
    assert 85 < found["top1"][0] < found["top1"][1] == 100
    assert 85 < found["mean_class_accuracy"][0] < found["mean_class_accuracy"][1] == 100


def test_f1_and_iou_lie_within_their_intervals() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.random((50, 4)) < 0.4, rng.random((50, 4))
    counter = MultiLabelCounter(4)
    counter.update(torch.from_numpy(said), torch.from_numpy(truth))
    hits, seen = truth & (said >= 0.5), truth.astype(int) + (said >= 0.5)
    found, figures = intervals.of_labels(counter, hits.astype(int), seen), counter.result()
    assert set(found) == {"exact_match", "macro_f1", "micro_f1"}
    assert all(low < figures[name] < high for name, (low, high) in found.items())
    right = rng.integers(0, 50, (20, 3))
    there, predicted = right + rng.integers(0, 50, (20, 3)), right + rng.integers(0, 50, (20, 3))
    total = [part.sum(0) for part in (right, there, predicted)]
    miou = 100 * float((total[0] / (total[1] + total[2] - total[0])).mean())
    low, high = intervals.of_segmenter(right, there, predicted)["miou"]
    assert low < miou < high
    assert intervals.of_segmenter(right[:1], there[:1], predicted[:1]) == {}


def test_people_see_the_intervals_beside_the_figures() -> None:
    result = {"top1": 90.0, "ece": 3.0, "count": 30, "intervals": {"top1": (74.4, 96.5)}, "classes": [{"class": "a"}]}
    assert intervals.as_lines(result).splitlines()[0] == f"{'top1':20}{90:10.4f}   95 % interval 74.4 to 96.5"
    assert intervals.flat(result) == {"top1": 90.0, "top1_low": 74.4, "top1_high": 96.5, "ece": 3.0, "count": 30}
    assert intervals.as_lines(result).splitlines()[-1] == pytest.approx(f"{'count':20}{30:10d}")
