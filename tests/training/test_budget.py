"""How many steps fit into the time and how many images into the memory; measuring leaves no trace."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convnext.data import Batch
from convnext.errors import UserError
from convnext.recipes.recipe import AdamW, Recipe
from convnext.training import Metric, Sink, budget
from convnext.training.budget import Around, Speed, evaluations, largest_micro_batch, measure, plan, steps_within
from convnext.training.runtime import Runtime

CPU = Runtime(torch.device("cpu"))
RECIPE = Recipe(batch_size=4, channels_last=False)
SPEEDS = [Speed(0.1, 2.0), Speed(0.01, 30.0), Speed(3.0, 0.5), Speed(0.25, 0.001)]
MINUTES = [0.5, 1.0, 7.0, 60.0]


def cost_s(steps: int, speed: Speed, recipe: Recipe, per_epoch: int) -> float:
    """Seconds of a run: its steps, and the evaluations that come every so often and at the end."""
    every = max(1, round(recipe.eval_every * per_epoch))
    return steps * speed.step_s + -(-steps // every) * (2 if recipe.ema else 1) * speed.evaluation_s


@pytest.mark.parametrize("ema", [None, 0.99])
@pytest.mark.parametrize("per_epoch", [3, 100, 5000])
@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("minutes", MINUTES)
def test_the_steps_fill_the_budget_up_to_one_evaluation(
    minutes: float, speed: Speed, per_epoch: int, ema: float | None
) -> None:
    recipe = replace(RECIPE, ema=ema)
    steps = steps_within(minutes, speed, recipe, per_epoch)
    slack = (2 if ema else 1) * speed.evaluation_s
    if steps > 1:
        assert cost_s(steps, speed, recipe, per_epoch) <= minutes * 60 + slack
    assert cost_s(steps + 1, speed, recipe, per_epoch) + slack >= 0.9 * minutes * 60


def test_the_last_evaluation_is_within_the_budget_too() -> None:
    speed, recipe = Speed(0.1, 10.0), replace(RECIPE, ema=0.99)
    recipe = replace(recipe, eval_every=evaluations(1, speed, recipe, per_epoch=1000))
    assert cost_s(steps_within(1, speed, recipe, 1000), speed, recipe, 1000) <= 60


def test_without_evaluations_the_steps_take_the_budget_less_a_margin() -> None:
    steps = steps_within(10, Speed(0.5, 0.0), RECIPE, per_epoch=100)
    assert steps * 0.5 == pytest.approx(600 * budget.MARGIN, rel=1e-3)
    assert budget.MARGIN < 1


def test_at_least_one_step_is_made() -> None:
    assert steps_within(0.001, Speed(60.0, 600.0), RECIPE, per_epoch=10) == 1


def test_cheaper_early_steps_make_room_for_more() -> None:
    speed = Speed(0.5, 0.0)
    full, half = (steps_within(10, speed, RECIPE, 100, relative_cost=cost) for cost in (1.0, 0.5))
    assert half == pytest.approx(2 * full, abs=1)


def test_an_average_is_evaluated_as_well_and_leaves_fewer_steps() -> None:
    speed = Speed(0.1, 5.0)
    alone, both = (steps_within(10, speed, replace(RECIPE, ema=ema), 100) for ema in (None, 0.9))
    assert alone / both == pytest.approx((0.1 + 2 * 0.05) / (0.1 + 0.05), rel=0.02)  # but for the last one


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("per_epoch", [3, 100, 5000])
@pytest.mark.parametrize("minutes", MINUTES)
def test_evaluations_come_at_most_once_an_epoch(minutes: float, speed: Speed, per_epoch: int) -> None:
    every = evaluations(minutes, speed, RECIPE, per_epoch)
    epochs = minutes * 60 / (speed.step_s * per_epoch)
    assert every > 0
    assert every >= min(1, round(epochs, 3))
    replace(RECIPE, eval_every=every)  # is a value that a recipe takes


@pytest.mark.parametrize(("epochs", "seconds"), [(100, 0.01), (100, 1.0), (100, 3.0), (14, 6.0), (2.9, 25.0)])
def test_evaluations_take_about_a_tenth_of_the_budget_at_most(epochs: float, seconds: float) -> None:
    """Ten minutes; "about": the number of epochs between them is rounded, and one evaluation is always made."""
    step_s = 600 / (epochs * 50)
    every = evaluations(10, Speed(step_s, seconds), RECIPE, per_epoch=50)
    assert epochs / every * seconds <= max(1.5 * budget.EVALUATION_SHARE * 600, seconds)


def test_evaluations_take_a_tenth_of_the_budget_at_most() -> None:
    """Fourteen epochs in ten minutes: fourteen evaluations of six seconds would be 84 of 600."""
    every = evaluations(10, Speed(600 / 700, 6.0), RECIPE, per_epoch=50)
    assert 14 / every * 6.0 <= budget.EVALUATION_SHARE * 600 + 6.0


def test_a_budget_of_very_few_steps_still_has_an_interval() -> None:
    replace(RECIPE, eval_every=evaluations(0.05, Speed(3.0, 0.5), RECIPE, per_epoch=5000))


def test_cheap_evaluations_come_every_epoch() -> None:
    assert evaluations(10, Speed(0.1, 0.001), RECIPE, per_epoch=60) == 1.0


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 16, 48, 63, 64, 1000])
def test_the_largest_halving_of_the_batch_that_fits_is_found(limit: int) -> None:
    tried = []

    def attempt(size: int) -> None:
        tried.append(size)
        if size > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    found = largest_micro_batch(replace(RECIPE, batch_size=64), attempt)
    assert found == max(size for size in (64, 32, 16, 8, 4, 2, 1) if size <= limit)
    assert tried == [64 >> i for i in range(len(tried))]
    assert tried[-1] == found


def test_an_odd_batch_is_halved_downwards() -> None:
    def attempt(size: int) -> None:
        if size > 5:
            raise torch.OutOfMemoryError

    assert largest_micro_batch(replace(RECIPE, batch_size=23), attempt) == 5


def test_when_not_even_one_image_fits_the_remedy_is_named() -> None:
    def attempt(size: int) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(UserError, match="224 pixels fits into memory; choose a smaller model or image size"):
        largest_micro_batch(RECIPE, attempt)


def test_lack_of_main_memory_counts_as_well() -> None:
    def attempt(size: int) -> None:
        torch.empty(1 << 50 if size > 1 else 1, dtype=torch.uint8)

    assert largest_micro_batch(RECIPE, attempt) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's files")
def test_on_a_cpu_the_batch_grows_as_far_as_memory_is_free() -> None:
    """In a process of its own, whose peak nothing has raised yet; the attempts use the memory that they ask for."""
    code = (
        "import torch\nfrom dataclasses import replace\nfrom convnext.recipes.recipe import Recipe\n"
        "from convnext.training.budget import largest_within\ntried = []\n"
        "def attempt(size):\n    tried.append(size)\n    torch.ones(size * 2**20 + 2**23)\n"  # 4 MB each, and 32
        "print(largest_within(Recipe(batch_size=100), attempt, 200 << 20), max(tried), "
        "largest_within(Recipe(batch_size=3), attempt, 1 << 40))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["25", "25", "3"], done.stderr


def test_any_other_failure_is_not_mistaken_for_lack_of_memory() -> None:
    def attempt(size: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        largest_micro_batch(RECIPE, attempt)


class Clock:
    """Time that passes only when told to."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


