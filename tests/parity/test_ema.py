"""The average of the weights against timm's two, and that looking at it leaves the weights alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from timm.utils import ModelEma, ModelEmaV3
from torch import Tensor, nn

from convnext.training.state import TrainState
from convnext.weights.backbone import create_model

DECAYS = [0.5, 0.9, 0.9999]
UPDATES = 5


def with_batch_norm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))


def convnext() -> nn.Module:
    return create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(4, 4, 4, 4), patch_size=1, num_classes=2)


def learnt(build: Callable[[], nn.Module]) -> tuple[nn.Module, Iterator[None]]:
    """A network and its training, one step for each item; the weights move a lot."""
    torch.manual_seed(0)
    model = build()
    generator = torch.Generator().manual_seed(1)
    model(torch.randn(4, 3, 8, 8, generator=generator))

    def steps() -> Iterator[None]:
        optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(UPDATES):
            optimiser.zero_grad()
            model(torch.randn(4, 3, 8, 8, generator=generator) + 1).square().mean().backward()
            optimiser.step()
            yield

    return model, steps()


def state_of(model: nn.Module) -> TrainState:
    return TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1))


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("build", [convnext, with_batch_norm])
def test_the_average_is_bit_equal_to_timms_v3(build: Callable[[], nn.Module], decay: float) -> None:
    model, steps = learnt(build)
    state, theirs = state_of(model), ModelEmaV3(model, decay=decay)
    state.start_average()
    for _ in steps:
        state.update_average(decay)
        theirs.update(model)
    assert state.ema is not None
    assert_same_bits(state.ema, theirs.module.state_dict())


@pytest.mark.parametrize("decay", DECAYS)
def test_the_average_equals_timms_first_up_to_rounding(decay: float) -> None:
    """The official code uses this one; it multiplies and adds where newer ones interpolate."""
    model, steps = learnt(convnext)
    state, theirs = state_of(model), ModelEma(model, decay=decay)
    state.start_average()
    for _ in steps:
        state.update_average(decay)
        theirs.update(model)
    assert state.ema is not None
    for name, value in theirs.ema.state_dict().items():
        torch.testing.assert_close(state.ema[name], value, rtol=1e-6, atol=1e-7)


def test_running_statistics_are_averaged_and_their_count_is_copied() -> None:
    model, steps = learnt(with_batch_norm)
    state = state_of(model)
    state.start_average()
    assert state.ema is not None
    before, means = state.ema["1.running_mean"].clone(), []
    for _ in steps:
        state.update_average(0.9)
        means.append(model.state_dict()["1.running_mean"].clone())
    for mean in means:
        before = 0.9 * before + 0.1 * mean
    torch.testing.assert_close(state.ema["1.running_mean"], before, rtol=1e-6, atol=1e-7)
    assert state.ema["1.num_batches_tracked"].dtype == torch.int64
    assert state.ema["1.num_batches_tracked"].item() == UPDATES + 1  # one batch to size the network


def test_the_average_starts_as_the_weights_and_is_a_copy_of_them() -> None:
    model, steps = learnt(convnext)
    state = state_of(model)
    state.start_average()
    start = copy_of(model)
    next(steps)
    assert state.ema is not None
    assert_same_bits(state.ema, start)
    assert not torch.equal(model.state_dict()["head.weight"], start["head.weight"])


@pytest.mark.parametrize("build", [convnext, with_batch_norm])
def test_the_averaged_model_holds_the_average_and_gives_the_weights_back(build: Callable[[], nn.Module]) -> None:
    model, steps = learnt(build)
    state = state_of(model)
    state.start_average()
    for _ in steps:
        state.update_average(0.9)
    assert state.ema is not None
    raw, average = copy_of(model), {name: value.clone() for name, value in state.ema.items()}
    with state.averaged() as inside:
        assert inside is model
        assert_same_bits(copy_of(inside), average)
    assert_same_bits(copy_of(model), raw)
    assert_same_bits(state.ema, average)


def test_the_weights_come_back_when_the_evaluation_fails() -> None:
    model, steps = learnt(convnext)
    state = state_of(model)
    state.start_average()
    next(steps)
    state.update_average(0.5)
    raw = copy_of(model)
    with pytest.raises(RuntimeError, match="out of luck"), state.averaged():
        raise RuntimeError("out of luck")
    assert_same_bits(copy_of(model), raw)


def test_training_goes_on_from_the_raw_weights_after_an_evaluation_of_the_average() -> None:
    """The optimiser still holds the parameters that the model has: nothing was replaced, only filled."""
    (one, one_steps), (two, two_steps) = learnt(convnext), learnt(convnext)
    state = state_of(two)
    state.start_average()
    for _ in zip(one_steps, two_steps, strict=True):
        state.update_average(0.9)
        with state.averaged():
            pass
    assert_same_bits(copy_of(one), copy_of(two))


def test_a_run_without_average_has_none_to_show() -> None:
    state = state_of(convnext())
    state.update_average(0.9)
    assert state.ema is None
    with pytest.raises(ValueError, match="no average"), state.averaged():
        pass


def test_weights_are_the_raw_ones_where_there_is_no_average() -> None:
    model, steps = learnt(convnext)
    state = state_of(model)
    assert_same_bits(state.weights("ema"), copy_of(model))
    state.start_average()
    next(steps)
    state.update_average(0.9)
    assert state.ema is not None
    assert_same_bits(state.weights("ema"), state.ema)
    assert_same_bits(state.weights("raw"), copy_of(model))
