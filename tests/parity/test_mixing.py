"""Mixup and CutMix against timm's Mixup in batch mode: given the same lambda and rectangle, the same batch."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from timm.data import mixup as timm_mixup

from convnext.classification.mixing import mix, random_box
from convnext.recipes.recipe import Augment

PAPER = Augment()
CENTRES = [(0, 0), (31, 23), (10, 20), (16, 0)]


class Scripted:
    """Stands in for the generator: CutMix or not, lambda, and the centre of the rectangle are given."""

    def __init__(self, cut: bool, lam: float, centre: tuple[int, int]) -> None:
        self.draws, self.lam, self.centre = iter((0.0, 0.0 if cut else 0.99)), lam, iter(centre)

    def random(self) -> float:
        return next(self.draws)

    def beta(self, a: float, b: float) -> float:
        return self.lam

    def integers(self, high: int) -> int:
        return next(self.centre)


def scripted(cut: bool, lam: float, centre: tuple[int, int]) -> np.random.Generator:
    return cast(np.random.Generator, Scripted(cut, lam, centre))


def both(
    cut: bool, lam: float, centre: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    images, targets = torch.randn(6, 3, 32, 24, generator=generator), torch.tensor([0, 1, 2, 3, 9, 9])
    top, bottom, left, right = random_box(32, 24, lam, scripted(cut, lam, centre))
    monkeypatch.setattr(timm_mixup, "rand_bbox", lambda shape, lam, count=None: (top, bottom, left, right))
    theirs = timm_mixup.Mixup(PAPER.mixup, PAPER.cutmix, label_smoothing=PAPER.smoothing, num_classes=10)
    monkeypatch.setattr(theirs, "_params_per_batch", lambda: (lam, cut))
    ours = mix(images, targets, 10, PAPER, scripted(cut, lam, centre))
    return ours, theirs(images.clone(), targets)


@pytest.mark.parametrize("lam", [0.0, 0.1, 0.37, 0.5, 0.93])
def test_mixup_equals_timm(lam: float, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = both(False, lam, (0, 0), monkeypatch)
    assert torch.equal(ours[0], theirs[0])
    assert torch.allclose(ours[1], theirs[1], rtol=0, atol=1e-7)


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("lam", [0.0, 0.1, 0.37, 0.5, 0.93])
def test_cutmix_equals_timm(lam: float, centre: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = both(True, lam, centre, monkeypatch)
    assert torch.equal(ours[0], theirs[0])
    assert torch.allclose(ours[1], theirs[1], rtol=0, atol=1e-7)


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("lam", [0.0, 0.2, 0.5, 0.75, 0.99])
def test_the_rectangle_is_timms_up_to_the_odd_pixel(
    lam: float, centre: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """timm 0.3.2 halves an odd side downwards at both ends, and so do we; newer ones keep that pixel at the far end."""
    ours = random_box(32, 24, lam, scripted(True, lam, centre))
    drawn = iter(centre)
    monkeypatch.setattr(np.random, "randint", lambda low, high, size=None: next(drawn))
    theirs = timm_mixup.rand_bbox((3, 32, 24), lam)
    odd = [int(side * np.sqrt(1 - lam)) % 2 for side in (32, 24)]
    for mine, other, spare in zip(ours, theirs, (0, odd[0], 0, odd[1]), strict=True):
        assert 0 <= int(other) - mine <= spare


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_of_multi_class_batches_equal_timm(smoothing: float) -> None:
    targets = torch.tensor([0, 3, 2, 1])
    augment = Augment(mixup=0.0, cutmix=0.0, smoothing=smoothing)
    ours = mix(torch.zeros(4, 3, 2, 2), targets, 7, augment, np.random.default_rng(0))[1]
    theirs = timm_mixup.mixup_target(targets, 7, 1.0, smoothing)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-7)
