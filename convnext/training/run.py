"""One training run: settles how long it is, opens its folder, trains, publishes the best weights."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from ..data.learned import copies
from ..data.request import DataRequest
from ..data.source import listed
from ..data.splits import Pictures, Splits
from ..errors import UserError
from ..recipes import length
from ..recipes.everyday import Choice
from ..recipes.progressive import mean_area
from ..recipes.recipe import Recipe, Settings
from ..system import machine
from ..weights.checkpoint import load_checkpoint_metadata
from . import budget, engine, log, optim, run_folder, runtime, state
from .first_weights import metadata_of_start
from .runtime import Runtime
from .slice import AnySlice, RunTask

T = TypeVar("T", bound=RunTask[Any, Any])
Save = Callable[..., Path]  # as pretrained.save_weights
CLASSES_SHOWN = 10  # by name, at the beginning
MEMORY_SHARE = 0.8  # of what is free, for the largest micro-batch on a CPU


@dataclass
class TrainingRun:
    """One training run on this process: its folder, its task and its network."""

    path: Path
    kind: AnySlice
    task: RunTask[Any, Any]
    model: nn.Module
    splits: Splits[Pictures]
    request: DataRequest
    run: Runtime
    clock: budget.Clock
    save: Save

    @property
    def recipe(self) -> Recipe:
        recipe: Recipe = self.task.recipe
        return recipe

    def require_record(self) -> None:
        """UserError where the record of what earlier weights learned from is damaged: now, not after hours."""
        if self.run.is_main:
            _ = self._learned_from

    def begin(self, given: Recipe, settings: Settings, choices: list[Choice]) -> None:
        """Settles how long the run is, says what was chosen, and opens the folder."""
        with runtime.memory_explained(self.recipe, self.run, self.kind.batching):
            choices = choices + self._settle(given, settings)
        if self.run.is_main:
            run_folder.begin(self.path, self.recipe, self.request, self.splits, choices, runtime.describe())
            print(self.splits.note)
            for remark in (*known_already(self.splits), *self.kind.remarks(self.splits)):
                print(remark)
            print(f"{self.kind.outputs}: {listed(self.splits.train.classes, CLASSES_SHOWN)}")
            print(self._summary())
            for line in (*choices, *few_each(self.recipe, self.run.world, self.kind.few_each)):
                print(line)
            print(f"run folder: {self.path}", flush=True)

    def fit(self, *, resume: bool) -> None:
        """Trains to the recipe's last step, from the newest checkpoint when resuming."""
        now = state.TrainState(self.model, optim.make_optimiser(self.model, self.recipe.optim))
        if self.recipe.ema is not None:
            now.start_average()
        if resume:
            found = state.restore(now, self.path)
            if self.run.is_main:
                where = f"continuing at step {now.step}" if found else "there is no checkpoint yet; starting again"
                print(self.splits.note)
                print(f"{self.path}: {where}", flush=True)
                log.cut(self.path / "log.jsonl", now.step, evaluated=now.evaluated)
                self._change(now.step)
        with runtime.memory_explained(self.recipe, self.run, self.kind.batching, self.path):
            engine.fit(self.task, now, self.recipe, self.run, engine.Outlet(self.path, self._publish, self._chooses))

    def _change(self, step: int) -> None:
        """Keeps and says what the user has changed of a resumed run."""
        if changed := run_folder.change(self.path, self.recipe):
            with log.Log(self.path / "log.jsonl", 0) as rows:
                rows.row("changed", step, choices=[asdict(choice) for choice in changed])
            print(*changed, sep="\n", flush=True)

    @property
    def _chooses(self) -> bool:
        """Whether the held-out pictures choose the weights: not where they are to judge them, or there are none."""
        return len(self.task.val) > 0 and self.request.folds is None

    def _publish(self, now: state.TrainState, metrics: dict[str, float]) -> None:
        assert now.best is not None
        metadata = {
            "classes": json.dumps(list(self.task.val.classes)),
            "preprocess": json.dumps(self.task.preprocess.to_dict()),
            "metric": json.dumps(metrics if metrics.get("count", 1) else {}),
            "which": now.best.which,
            "precision": self.recipe.precision,
            **self.task.described,
            "licence": "that of the training pictures' and first weights' owners",
            "data": self._learned_from,
        }
        with now.averaged() if now.best.which == "ema" else contextlib.nullcontext():
            self.save(now.model, self.path / "model.safetensors", metadata=metadata)

    @cached_property
    def _learned_from(self) -> str:
        """The pictures of this run, and those of its weights and of its own earlier checkpoint, where it goes on."""
        start = metadata_of_start(self.model)
        earlier = [] if start is None else [start]
        if (own := self.path / "model.safetensors").exists():
            earlier.append(load_checkpoint_metadata(own))
        return run_folder.learning_record(self.splits.train, self.task.train, self.request.val_fraction, earlier)

    def _settle(self, given: Recipe, settings: Settings) -> list[Choice]:
        """Fixes micro-batch and steps in the task's recipe; measures where the user asked for a budget."""
        task, run = self.task, self.run
        if self.recipe.auto_batch:
            share = replace(self.recipe, batch_size=-(-self.recipe.batch_size // run.world))
            if run.device.type == "cpu" and (room := machine.free_memory()):
                room = int(room * MEMORY_SHARE / machine.processes_here())
                size = run.broadcast(budget.largest_within(share, self._attempt, room))
            else:
                size = run.broadcast(budget.largest_micro_batch(share, self._attempt))
            task.recipe = replace(self.recipe, micro_batch=size)
        per_epoch = task.steps_per_epoch
        steps = self.recipe.steps or max(1, round(self.recipe.epochs * per_epoch))
        measured: list[Choice] = []
        if self.recipe.minutes is not None and self.recipe.steps is None:
            averaged = length.makes_average(given) and "ema" not in settings
            probe = replace(self.recipe, ema=0.99) if averaged else self.recipe
            planned = self._plan(probe, self.recipe.minutes, "eval_every" in settings)
            passes = planned.steps / per_epoch
            if side := length.affordable_side(self.recipe, given, passes, settings):
                why = (
                    f"{self.recipe.minutes:g} minutes are {passes:.2g} passes over the pictures at "
                    f"{self.recipe.image_size} pixels, too few to learn from"
                )
                measured.append(Choice("image_size", side, why))
                task = self.task = task.under(length.at_side(self.recipe, side))
                planned = self._plan(length.at_side(probe, side), self.recipe.minutes, "eval_every" in settings)
            steps = planned.steps
            task.recipe = replace(self.recipe, eval_every=planned.eval_every, epochs=steps / per_epoch)
            measured.append(Choice("steps", steps, planned.why))
            if probe.ema is not None and not planned.average and "ema" not in settings:
                why = "judging a second set of weights would take more than a tenth of the time"
                measured.append(Choice("ema", None, why))
                task.recipe, settings = replace(self.recipe, ema=None), settings | {"ema": None}
        task.recipe, choices = length.settle(self.recipe, given, steps, per_epoch, settings)
        return measured + choices

    @property
    def _judged_after(self) -> float:
        """How many evaluations' time judging takes after training: for the page, and on the test pictures before it."""
        page, test, val = int(self.clock.page), self.splits.test, len(self.task.val)
        return page if test is None else (1 + page) * len(test) / max(1, val)

    def _plan(self, probe: Recipe, minutes: float, fixed_evaluations: bool) -> budget.Plan:
        """What fits into the minutes since the command began: measured on all processes, decided on the main one."""
        within_s = budget.MEASURE_SHARE * 60 * minutes
        speed = budget.measure(self.task, self.model, probe, self.run, within_s=within_s, images=len(self.task.val))
        planned: budget.Plan = self.run.broadcast(
            budget.plan(
                probe,
                speed,
                self.task.steps_per_epoch,
                budget.Around(self.clock.gone_s, self.clock.page_s, self._judged_after),
                relative_cost=partial(mean_area, probe),
                eval_every=probe.eval_every if fixed_evaluations else None,
            )
        )
        if self.run.is_main and planned.needs_s > budget.TOO_LONG * 60 * minutes:
            taken = self.clock.gone_s / 60
            print(
                f"{minutes:g} minutes are too short here, with {taken:.1g} gone before training and evaluations of "
                f"{speed.evaluation_s / 60:.1g}: the run will take about {planned.needs_s / 60:.2g}"
            )
        return planned

    def _attempt(self, size: int) -> None:
        """One update of a copy on `size` empty images, average and optimiser included: does it fit into memory?"""
        trial = copy.deepcopy(self.model)
        now = state.TrainState(trial, optim.make_optimiser(trial, self.recipe.optim))
        now.start_average()
        with self.run.autocast():
            assert self.kind.attempt is not None  # the others refuse auto_batch
            self.kind.attempt(self.recipe, self.task, trial, size).backward()
        now.optimiser.step()

    def _summary(self) -> str:
        recipe, world = self.recipe, self.run.world
        parameters = sum(p.numel() for p in self.model.parameters())
        share = -(-recipe.batch_size // world)
        micro = min(recipe.micro_batch or share, share)
        epochs = (recipe.steps or 0) / self.task.steps_per_epoch
        return (
            f"{recipe.model}: {parameters / 1e6:.2f} M parameters, {recipe.image_size} pixels, {recipe.precision}; "
            f"total batch {recipe.batch_size} on {world} {self.run.device.type} device{'s' * (world > 1)}"
            f"{f' in micro-batches of {micro}' * (micro < share)}; {recipe.steps:,} steps = {epochs:.1f} epochs"
        )


def known_already(splits: Splits[Pictures]) -> list[str]:
    """What to say of held-out pictures that are learned from as well: a figure on them promises too much."""
    lines = []
    for name, part in (("validation", splits.val), ("test", splits.test)):
        if part is not None and (count := copies(splits.train, part)):
            verb = "is a copy of a training picture" if count == 1 else "are copies of training pictures"
            lines.append(
                f"{count:,} of {len(part):,} {name} pictures {verb}, byte for byte, so the figures say less "
                "about new pictures than they seem to; convnext check names them"
            )
    return lines


def few_each(recipe: Recipe, world: int, few: int) -> list[str]:
    """What to say where a batch leaves each of several processes fewer pictures than `few`: they mostly wait."""
    if world == 1 or recipe.batch_size >= few * world:
        return []
    return [
        f"  each of the {world} processes has {recipe.batch_size / world:.2g} pictures a step and mostly waits "
        f"for the others: fewer processes, or a --batch-size of {few * world} or more"
    ]


def judged_at_the_end(path: Path, task: T, test: Pictures | None, published: Callable[[], nn.Module]) -> T:
    """The task with the test pictures in place of the validation pictures, after the `published` weights met them once.

    Returns `task` itself where there are no test pictures (None), or they cannot be judged, which is said.
    """
    if test is None:
        return task
    final = replace(task, val=test)
    if run_folder.result(path).test is None:
        model = published()
        try:
            found = final.evaluate(model)
        except UserError as error:  # a test split must not stop a training run
            print(f"the test split is not judged: {error}", flush=True)
            return task
        name = final.metric.name
        with log.Log(path / "log.jsonl", 0) as rows:
            rows.row("test", final.recipe.steps or 0, metric=name, value=found[name], figures=found, count=len(test))
    return final
