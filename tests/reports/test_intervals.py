"""Intervals of an evaluation hold what they should as often as they say."""

import numpy as np
import pytest
import torch

from convnext.classification.metrics import (
    ClassificationCounter,
    MultiLabelCounter,
    _of_class_mean,
    of_classifier,
    of_labels,
)
from convnext.reports import intervals
from convnext.segmentation.metrics import of_segmenter


def test_intervals_of_a_classifier_hold_the_truth() -> None:
    """600 evaluations of a classifier that is right in 60 and 90 % of two classes' 60 images."""
    rng = np.random.default_rng(0)
    held = {"top1": 0, "mean_class_accuracy": 0, "loss": 0}
    truth = {"top1": 75.0, "mean_class_accuracy": 75.0, "loss": -np.log(0.8) * 0.75 - np.log(0.2) * 0.25}
    for _ in range(600):
        targets = np.repeat([0, 1], 60)
        right = rng.random(120) < np.where(targets == 0, 0.6, 0.9)
        p = np.where(right, 0.8, 0.2)
        probabilities = np.stack([np.where(targets == 0, p, 1 - p), np.where(targets == 0, 1 - p, p)], 1)
        counter = ClassificationCounter(2)
        counter.update(torch.from_numpy(probabilities), torch.from_numpy(targets))
        found = of_classifier(counter, list(-np.log(p)))
        for name in held:
            held[name] += found[name][0] <= truth[name] <= found[name][1]
    assert all(0.93 <= count / 600 <= 0.99 for count in held.values()), held


def test_all_right_is_no_certainty() -> None:
    counter = ClassificationCounter(3)
    counter.update(torch.eye(3).repeat(12, 1), torch.arange(3).repeat(12))
    found = of_classifier(counter, [0.0] * 36)
    assert 85 < found["top1"][0] < found["top1"][1] == 100
    assert 80 < found["mean_class_accuracy"][0] < found["mean_class_accuracy"][1] == 100
    assert "loss" not in found  # of few pictures: one of them may decide it


@pytest.mark.parametrize(("classes", "each"), [(200, 1), (200, 2)])
def test_the_interval_of_a_mean_over_classes_of_one_picture_holds_the_truth(classes: int, each: int) -> None:
    rng = np.random.default_rng(0)
    truth = np.linspace(0.5, 0.95, classes)
    held = 0
    for _ in range(500):
        hits, support = rng.binomial(each, truth), np.full(classes, each)
        low, high = _of_class_mean(hits.astype(float), support.astype(float))
        held += low <= 100 * truth.mean() <= high
    assert 0.91 <= held / 500 <= 0.99


def test_intervals_of_f1_hold_the_truth_where_classes_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 pictures, 80 labels, the rarest in three: of draws anew the plain quantiles held it in 0.7 of the cases."""
    rng = np.random.default_rng(2)
    monkeypatch.setattr(intervals, "DRAWS", 200)
    share, found, wrong = np.geomspace(0.3, 0.003, 80), 0.7, 0.003
    truth = 100 * float(np.mean(2 * share * found / (share + share * found + (1 - share) * wrong)))
    held = 0
    for _ in range(40):
        there = rng.random((1000, 80)) < share
        said = np.where(there, rng.random((1000, 80)) < found, rng.random((1000, 80)) < wrong)
        counter = MultiLabelCounter(80)
        counter.update(torch.from_numpy(said.astype(float)), torch.from_numpy(there.astype(float)))
        low, high = of_labels(counter, (there & said).astype(int), there.astype(int) + said)["macro_f1"]
        held += low <= truth <= high
    assert held >= 34


def test_f1_and_iou_lie_within_their_intervals() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.random((50, 4)) < 0.4, rng.random((50, 4))
    counter = MultiLabelCounter(4)
    counter.update(torch.from_numpy(said), torch.from_numpy(truth))
    hits, seen = truth & (said >= 0.5), truth.astype(int) + (said >= 0.5)
    found, figures = of_labels(counter, hits.astype(int), seen), counter.result()
    assert set(found) == {"exact_match", "macro_f1", "micro_f1"}
    assert all(low < figures[name] < high for name, (low, high) in found.items())
    right = rng.integers(0, 50, (20, 3))
    there, predicted = right + rng.integers(0, 50, (20, 3)), right + rng.integers(0, 50, (20, 3))
    total = [part.sum(0) for part in (right, there, predicted)]
    miou = 100 * float((total[0] / (total[1] + total[2] - total[0])).mean())
    low, high = of_segmenter(right, there, predicted)["miou"]
    assert low < miou < high
    assert of_segmenter(right[:1], there[:1], predicted[:1]) == {}


def test_a_figure_that_can_be_nothing_else_is_no_line() -> None:
    for classes, shown in ((5, False), (6, True)):
        counter = ClassificationCounter(classes)
        counter.update(torch.eye(classes).repeat(6, 1), torch.arange(classes).repeat(6))
        ends = of_classifier(counter, [0.0] * 6 * classes)
        lines = intervals.as_lines(counter.result() | {"intervals": ends})
        assert "top5" in ends
        assert ("top5" in lines) is shown
        assert "top1" in lines


def test_people_see_the_intervals_beside_the_figures() -> None:
    result = {"top1": 90.0, "ece": 3.0, "count": 30, "intervals": {"top1": (74.4, 96.5)}, "classes": [{"class": "a"}]}
    assert intervals.as_lines(result).splitlines()[0] == f"{'top1':20}{90:10.4f}   95 % interval 74.4 to 96.5"
    assert intervals.flat(result) == {"top1": 90.0, "top1_low": 74.4, "top1_high": 96.5, "ece": 3.0, "count": 30}
    assert intervals.as_lines(result).splitlines()[-1] == pytest.approx(f"{'count':20}{30:10d}")
