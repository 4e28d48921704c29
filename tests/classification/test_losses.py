"""Losses against torch's and timm's, by hand, and in reduced precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor

from convnext.classification.losses import balanced_class_weights, binary_cross_entropy, soft_cross_entropy
from convnext.classification.mixing import smoothed_one_hot

Loss = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(0)) * 4


@pytest.fixture
def soft() -> torch.Tensor:
    return torch.rand(8, 5, generator=torch.Generator().manual_seed(1)).softmax(-1)


CLASSES = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])


def test_soft_cross_entropy_equals_timm(logits: torch.Tensor, soft: torch.Tensor) -> None:
    assert torch.allclose(soft_cross_entropy(logits, soft), SoftTargetCrossEntropy()(logits, soft), rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothed_labels_equal_timms_label_smoothing(logits: torch.Tensor, smoothing: float) -> None:
    ours = soft_cross_entropy(logits, smoothed_one_hot(CLASSES, 5, smoothing))
    assert torch.allclose(ours, LabelSmoothingCrossEntropy(smoothing)(logits, CLASSES), rtol=1e-6)


def test_weights_by_class_equal_torchs(logits: torch.Tensor) -> None:
    weights = torch.tensor([0.5, 1.0, 2.0, 0.0, 1.5])
    ours = soft_cross_entropy(logits, smoothed_one_hot(CLASSES, 5, 0.0), weights[CLASSES])
    theirs = F.cross_entropy(logits, CLASSES, weight=weights, reduction="sum") / len(CLASSES)
    assert torch.allclose(ours, theirs, rtol=1e-6)


def test_weights_multiply_whole_samples(logits: torch.Tensor, soft: torch.Tensor) -> None:
    weights = torch.arange(8.0)
    each = torch.stack([soft_cross_entropy(logits[i : i + 1], soft[i : i + 1]) for i in range(8)])
    assert torch.allclose(soft_cross_entropy(logits, soft, weights), (each * weights).mean(), rtol=1e-6)


def test_even_logits_cost_the_logarithm_of_the_classes() -> None:
    assert soft_cross_entropy(torch.zeros(3, 7), smoothed_one_hot(torch.tensor([0, 1, 2]), 7, 0.1)).item() == (
        pytest.approx(math.log(7))
    )


def test_binary_cross_entropy_by_hand() -> None:
    logits, labels = torch.tensor([[0.0, 2.0]]), torch.tensor([[1, 0]])  # integer labels are fine
    first, second = math.log(2), math.log(1 + math.exp(2.0))
    assert binary_cross_entropy(logits, labels).item() == pytest.approx((first + second) / 2)
    weighted = binary_cross_entropy(logits, labels, torch.tensor([3.0, 1.0]))
    assert weighted.item() == pytest.approx((3 * first + second) / 2)


@pytest.mark.parametrize("loss", [soft_cross_entropy, binary_cross_entropy])
def test_bf16_logits_are_summed_in_fp32_with_and_without_autocast(loss: Loss, soft: torch.Tensor) -> None:
    logits = torch.randn(8, 5, generator=torch.Generator().manual_seed(2)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(logits, soft)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, loss(logits.float(), soft))
    assert torch.equal(inside, loss(logits, soft))


@pytest.mark.parametrize("loss", [soft_cross_entropy, binary_cross_entropy])
def test_extreme_logits_stay_finite(loss: Loss, soft: torch.Tensor) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0, 30.0, -30.0]]).expand(8, 5).clone().requires_grad_()
    value = loss(logits, soft)
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_balanced_weights_make_every_class_count_the_same() -> None:
    counts = torch.tensor([10, 40, 0, 50])
    weights = balanced_class_weights(counts.tolist())
    assert weights[2] == 0
    assert (weights * counts)[[0, 1, 3]].tolist() == pytest.approx([100 / 3] * 3)
    assert ((weights * counts).sum() / counts.sum()).item() == pytest.approx(1.0)


def test_equal_classes_weigh_one() -> None:
    assert balanced_class_weights([7, 7, 7]).tolist() == [1.0, 1.0, 1.0]
