"""Counters add up exactly and agree with scikit-learn and with cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor

from convnext.classification import metrics
from convnext.classification.metrics import ClassificationCounter, MultiLabelCounter
from convnext.system.shares import accuracy_interval


def random_case(images: int = 200, classes: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(0, classes, (images,), generator=generator)
    logits = torch.randn(images, classes, generator=generator)
    logits[torch.arange(images), targets] += 1.0
    return logits.softmax(-1), targets


def counted(probabilities: Tensor, targets: Tensor, **options: tuple[int, ...]) -> ClassificationCounter:
    counter = ClassificationCounter(probabilities.shape[1], **options)
    counter.update(probabilities, targets)
    return counter


def test_classification_equals_scikit_learn() -> None:
    probabilities, targets = random_case()
    counter = counted(probabilities, targets)
    result, p, t = counter.result(), probabilities.double().numpy(), targets.numpy()
    labels = list(range(7))
    assert result["top1"] == pytest.approx(100 * sk.accuracy_score(t, p.argmax(1)))
    assert result["top5"] == pytest.approx(100 * sk.top_k_accuracy_score(t, p, k=5, labels=labels))
    assert result["mean_class_accuracy"] == pytest.approx(100 * sk.balanced_accuracy_score(t, p.argmax(1)))
    assert result["loss"] == pytest.approx(sk.log_loss(t, p / p.sum(1, keepdims=True), labels=labels), rel=1e-6)
    assert result["count"] == 200
    assert counter.confusion is not None
    np.testing.assert_array_equal(counter.confusion.numpy(), sk.confusion_matrix(t, p.argmax(1)))


def test_per_class_equals_scikit_learn() -> None:
    probabilities, targets = random_case()
    confusion = counted(probabilities, targets).confusion
    assert confusion is not None
    rows = metrics.per_class(confusion.numpy())
    precision, recall, f1, support = sk.precision_recall_fscore_support(targets, probabilities.argmax(1))
    for i, row in enumerate(rows):
        assert row["support"] == support[i]
        shares = [row["precision"], row["recall"], row["f1"]]
        assert shares == pytest.approx([100 * precision[i], 100 * recall[i], 100 * f1[i]])


def test_calibration_by_hand() -> None:
    """Two bins: four images at confidence 0.9 with three right, two at 0.65 with one right."""
    p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.65, 0.35], [0.35, 0.65]])
    counter = counted(p, torch.tensor([0, 0, 1, 0, 0, 0]))
    assert counter.result()["ece"] == pytest.approx(100 * (4 / 6 * abs(0.9 - 0.75) + 2 / 6 * abs(0.65 - 0.5)))
    filled = counter.bins[0].nonzero().flatten().tolist()
    assert filled == [9, 13]
    assert counter.bins[:, 13].tolist() == pytest.approx([4, 3.6, 3])


def test_calibration_bins_cover_both_ends() -> None:
    confidence, correct = torch.tensor([0.0, 1.0, 1 / 15, 1 / 15 + 1e-3]), torch.tensor([False, True, False, False])
    bins = metrics.calibration(confidence, correct)
    assert bins[0].tolist() == [2, 1, *[0] * 12, 1]
    assert metrics.calibration_error(bins) == pytest.approx(100 * (1 / 15 + 1 / 15 + 1e-3) / 4, rel=1e-4)


def test_halves_add_up_to_the_whole() -> None:
    """What a task does over processes: exact, also for halves of different size."""
    probabilities, targets = random_case()
    whole = counted(probabilities, targets)
    sums = counted(probabilities[:77], targets[:77]).state() + counted(probabilities[77:], targets[77:]).state()
    loaded = ClassificationCounter(7)
    loaded.load(sums)
    assert loaded.result() == pytest.approx(whole.result(), rel=1e-12)
    assert loaded.confusion is not None
    assert whole.confusion is not None
    assert torch.equal(loaded.confusion, whole.confusion)
    assert torch.equal(loaded.classes, whole.classes)


def test_loading_copies() -> None:
    """The vector that was loaded may be reused by its owner."""
    first = counted(*random_case())
    state, second = first.state(), ClassificationCounter(7)
    second.load(state)
    state.zero_()
    assert second.result() == first.result()


def test_top_k_is_bounded_by_the_number_of_classes() -> None:
    probabilities, targets = random_case(classes=3)
    assert counted(probabilities, targets).result()["top5"] == 100
    result = counted(probabilities, targets, top=(1, 2)).result()
    assert result["top2"] == pytest.approx(100 * sk.top_k_accuracy_score(targets, probabilities, k=2))


def test_absent_classes_do_not_lower_the_class_mean() -> None:
    p = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    assert counted(p, torch.tensor([0, 0])).result()["mean_class_accuracy"] == 50


def test_many_classes_keep_no_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, targets = random_case()
    full = counted(probabilities, targets).result()
    monkeypatch.setattr(metrics, "CONFUSION_UP_TO", 6)
    light = counted(probabilities, targets)
    assert light.confusion is None
    assert light.result() == full
    assert light.state().numel() == 3 * 7 + 45 + 3


def test_a_certain_mistake_has_a_finite_loss() -> None:
    assert 80 < counted(torch.tensor([[1.0, 0.0]]), torch.tensor([1])).result()["loss"] < 100


def test_diverged_probabilities_show_as_nan() -> None:
    result = counted(torch.full((2, 3), math.nan), torch.tensor([0, 1])).result()
    assert math.isnan(result["loss"])
    assert result["count"] == 2


@pytest.mark.parametrize("counter", [ClassificationCounter(3), MultiLabelCounter(3)])
def test_nothing_counted_is_zero(counter: ClassificationCounter | MultiLabelCounter) -> None:
    assert set(counter.result().values()) == {0}


def multi_label_case() -> tuple[Tensor, Tensor]:
    """60 images, 6 classes; the last class neither occurs nor is predicted."""
    generator = torch.Generator().manual_seed(1)
    targets = (torch.rand(60, 6, generator=generator) < 0.4).float()
    probabilities = (0.35 * targets + 0.65 * torch.rand(60, 6, generator=generator)).clamp(0.01, 0.99)
    targets[:, 5], probabilities[:, 5] = 0, 0.1
    return probabilities, targets


def test_multi_label_equals_scikit_learn() -> None:
    probabilities, targets = multi_label_case()
    counter = MultiLabelCounter(6)
    counter.update(probabilities, targets)
    result, t, p = counter.result(), targets.numpy(), (probabilities >= 0.5).numpy()
    assert result["macro_f1"] == pytest.approx(100 * sk.f1_score(t, p, average="macro", zero_division=np.nan))
    assert result["micro_f1"] == pytest.approx(100 * sk.f1_score(t, p, average="micro"))
    assert result["exact_match"] == pytest.approx(100 * sk.accuracy_score(t, p))
    assert result["hamming"] == pytest.approx(100 * sk.hamming_loss(t, p))
    assert result["loss"] == pytest.approx(sk.log_loss(t.ravel(), probabilities.double().numpy().ravel()), rel=1e-6)
    rows = metrics.class_rows(*counter.classes.numpy())
    assert [row["f1"] for row in rows] == pytest.approx(100 * sk.f1_score(t, p, average=None, zero_division=0))


def test_multi_label_halves_add_up() -> None:
    probabilities, targets = multi_label_case()
    states = []
    for part in (slice(0, 13), slice(13, 60)):
        counter = MultiLabelCounter(6)
        counter.update(probabilities[part], targets[part])
        states.append(counter.state())
    whole, loaded = MultiLabelCounter(6), MultiLabelCounter(6)
    whole.update(probabilities, targets)
    loaded.load(states[0] + states[1])
    assert loaded.result() == pytest.approx(whole.result(), rel=1e-12)
    assert torch.equal(loaded.classes, whole.classes)


def test_the_interval_is_that_of_other_programs() -> None:
    """scipy's own, Clopper and Pearson's; 0.025^(1/n) when all are right."""
    from scipy.stats import binomtest

    for hits, count in ((0, 36), (12, 36), (24, 36), (359, 360), (360, 360)):
        theirs = binomtest(hits, count).proportion_ci(method="exact")
        ours = accuracy_interval(hits, count)
        assert ours == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=1e-4)
    assert accuracy_interval(360, 360) == pytest.approx((98.98, 100), abs=0.01)


@pytest.mark.parametrize(("candidates", "alike"), [(1, 0.0), (30, 0.0), (30, 0.8), (120, 0.0), (120, 0.95)])
def test_the_interval_of_the_best_of_many_holds_the_truth(candidates: int, alike: float) -> None:
    """A thousand runs on noise, 36 images, three classes: evaluations that agree (`alike`) or not at all."""
    rng = np.random.default_rng(candidates)
    count, truth, runs = 36, 1 / 3, 1000
    shared = rng.random((runs, 1, count)) < truth
    own = rng.random((runs, candidates, count)) < truth
    right = np.where(rng.random((runs, candidates, count)) < alike, shared, own)
    bounds = [accuracy_interval(hits, count, choices=candidates) for hits in range(count + 1)]
    best = [bounds[hits] for hits in right.sum(2).max(1)]
    inside = np.mean([low <= 100 * truth <= high for low, high in best])
    assert inside >= 0.95
    if candidates > 1 and alike == 0:  # what the page showed before
        plain = [accuracy_interval(int(hits), count) for hits in right.sum(2).max(1)]
        assert np.mean([low <= 100 * truth for low, _ in plain]) < 0.8
