"""train, evaluate, predict, check, convert as functions: what the command line calls, and what a script may."""

from __future__ import annotations

import contextlib
import copy
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import files, run_folder, sweep
from .data import sources
from .data.check import FolderReport
from .data.check import check as check_folder
from .data.transforms import Preprocess
from .errors import UserError
from .evidence import gather
from .inference import Prediction, evaluate, predict
from .models import create_model, load_weights, save_weights
from .models.layers import init_fan_in
from .models.zoo import carried, model_for, starting_point
from .recipe import Recipe, override
from .recipes import folder, get_recipe, roadmap
from .report import write_report
from .run_folder import DataRequest, RunResult
from .tasks.baselines import pixel_baselines
from .tasks.classify import Classify, mean_area
from .training import budget, engine, log, optim, runtime, state
from .training.runtime import Runtime
from .variants import parse_name

__all__ = ["Prediction", "RunResult", "ablate", "check", "convert", "evaluate", "predict", "train"]

CACHE_SHARE = 0.25  # of free memory: decoded images are kept when they take no more than this


def train(data: str | Path | None = None, recipe: str | Recipe | None = None, *, out: str | Path | None = None,
          settings: dict[str, Any] | None = None, resume: bool = False, labels: str | Path | None = None,
          val_fraction: float = DataRequest.val_fraction, report: bool = True) -> RunResult:  # fmt: skip
    """Trains on a folder of images (None: the built-in digits) and returns the run.

    `recipe` is a name, a recipe.json or a Recipe; by default `finetune` when `settings` names weights, else `scratch`.
    `settings` override recipe fields by dotted name. `resume` continues the run in `out`. Raises UserError for whatever
    the user can mend, before anything is written; engine.NonFiniteLoss when training diverges.
    """
    settings = dict(settings or {})
    request = DataRequest(_text(data), _text(labels), val_fraction)
    splits: sources.Splits | None = None
    if resume:
        if recipe is not None:
            raise UserError("a resumed run keeps its recipe; leave it out or start a new run")
        request, splits, given = run_folder.reopen(out, request, settings)
    elif isinstance(recipe, Recipe):
        given = recipe
    else:
        given = get_recipe(recipe or ("finetune" if settings.get("weights") else "scratch"))
    with runtime.start(str(settings.get("precision", given.precision))) as run:
        with run.main_first():  # downloads, where they were asked for
            splits = splits or request.open()
            resolved, choices = _derive(given, splits, settings, run)
        path = Path(run.from_main(str(run_folder.choose(out, resolved, resume=resume)) if run.main else ""))
        task = _make_task(splits, resolved, run)
        with run.main_first():
            model = _make_model(resolved, task, run)
        if run.main:
            files.make_writable_folder(path)
        with files.locked(path) if run.main else contextlib.nullcontext():
            if not (resume and run.from_main(run.main and run_folder.finished(path))):
                session = Session(path, task, model, splits, request, run)
                if not resume:
                    session.begin(given.derive, settings, choices)
                session.fit(resume=resume)
            outcome = run.from_main(run_folder.result(path) if run.main else None)
    if not run.main:
        return outcome
    if report and not (path / run_folder.PAGE).exists():
        task.run = replace(run, world=1)  # the group is gone: nobody has to wait for the page
        with files.locked(path):
            _compare(path, task)
            write_report(path, gather(path, task))
    return run_folder.result(path)


def ablate(data: str | Path, recipe: str | Recipe = "roadmap/small", *, steps: Iterable[int] | None = None,
           seeds: int = 2, out: str | Path = "runs/roadmap", settings: dict[str, Any] | None = None,
           say: Callable[[str], None] = print) -> list[dict[str, Any]]:  # fmt: skip
    """Trains steps of the roadmap (None: all) with several seeds under one recipe; returns the table's rows so far.

    Called again it goes on where it was; called twice at once, the two share the work. Raises UserError as `train`
    does, and when `out` holds another sweep.
    """
    chosen = override(recipe if isinstance(recipe, Recipe) else get_recipe(recipe), settings or {})
    if seeds < 1:
        raise UserError(f"--seeds {seeds} must be at least 1")
    regime, _, _ = roadmap.parse(chosen.model)
    numbers = range(len(roadmap.STEPS[regime])) if steps is None else sorted(set(steps))
    folder, request = Path(out), DataRequest(str(Path(data).expanduser()))

    def execute(job: Recipe, path: Path, resume: bool) -> None:
        train(None if resume else data, None if resume else job, out=path, resume=resume, report=False)

    sweep.run(folder, request, roadmap.jobs(chosen, numbers, range(seeds)), execute, say)
    return sweep.table(folder)


def check(data: str | Path) -> FolderReport:
    """What is in a folder, and whether it is fit to train on."""
    return check_folder(data)


