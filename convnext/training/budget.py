"""What fits: how many steps into a time budget, and how large a micro-batch into memory. Both are measured, once."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

from torch import nn

from ..errors import UserError
from ..recipes.recipe import Recipe
from ..system import machine
from . import B, Task
from .engine import prepared, step, train_mode
from .optim import make_optimiser
from .runtime import Runtime, out_of_memory
from .state import TrainState

WARM_STEPS = 4  # the first steps allocate, choose algorithms and wait for the loader to fill up
MEASURE_STEPS = 40
LEAST_STEPS = 3  # the first takes several times as long as the others; more are not waited for where steps take long
MEASURE_SHARE = 0.1  # of the budget, for timing steps and an evaluation
STEPS_SHARE = 0.6  # of that, for the steps
PAUSE_SHARE = 0.02  # of the time for an evaluation: a pause between its batches
PAGE_SHARE, LEAST_PAGE_S = 0.5, 2.0  # time to draw the page, over that to load the libraries; seconds, at least
EVALUATION_SHARE = 0.1  # of the budget
SHORTEST_INTERVAL = 0.001  # epochs between evaluations
LEAST_TRAINING = 0.3  # of the budget, whatever loading and judging take: a run that has not trained is of no use
TOO_LONG = 1.1  # times the budget: a run that will take longer says so beforehand
MARGIN = 0.95  # of what is left for training: the rest is for saving and a noisy machine


@dataclass(frozen=True)
class Speed:
    """Seconds for one optimiser step, for one evaluation of one set of weights, and once for compiling the network."""

    step_s: float
    evaluation_s: float
    start_s: float = 0.0


class _Enough(Exception):
    """The time for measuring an evaluation is over."""


def measure(
    task: Task[B, object], model: nn.Module, recipe: Recipe, run: Runtime, *, within_s: float, images: int
) -> Speed:
    """Times real steps and an evaluation on a copy of the model; neither weights nor data position change.

    It takes about `within_s` seconds, or a step and a batch where these take longer: on one process the evaluation of
    the `images` validation images is broken off, and its duration follows from the part that was done.
    """
    trial = copy.deepcopy(model)
    state = TrainState(trial, make_optimiser(trial, replace(recipe.optim, lr=0.0)))
    if recipe.ema is not None:
        state.start_average()
    running = prepared(trial, recipe, run)
    train_mode(trial)
    times: list[float] = []
    began = mark = time.perf_counter()
    for batches in task.batches(0, WARM_STEPS + MEASURE_STEPS):  # waiting for one is part of its step
        step(task, running, state, batches, recipe, run)
        run.synchronise()
        times.append(time.perf_counter() - mark)
        mark = time.perf_counter()
        over = (time.perf_counter() - began) / max(STEPS_SHARE * within_s, 1e-9)
        if run.broadcast(over > 1 and (len(times) >= LEAST_STEPS or over > LEAST_STEPS)):
            break
    kept = times[WARM_STEPS:] or times[1:] or times
    trial.eval()
    evaluation = _evaluation(task, trial, within_s * (1 - STEPS_SHARE) if run.world == 1 else None, images)
    mean = sum(kept) / len(kept)
    start = max(0.0, sum(times[:WARM_STEPS]) - WARM_STEPS * mean) if recipe.compile else 0.0
    return Speed(*(max(of_each) for of_each in zip(*run.gather((mean, evaluation, start)), strict=True)))


def _evaluation(task: Task[B, object], model: nn.Module, within_s: float | None, images: int) -> float:
    """Seconds of an evaluation; of one that takes longer than `within_s`, from its part."""
    done, mark = 0, time.perf_counter()
    last = mark

    def count(record: object) -> None:
        nonlocal done, last
        now = time.perf_counter()
        # Those of a batch come at once: only after a pause is it certain that all before are done.
        if within_s is not None and last - mark > within_s and now - last > PAUSE_SHARE * within_s:
            raise _Enough
        done, last = done + 1, now

    try:
        task.evaluate(model, count)
    except _Enough:
        return (last - mark) * images / done
    return time.perf_counter() - mark


def steps_within(minutes: float, speed: Speed, recipe: Recipe, per_epoch: int, *, relative_cost: float = 1.0) -> int:
    """Optimiser steps that fit into `minutes`, evaluations included; at least one. `relative_cost` is that of a
    mean step of the run over one as measured (progressive training starts with cheaper ones).
    """
    step_s = speed.step_s * relative_cost
    evaluation_s = (1 if recipe.ema is None else 2) * speed.evaluation_s  # raw and averaged are both evaluated
    every = max(1, round(recipe.eval_every * per_epoch))
    budget_s = minutes * 60 * MARGIN - speed.start_s
    fitting = budget_s / (every * step_s + evaluation_s)  # intervals, each closed by an evaluation
    steps = (min(k * every, int((budget_s - k * evaluation_s) / step_s)) for k in (int(fitting), ceil(fitting)))
    return max(1, *steps)


def evaluations(minutes: float, speed: Speed, recipe: Recipe, per_epoch: int) -> float:
    """Epochs between evaluations such that they take at most a tenth of the budget, and come at most once an epoch."""
    weights = 1 if recipe.ema is None else 2
    affordable = max(1.0, EVALUATION_SHARE * minutes * 60 / (weights * speed.evaluation_s))
    epochs = minutes * 60 / (speed.step_s * per_epoch)
    return float(ceil(max(1.0, epochs / affordable))) if epochs > 1 else max(SHORTEST_INTERVAL, round(epochs, 3))


@dataclass(frozen=True)
class Plan:
    """What was fixed for a run of so many minutes, and what it is expected to take."""

    steps: int
    eval_every: float
    average: bool  # whether judging an average as well is worth its time
    needs_s: float  # the whole command, what is over already included
    why: str


@dataclass(frozen=True)
class Clock:
    """When the user's command `began` and `train` was `called`, by time.monotonic(); is there a `page` at the end?"""

    called: float
    began: float
    page: bool

    @property
    def gone_s(self) -> float:
        return time.monotonic() - self.began

    @property
    def page_s(self) -> float:
        """What drawing the page will take, by what loading the libraries took: a busy machine slows down both."""
        return max(LEAST_PAGE_S, PAGE_SHARE * (self.called - self.began)) if self.page else 0.0


