"""The learning rate of every step, against the definition in recipes_precisely section 1 written out with numpy."""

from __future__ import annotations

import numpy as np
import pytest

from convnext.training.schedule import Cosine

SHAPES = [(100, 20), (100, 0), (100, 1), (100, 2), (50, 50), (50, 49), (1, 0), (1, 1), (2, 1), (937, 62)]


def written_out(base: float, total: int, warmup: int, floor: float) -> np.ndarray:
    """A straight line with both ends, then half a cosine over the steps that are left."""
    rest = np.arange(total - warmup)
    falling = floor + (base - floor) / 2 * (1 + np.cos(np.pi * rest / len(rest)))
    return np.concatenate([np.linspace(0, base, warmup), falling])


def rates(schedule: Cosine) -> np.ndarray:
    return np.array([schedule.at(step) for step in range(schedule.total)])


@pytest.mark.parametrize("floor", [1e-6, 0.0, 1e-4])
@pytest.mark.parametrize(("total", "warmup"), SHAPES)
def test_every_step_is_the_written_out_rate(total: int, warmup: int, floor: float) -> None:
    expected = written_out(4e-3, total, warmup, floor)
    assert expected.shape == (total,)
    np.testing.assert_allclose(rates(Cosine(4e-3, total, warmup, floor)), expected, rtol=1e-12, atol=1e-18)


def test_imagenet_from_scratch_is_the_papers_schedule() -> None:
    steps = 1_281_167 // 4096
    schedule = Cosine(4e-3, 300 * steps, 20 * steps)
    assert (schedule.total, schedule.warmup) == (93_600, 6_240)
    np.testing.assert_allclose(rates(schedule), written_out(4e-3, 93_600, 6_240, 1e-6), rtol=1e-11, atol=1e-18)


def test_the_first_warmup_step_stands_still_and_the_base_rate_comes_twice() -> None:
    schedule = Cosine(0.5, total=100, warmup=10)
    assert schedule.at(0) == 0
    assert schedule.at(9) == pytest.approx(0.5, rel=1e-15)
    assert schedule.at(10) == pytest.approx(0.5, rel=1e-15)
    assert schedule.at(11) < 0.5


def test_without_warmup_the_first_step_has_the_base_rate() -> None:
    assert Cosine(0.5, total=10).at(0) == pytest.approx(0.5, rel=1e-15)


def test_a_warmup_of_one_step_is_one_step_at_zero() -> None:
    schedule = Cosine(0.5, total=10, warmup=1)
    assert schedule.at(0) == 0
    assert schedule.at(1) == pytest.approx(0.5, rel=1e-15)


def test_a_run_that_is_all_warmup_only_rises_and_ends_at_the_base_rate() -> None:
    found = rates(Cosine(0.5, total=8, warmup=8))
    assert (np.diff(found) > 0).all()
    assert found[-1] == pytest.approx(0.5, rel=1e-15)


@pytest.mark.parametrize(("total", "warmup"), SHAPES)
def test_the_rate_rises_during_warmup_and_falls_afterwards(total: int, warmup: int) -> None:
    found = rates(Cosine(1.0, total, warmup))
    assert (np.diff(found[:warmup]) > 0).all()
    assert (np.diff(found[warmup:]) < 0).all()


@pytest.mark.parametrize("total", [10, 100, 10_000])
def test_the_floor_is_approached_but_not_reached(total: int) -> None:
    last = Cosine(1.0, total, floor=0.01).at(total - 1)
    assert last > 0.01
    assert last - 0.01 == pytest.approx(0.99 * (np.pi / total) ** 2 / 4, rel=0.02)


def test_halfway_down_the_rate_is_the_mean_of_base_and_floor() -> None:
    assert Cosine(1.0, total=120, warmup=20, floor=0.2).at(70) == pytest.approx(0.6)
