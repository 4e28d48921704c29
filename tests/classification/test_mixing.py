"""Mixup and CutMix: labels stay distributions, and pixels and labels agree on the share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from convnext.classification.mixing import kept_share, mix, random_box, smoothed_one_hot
from convnext.recipes.recipe import Augment

MIXUP, CUTMIX, OFF = Augment(cutmix=0.0), Augment(mixup=0.0), Augment(mixup=0.0, cutmix=0.0)


def batch(n: int = 6, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, 12, 10, generator=generator), torch.arange(n) % classes


@pytest.mark.parametrize("augment", [Augment(), MIXUP, CUTMIX, OFF])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_labels_are_distributions_and_the_input_stays(augment: Augment, n: int) -> None:
    images, targets = batch(n)
    before = images.clone()
    for seed in range(30):
        mixed, soft = mix(images, targets, 5, augment, np.random.default_rng(seed))
        assert mixed.shape == images.shape
        assert soft.shape == (n, 5)
        assert torch.allclose(soft.sum(1), torch.ones(n))
        assert (soft > 0).all()
    assert torch.equal(images, before)


def test_without_mixing_labels_are_smoothed_and_images_untouched() -> None:
    images, targets = batch()
    mixed, soft = mix(images, targets, 5, OFF, np.random.default_rng(0))
    assert mixed is images
    assert torch.allclose(soft, 0.9 * torch.nn.functional.one_hot(targets, 5) + 0.02)
    assert torch.equal(smoothed_one_hot(targets, 5, 0.0), torch.nn.functional.one_hot(targets, 5).float())


def test_the_middle_of_an_odd_batch_meets_itself() -> None:
    images, targets = batch(5)
    for augment in (MIXUP, CUTMIX):
        mixed, soft = mix(images, targets, 5, augment, np.random.default_rng(3))
        assert torch.allclose(mixed[2], images[2])
        assert torch.allclose(soft[2], smoothed_one_hot(targets, 5, 0.1)[2])
        assert not torch.allclose(mixed[0], images[0])


def test_cutmix_labels_carry_the_share_of_pixels_that_was_kept() -> None:
    own = torch.zeros(2, 3, 17, 23)
    own[1] = 1.0
    shares = set()
    for seed in range(100):
        mixed, soft = mix(own, torch.tensor([0, 1]), 2, replace(CUTMIX, smoothing=0.0), np.random.default_rng(seed))
        share = float(1 - mixed[0].mean())
        assert set(mixed.unique().tolist()) <= {0.0, 1.0}
        assert soft[0].tolist() == pytest.approx([share, 1 - share], abs=1e-6)
        assert soft[1].tolist() == pytest.approx([1 - share, share], abs=1e-6)
        shares.add(round(share, 3))
    assert len(shares) > 50


def test_mixup_labels_carry_the_weight_of_the_images() -> None:
    own = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    for seed in range(20):
        mixed, soft = mix(own, torch.tensor([0, 1]), 2, replace(MIXUP, smoothing=0.0), np.random.default_rng(seed))
        assert soft[0, 1] == pytest.approx(float(mixed[0].mean()), abs=1e-6)


def test_multi_hot_labels_are_mixed_but_not_smoothed() -> None:
    images = batch(2)[0]
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    assert torch.equal(mix(images, labels, 3, OFF, np.random.default_rng(0))[1], labels)
    soft = mix(images, labels, 3, MIXUP, np.random.default_rng(0))[1]
    assert soft[:, 1].tolist() == pytest.approx([1.0, 1.0])
    assert soft[:, 2].tolist() == [0.0, 0.0]
    assert 0 < soft[0, 0] < 1
    assert float(soft[0, 0] + soft[1, 0]) == pytest.approx(1.0)


def kind(augment: Augment, seed: int) -> str:
    own = torch.stack([torch.zeros(3, 64, 64), torch.ones(3, 64, 64)])
    values = mix(own, torch.tensor([0, 1]), 2, augment, np.random.default_rng(seed))[0][0].unique()
    if len(values) == 2:
        return "cutmix"
    return "mixup" if 0 < values[0] < 1 else "none"


def test_batches_are_mixed_and_switched_as_often_as_asked() -> None:
    augment = Augment(mix_prob=0.8, switch_prob=0.25, mixup=5.0, cutmix=5.0)  # far from lambda 0 and 1
    kinds = [kind(augment, seed) for seed in range(1000)]
    assert kinds.count("none") / 1000 == pytest.approx(0.2, abs=0.04)
    assert kinds.count("cutmix") / 1000 == pytest.approx(0.2, abs=0.04)
    assert kinds.count("mixup") / 1000 == pytest.approx(0.6, abs=0.04)


def test_lambda_follows_its_beta_distribution() -> None:
    own = torch.stack([torch.zeros(3, 1, 1), torch.ones(3, 1, 1)])
    labels = torch.tensor([0, 1])
    bare = replace(MIXUP, smoothing=0.0)
    lams = [float(mix(own, labels, 2, bare, np.random.default_rng(seed))[1][0, 0]) for seed in range(3000)]
    assert np.mean(lams) == pytest.approx(0.5, abs=0.02)
    assert np.var(lams) == pytest.approx(1 / (4 * (2 * 0.8 + 1)), abs=0.006)  # variance of Beta(a, a)


def test_a_box_stays_inside_and_its_share_is_counted_after_clipping() -> None:
    generator = np.random.default_rng(0)
    for lam in np.linspace(0, 1, 200):
        top, bottom, left, right = box = random_box(15, 20, float(lam), generator)
        assert 0 <= top <= bottom <= 15
        assert 0 <= left <= right <= 20
        kept = np.ones((15, 20))
        kept[top:bottom, left:right] = 0
        assert kept_share(box, 15, 20) == pytest.approx(kept.mean())
    assert kept_share(random_box(15, 20, 1.0, generator), 15, 20) == 1
