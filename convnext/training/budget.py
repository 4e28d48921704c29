"""What fits: how many steps into a time budget, and how large a micro-batch into memory. Both are measured, once."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

from torch import nn

from ..recipe import Recipe
from . import Task
from .engine import prepared, step, train_mode
from .optim import make_optimiser
from .runtime import Runtime, out_of_memory
from .state import TrainState

WARM_STEPS = 4  # the first steps allocate, choose algorithms and wait for the loader to fill up
MEASURE_SECONDS = 20.0
MEASURE_STEPS = 40
EVALUATION_SHARE = 0.1  # of the budget
SHORTEST_INTERVAL = 0.001  # epochs between evaluations
MARGIN = 0.97  # of the budget: the rest is for saving, the report and a noisy machine


@dataclass(frozen=True)
class Speed:
    """Seconds for one optimiser step, for one evaluation of one set of weights, and once for compiling the network."""

    step_s: float
    evaluation_s: float
    start_s: float = 0.0


def measure(task: Task, model: nn.Module, recipe: Recipe, run: Runtime) -> Speed:
    """Times real steps and one evaluation on a copy of the model; neither weights nor data position change."""
    trial = copy.deepcopy(model)
    state = TrainState(trial, make_optimiser(trial, replace(recipe.optim, lr=0.0)))
    if recipe.ema is not None:
        state.start_average()
    running = prepared(trial, recipe, run)
    train_mode(trial)
    times: list[float] = []
    began = time.perf_counter()
    for batches in task.batches(0, WARM_STEPS + MEASURE_STEPS):
        mark = time.perf_counter()
        step(task, running, state, batches, recipe, run)
        run.synchronise()
        times.append(time.perf_counter() - mark)
        enough = len(times) > WARM_STEPS and time.perf_counter() - began > MEASURE_SECONDS
        if run.from_main(enough):
            break
    kept = times[WARM_STEPS:] or times
    trial.eval()
    mark = time.perf_counter()
    task.evaluate(trial)
    evaluation = time.perf_counter() - mark
    mean = sum(kept) / len(kept)
    start = max(0.0, sum(times[:WARM_STEPS]) - WARM_STEPS * mean) if recipe.compile else 0.0
    return Speed(*(max(of_each) for of_each in zip(*run.gather((mean, evaluation, start)), strict=True)))


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


def largest_micro_batch(recipe: Recipe, try_batch: Callable[[int], None]) -> int:
    """The largest power-of-two share of the total batch for which `try_batch` (forward and backward) does not run out
    of memory. Raises RuntimeError when a single image does not fit.
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
    raise RuntimeError(
        f"not even one image of {recipe.image_size} pixels fits into memory; choose a smaller model or image size"
    )