class FakeTask:
    """Steps of a second (the first ones ten), evaluations of five; every batch alike."""

    metric = Metric("top1")
    steps_per_epoch = 3

    def __init__(self, clock: Clock | None = None, parts: int = 1) -> None:
        self.clock, self.parts = clock or Clock(), parts
        self.steps = 0
        self.asked: list[tuple[int, int]] = []
        self.evaluated: list[bool] = []

    def batches(self, start: int, stop: int) -> Iterator[list[Batch]]:
        self.asked.append((start, stop))
        for step in range(start, stop):
            self.steps += 1
            self.clock.now += 10 if step < budget.WARM_STEPS else 1
            names = tuple(f"{step}-{i}" for i in range(4 // self.parts))
            generator = torch.Generator().manual_seed(step)
            yield [
                Batch(torch.randn(len(names), 3, 4, 4, generator=generator), torch.zeros(len(names)), names)
            ] * self.parts

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"loss": model(batch.images).square().mean()}

    def evaluate(self, model: nn.Module, sink: Sink[object] | None = None) -> dict[str, float]:
        self.evaluated.append(model.training)
        self.clock.now += 5
        return {"top1": 0.0}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


@pytest.mark.parametrize("parts", [1, 2])
def test_measured_is_the_mean_step_after_the_first_ones_and_one_evaluation(
    monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    clock = Clock()
    monkeypatch.setattr(budget, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    task = FakeTask(clock, parts)
    original = budget.step

    def slow_step(*arguments: Any) -> dict[str, Tensor]:
        clock.now += 2 if task.steps > budget.WARM_STEPS else 30
        return original(*arguments)

    monkeypatch.setattr(budget, "step", slow_step)
    speed = measure(task, network(), RECIPE, CPU, within_s=400, images=7)
    assert speed.evaluation_s == 5
    assert speed.step_s == 3  # waiting for the batch included; the first steps' 30 seconds do not count
    assert budget.WARM_STEPS < task.steps <= budget.WARM_STEPS + budget.MEASURE_STEPS


@pytest.mark.parametrize("ema", [None, 0.9])
def test_measuring_leaves_the_model_as_it_was(ema: float | None) -> None:
    model, task = network().eval(), FakeTask()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recipe = replace(RECIPE, ema=ema, optim=AdamW(lr=10.0))
    measure(task, model, recipe, CPU, within_s=0, images=7)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())  # running statistics too
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training
    assert task.evaluated == [False]  # the copy was set to evaluation
    assert task.asked[0][0] == 0


def test_a_task_of_fewer_steps_than_the_warm_ones_is_measured_all_the_same() -> None:
    class Short(FakeTask):
        def batches(self, start: int, stop: int) -> Iterator[list[Batch]]:
            return super().batches(start, min(stop, 2))

    speed = measure(Short(), network(), RECIPE, CPU, within_s=1, images=7)
    assert speed.step_s > 0


class Judged(FakeTask):
    """Evaluations of 100 pictures in batches of ten, a second each."""

    def evaluate(self, model: nn.Module, sink: Sink[object] | None = None) -> dict[str, float]:
        assert sink is not None
        for _ in range(10):
            self.clock.now += 1
            for i in range(10):
                sink({"id": str(i)})
        return {"top1": 0.0}


@pytest.mark.parametrize(("within_s", "takes"), [(2.5, 3), (10.0, 6), (1000.0, 10)])
def test_a_long_evaluation_is_timed_by_its_part(within_s: float, takes: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(budget, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    began = clock.now
    task = Judged(clock)
    assert budget._evaluation(task, network(), within_s * 0.4, 100) == pytest.approx(10)
    assert clock.now - began == takes


def test_measuring_stops_when_its_time_is_over_even_among_the_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine four warm steps alone can take longer than the user's minute."""
    clock = Clock()
    monkeypatch.setattr(budget, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    task = FakeTask(clock)
    speed = measure(task, network(), RECIPE, CPU, within_s=6, images=7)
    assert task.steps == 2  # of ten seconds, where 3.6 were to be spent
    assert speed.step_s == 10


def test_the_first_step_alone_is_not_taken_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(budget, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    monkeypatch.setattr(budget, "WARM_STEPS", 1)
    speed = measure(FakeTask(clock), network(), RECIPE, CPU, within_s=6, images=7)
    assert speed.step_s == 1  # after a first one of ten


@pytest.mark.parametrize("minutes", [1, 2, 10])
@pytest.mark.parametrize("speed", [Speed(0.1, 2.0), Speed(0.01, 0.3), Speed(0.25, 0.001), Speed(1.0, 4.0)])
@pytest.mark.parametrize(("gone_s", "page_s"), [(5.0, 2.0), (20.0, 10.0), (8.0, 0.0)])
def test_a_plan_counts_what_is_over_and_the_page(minutes: float, speed: Speed, gone_s: float, page_s: float) -> None:
    recipe = replace(RECIPE, minutes=minutes, ema=0.99)
    again = 1 if page_s else 0
    found = plan(recipe, speed, 60, Around(gone_s, page_s, again), relative_cost=lambda _: 1.0, eval_every=None)
    after = again * speed.evaluation_s + page_s
    every = replace(recipe, eval_every=found.eval_every)
    spent = gone_s + cost_s(found.steps, speed, every, 60) + after
    assert found.needs_s == pytest.approx(spent)
    assert spent <= 60 * minutes
    assert spent >= 0.8 * 60 * minutes


def test_a_plan_that_cannot_be_kept_tells_what_it_needs() -> None:
    recipe = replace(RECIPE, minutes=1, ema=0.99)
    found = plan(recipe, Speed(2.0, 90.0), 60, Around(50, 15, 1), relative_cost=lambda _: 1.0, eval_every=None)
    assert found.steps == 9  # trained for 0.3 of the minute all the same
    assert found.eval_every * 60 >= 9  # and judged once, as one set of weights
    assert not found.average
    assert found.needs_s == pytest.approx(50 + 18 + 90 + 90 + 15)


def test_what_is_judged_after_training_is_counted() -> None:
    """A test split is judged for itself and for the page."""
    recipe = replace(RECIPE, minutes=5, ema=None)
    needs = [
        plan(recipe, Speed(0.1, 5.0), 60, Around(5, 2, after), relative_cost=lambda _: 1.0, eval_every=10).steps
        for after in (0, 8)
    ]
    assert (needs[0] - needs[1]) * 0.1 == pytest.approx(40, abs=12)


def test_a_machine_that_loads_slowly_draws_slowly() -> None:
    assert budget.Clock(5.0, 5.0, page=True).page_s == budget.LEAST_PAGE_S
    assert budget.Clock(35.0, 5.0, page=True).page_s == 15.0
    assert budget.Clock(35.0, 5.0, page=False).page_s == 0