@dataclass(frozen=True)
class Around:
    """What the minutes go to besides training: `gone_s` are over, the page takes `page_s` to draw at the end, and
    judging then as long as `judged_after` evaluations.
    """

    gone_s: float
    page_s: float
    judged_after: float


def plan(
    recipe: Recipe,
    speed: Speed,
    per_epoch: int,
    around: Around,
    *,
    relative_cost: Callable[[float], float],
    eval_every: float | None,
) -> Plan:
    """Steps and evaluations for what is left of the recipe's minutes.

    Training has LEAST_TRAINING of the minutes in any case, and where an evaluation takes long there is one, of one set
    of weights. `relative_cost` is of the number of epochs.
    """
    whole, gone_s = (recipe.minutes or 0) * 60, around.gone_s
    reserve = around.page_s + around.judged_after * speed.evaluation_s
    if speed.evaluation_s > EVALUATION_SHARE * whole:
        recipe = replace(recipe, ema=None)
    minutes = max(whole - gone_s - reserve, 1.0) / 60
    chosen = replace(recipe, eval_every=eval_every or evaluations(minutes, speed, recipe, per_epoch))
    longest = steps_within(minutes, speed, chosen, per_epoch)
    cost = relative_cost(longest / per_epoch)
    steps = steps_within(minutes, speed, chosen, per_epoch, relative_cost=cost)
    if steps < (least := int(LEAST_TRAINING * whole / (speed.step_s * cost))):
        steps, chosen = least, replace(chosen, eval_every=eval_every or ceil(1000 * least / per_epoch) / 1000)
    judged = ceil(steps / max(1, round(chosen.eval_every * per_epoch))) * (1 if recipe.ema is None else 2)
    needs = gone_s + speed.start_s + steps * speed.step_s * cost + judged * speed.evaluation_s + reserve
    why = (
        f"{recipe.minutes:g} minutes, less {gone_s:.0f} s until now and {reserve:.0f} s at the end, at "
        f"{speed.step_s * cost:.2g} s a step and {speed.evaluation_s:.2g} s an evaluation"
    )
    return Plan(steps, chosen.eval_every, recipe.ema is not None, needs, why)


def largest_within(recipe: Recipe, try_batch: Callable[[int], None], room: int) -> int:
    """As `largest_micro_batch`, on a CPU: its system promises any memory and kills who uses it. So batches grow, as
    long as what the last two took says that the next stays within `room` bytes.
    """
    sizes = sorted({recipe.batch_size >> halved for halved in range(recipe.batch_size.bit_length())})
    began, taken = machine.peak_memory(), [(0, 0)]  # (images, bytes)
    for size in sizes:
        (before, less), (last, most) = taken[-2:] if len(taken) > 1 else ((0, 0), taken[-1])
        expected = most + (most - less) * (size - last) // max(1, last - before)
        if last and expected > room:
            break
        try_batch(size)
        taken.append((size, machine.peak_memory() - began))
    return max(1, taken[-1][0])


def largest_micro_batch(recipe: Recipe, try_batch: Callable[[int], None]) -> int:
    """The largest power-of-two share of the total batch for which `try_batch` (forward and backward) does not run out
    of memory. Raises UserError when a single image does not fit.
    """
    size = recipe.batch_size
    while size >= 1:
        try:
            try_batch(size)
            return size
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            size //= 2
    raise UserError(
        f"not even one image of {recipe.image_size} pixels fits into memory; choose a smaller model or image size"
    )
