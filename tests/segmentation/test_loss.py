"""The loss of pixels: equal to interpolating all logits first, in values and gradients, whatever the bands."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convnext.segmentation import loss as pixel_loss
from convnext.segmentation.loss import pixel_cross_entropy

SIZES = [((2, 7, 5, 6), (17, 23)), ((1, 3, 4, 4), (4, 4)), ((2, 5, 9, 7), (5, 3)), ((1, 2, 1, 1), (6, 1))]


def straightforward(logits: Tensor, labels: Tensor) -> Tensor:
    whole = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
    return F.cross_entropy(whole, labels, ignore_index=-1, reduction="sum") / labels.numel()


@pytest.mark.parametrize("band", [1, 200, 2**20])
@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_it_equals_the_straightforward_way(
    shape: tuple[int, ...], size: tuple[int, int], band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pixel_loss.BAND_VALUES, "cpu", band)
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()
    labels = torch.randint(-1, shape[1], (shape[0], *size), generator=generator)
    ours, theirs = pixel_cross_entropy(logits, labels), straightforward(logits, labels)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(torch.autograd.grad(3 * ours, logits), torch.autograd.grad(3 * theirs, logits), strict=True):
        torch.testing.assert_close(a, b)


def test_autocast_and_layout_change_nothing() -> None:
    logits, labels = torch.randn(2, 5, 6, 6), torch.randint(0, 5, (2, 20, 20))
    plain = pixel_cross_entropy(logits, labels)
    with torch.autocast("cpu", torch.bfloat16):
        found = pixel_cross_entropy(logits.to(memory_format=torch.channels_last), labels)
    assert found.dtype == torch.float32
    assert torch.equal(found, plain)


def test_gradients_of_bf16_logits_are_bf16() -> None:
    logits = torch.randn(1, 5, 6, 6).bfloat16().requires_grad_()
    pixel_cross_entropy(logits, torch.randint(0, 5, (1, 20, 20))).backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.bfloat16


def test_without_gradients_none_is_made() -> None:
    with torch.no_grad():
        assert not pixel_cross_entropy(torch.randn(1, 5, 6, 6), torch.zeros(1, 9, 9, dtype=torch.long)).requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_finds_the_same() -> None:
    logits, labels = torch.randn(2, 150, 20, 20), torch.randint(-1, 150, (2, 80, 80))
    ours = pixel_cross_entropy(logits.cuda(), labels.cuda()).cpu()
    torch.testing.assert_close(ours, straightforward(logits, labels), rtol=1e-4, atol=1e-5)