def convert(source: str | Path, target: str | Path, *, naming: str = "official", model: str | None = None,
            ema: bool | None = None) -> str:  # fmt: skip
    """Rewrites a checkpoint in another naming; returns what was read and written, for people.

    `model` names the size when the source is not one of our files; otherwise it is recognised from the shapes.
    """
    network = model_for(source, name=model, ema=ema)
    found = load_weights(network, source, ema=ema)
    save_weights(network, Path(target), naming=naming, metadata=carried(source, model))
    return f"{found}\nwritten to {target} in {naming} naming"


@dataclass
class Session:
    """One training run on this process: its folder, its task and its network."""

    path: Path
    task: Classify
    model: nn.Module
    splits: sources.Splits
    request: DataRequest
    run: Runtime

    @property
    def recipe(self) -> Recipe:
        return self.task.recipe

    def begin(self, rule: str, settings: dict[str, Any], choices: list[folder.Choice]) -> None:
        """Settles how long the run is, says what was chosen, and opens the folder."""
        choices = choices + self._settle(rule, settings)
        if self.run.main:
            run_folder.begin(self.path, self.recipe, self.request, self.splits, choices, runtime.describe())
            print(self.splits.note)
            print(self._summary())
            for choice in choices:
                print(f"  {choice.field} = {choice.value}: {choice.why}")
            print(f"run folder: {self.path}", flush=True)

    def fit(self, *, resume: bool) -> None:
        """Trains to the recipe's last step, from the newest checkpoint when resuming."""
        now = state.TrainState(self.model, optim.make_optimiser(self.model, self.recipe.optim))
        if self.recipe.ema is not None:
            now.start_average()
        if resume:
            found = state.restore(now, self.path)
            if self.run.main:
                where = f"continuing at step {now.step}" if found else "there is no checkpoint yet; starting again"
                print(f"{self.path}: {where}", flush=True)
                log.cut(self.path / "log.jsonl", now.step)
        engine.fit(self.task, now, self.recipe, self.path, self.run, publish=self._publish)

    def _publish(self, now: state.TrainState, metrics: dict[str, float]) -> None:
        assert now.best is not None
        metadata = {
            "classes": json.dumps(list(self.task.val.classes)),
            "preprocess": json.dumps(self.task.preprocess.to_dict()),
            "metric": json.dumps(metrics),
            "which": now.best.which,
            "task": "multi_label" if self.task.multi_label else "classify",
            "licence": "that of the training pictures' and first weights' owners",
            "data": json.dumps(
                {"learned_from": sources.fingerprint(self.splits.train), "val_fraction": self.request.val_fraction}
            ),
        }
        with now.averaged() if now.best.which == "ema" else contextlib.nullcontext():
            save_weights(now.model, self.path / "model.safetensors", metadata=metadata)

    def _settle(self, rule: str, settings: dict[str, Any]) -> list[folder.Choice]:
        """Fixes micro-batch and steps in the task's recipe; measures where the user asked for a budget."""
        task, run = self.task, self.run
        if self.recipe.auto_batch:
            share = replace(self.recipe, batch_size=-(-self.recipe.batch_size // run.world))
            size = run.from_main(budget.largest_micro_batch(share, self._attempt))
            task.recipe = replace(self.recipe, micro_batch=size)
        if self.recipe.steps is not None:
            return []
        per_epoch = task.steps_per_epoch
        steps = max(1, round(self.recipe.epochs * per_epoch))
        if self.recipe.minutes is not None:
            probe = self.recipe if rule == "none" or "ema" in settings else replace(self.recipe, ema=0.99)
            speed = budget.measure(task, self.model, probe, run)
            if "eval_every" not in settings:
                probe = replace(probe, eval_every=budget.evaluations(self.recipe.minutes, speed, probe, per_epoch))
            longest = budget.steps_within(self.recipe.minutes, speed, probe, per_epoch)
            cost = mean_area(probe, longest / per_epoch)
            within = budget.steps_within(self.recipe.minutes, speed, probe, per_epoch, relative_cost=cost)
            steps = run.from_main(within)
            task.recipe = replace(self.recipe, eval_every=run.from_main(probe.eval_every), epochs=steps / per_epoch)
        task.recipe, choices = folder.settle(self.recipe, rule, steps, per_epoch, settings)
        return choices

    def _attempt(self, size: int) -> None:
        """One update of a copy on `size` empty images, average and optimiser included: does it fit into memory?"""
        side, trial = self.recipe.image_size, copy.deepcopy(self.model)
        now = state.TrainState(trial, optim.make_optimiser(trial, self.recipe.optim))
        now.start_average()
        with self.run.autocast():
            trial(torch.zeros(size, 3, side, side, device=self.run.device)).float().sum().backward()
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


def _derive(given: Recipe, splits: sources.Splits, settings: dict[str, Any],
            run: Runtime) -> tuple[Recipe, list[folder.Choice]]:  # fmt: skip
    start: list[folder.Choice] = []
    weights = settings.get("weights", given.weights)
    if given.derive in ("finetune", "probe") and weights:
        named = settings.get("model")
        size = parse_name(named).variant if named and ":" not in named else None
        for name, value in starting_point(weights, size or given.model).items():
            if name not in settings and (named is None or name == "image_size"):
                start.append(folder.Choice(name, value, "the weights' own"))
        settings |= {choice.field: choice.value for choice in start}
    counts = splits.train.class_counts()
    facts = folder.Facts(
        images=len(splits.train),
        classes=len(splits.train.classes),
        size=splits.train.typical_size,
        smallest_class=min(counts),
        largest_class=max(counts),
        multi_label=splits.train.multi_label,
        few_steps=run.device.type == "cpu",
    )
    resolved, choices = folder.derive(given, facts, settings)
    if "steps" not in settings and {"epochs", "minutes", "batch_size"} & settings.keys():
        resolved = replace(resolved, steps=None)  # a replayed recipe names its steps; the new length counts
        resolved = replace(resolved, minutes=settings.get("minutes") and resolved.minutes)
    choices = start + choices
    resolved = replace(resolved, precision=run.precision, num_classes=resolved.num_classes or facts.classes)
    if resolved.batch_size > facts.images:
        raise UserError(
            f"the batch of {resolved.batch_size} is larger than the {facts.images} training images; "
            "pass a smaller --batch-size"
        )
    if resolved.batch_size < run.world:
        raise UserError(
            f"the batch of {resolved.batch_size} leaves some of the {run.world} processes without an image; "
            "pass a larger --batch-size or fewer processes"
        )
    if resolved.num_classes != facts.classes:
        raise UserError(
            f"the recipe is for {resolved.num_classes} classes, {splits.name} has {facts.classes}; "
            "pass --set num_classes=none to take the data's"
        )
    return resolved, choices


def _require_room(model: nn.Module, recipe: Recipe) -> None:
    """UserError unless the pictures leave the network at least one position at its coarsest map."""
    stride = max(getattr(model, "strides", (1,)))
    if recipe.image_size < stride:
        raise UserError(
            f"pictures of {recipe.image_size} pixels vanish in a network of stride {stride}; pass a larger "
            f"--image-size or a smaller stem (--set patch_size=1)"
        )


def _make_task(splits: sources.Splits, recipe: Recipe, run: Runtime) -> Classify:
    """The sources of a data set under a recipe; decoded images stay in memory where they fit."""
    limit = int(_free_memory() * CACHE_SHARE / run.world)
    train_source, val_source = sources.cached(splits.train, limit), sources.cached(splits.val, limit)
    return Classify(train_source, val_source, recipe, Preprocess.for_size(recipe.image_size), run)


def _make_model(recipe: Recipe, task: Classify, run: Runtime) -> nn.Module:
    torch.manual_seed(recipe.seed)
    model = create_model(
        recipe.model,
        num_classes=task.num_classes,
        drop_path_rate=recipe.drop_path,
        drop_rate=recipe.dropout,
        layer_scale_init_value=recipe.layer_scale,
        head_init_scale=recipe.head_init_scale,
        patch_size=recipe.patch_size,
        depths=recipe.depths,
        dims=recipe.dims,
    )
    _require_room(model, recipe)
    if recipe.init == "fan_in":
        init_fan_in(model)
    if recipe.weights is not None:
        found = load_weights(model, recipe.weights)
        if run.main:
            print(found)
    if recipe.grad_checkpointing:
        _capability(model, "set_grad_checkpointing", recipe.model)(True)
    if recipe.freeze_backbone:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = optim.is_head(name)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UserError(f"{recipe.model} has no head that could be trained alone; use another recipe than probe")
    layout = torch.channels_last if recipe.channels_last else torch.preserve_format
    return model.to(run.device, memory_format=layout)  # type: ignore[call-overload]


def _capability(model: nn.Module, method: str, name: str) -> Callable[..., Any]:
    if not hasattr(model, method):
        raise UserError(f"{name} cannot recompute its activations; leave out --set grad_checkpointing=true")
    return getattr(model, method)


def _compare(path: Path, task: Classify) -> None:
    """Adds to the log what simpler methods reach on the same data."""
    if run_folder.result(path).comparisons:
        return
    with log.Log(path / "log.jsonl", 0) as rows:
        for method, value in pixel_baselines(task.train, task.val):
            rows.row("comparison", task.recipe.steps or 0, method=method, value=value)


def _free_memory() -> int:
    """Bytes; 0 where the system does not tell, and then nothing is kept."""
    if "SC_AVPHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return 0
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _text(place: str | Path | None) -> str | None:
    return None if place is None else str(place)
