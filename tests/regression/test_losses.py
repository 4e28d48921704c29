"""The loss is torch's own on the numbers that are there, in units of their spread."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convnext.regression.losses import regression_loss

OF_TORCH: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"huber": F.huber_loss, "l1": F.l1_loss, "mse": F.mse_loss}


@pytest.mark.parametrize("kind", OF_TORCH)
def test_it_is_torchs_of_standardised_numbers(kind: str) -> None:
    torch.manual_seed(0)
    predicted, true, spread = torch.randn(20, 3) * 9, torch.randn(20, 3) * 9, torch.tensor([1.0, 5.0, 0.1])
    torch.testing.assert_close(
        regression_loss(predicted, true, spread, kind, torch.ones(3)), OF_TORCH[kind](predicted / spread, true / spread)
    )


@pytest.mark.parametrize("kind", OF_TORCH)
def test_missing_numbers_count_for_nothing(kind: str) -> None:
    torch.manual_seed(0)
    true = torch.randn(20, 2)
    true[::3, 0] = torch.nan
    predicted = torch.randn(20, 2, requires_grad=True)
    there = ~true.isnan()
    loss = regression_loss(predicted, true, torch.ones(2), kind, there.float().mean(0))
    each = [OF_TORCH[kind](predicted[there[:, k], k], true[there[:, k], k]) for k in range(2)]
    torch.testing.assert_close(loss, torch.stack(each).mean())
    loss.backward()
    assert predicted.grad is not None
    assert bool((predicted.grad[::3, 0] == 0).all())
    assert bool(predicted.grad.isfinite().all())


def test_a_batch_without_a_number_teaches_nothing() -> None:
    predicted = torch.randn(4, 1, requires_grad=True)
    loss = regression_loss(predicted, torch.full((4, 1), torch.nan), torch.ones(1), "huber", torch.ones(1))
    loss.backward()
    assert float(loss.detach()) == 0
    assert predicted.grad is not None
    assert bool((predicted.grad == 0).all())


def test_a_batch_in_parts_teaches_what_the_whole_does() -> None:
    torch.manual_seed(0)
    predicted, true = torch.randn(8, 2), torch.randn(8, 2)
    true[:3, 1] = torch.nan
    present = torch.tensor([1.0, 0.8])
    whole = regression_loss(predicted, true, torch.ones(2), "huber", present)
    parts = [regression_loss(predicted[i : i + 4], true[i : i + 4], torch.ones(2), "huber", present) for i in (0, 4)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
