"""train, evaluate, predict, check, convert as functions: what the command line calls, and what a script may."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import files, run_folder, sweep
from . import folds as fold_runs
from .data import yolo
from .data.check import FolderReport
from .data.check import check as check_folder
from .data.findings import Problem
from .data.look import EVERYDAY, TASKS, Look, look_at, require, require_understood
from .errors import UserError
from .inference import Prediction, evaluate, predict
from .jobs import derive, job_of, require_read
from .models import load_weights, save_weights
from .models.checkpoint import find
from .models.loading import require_whole
from .models.zoo import carried, model_for
from .recipe import Recipe, override, to_dict
from .recipes import apart, get_recipe, length, roadmap
from .run_folder import DataRequest, RunResult
from .session import Session, judged_at_the_end
from .training import budget, runtime
from .variants import STARTER

__all__ = ["Prediction", "RunResult", "ablate", "check", "convert", "evaluate", "import_yolo", "predict", "train",
           "train_folds"]  # fmt: skip


def train(data: str | Path | None = None, recipe: str | Recipe | None = None, *, out: str | Path | None = None,
          settings: dict[str, Any] | None = None, resume: bool = False, labels: str | Path | None = None,
          val_fraction: float = DataRequest.val_fraction, fold: tuple[int, int] | None = None,
          report: bool = True, began: float | None = None) -> RunResult:  # fmt: skip
    """Trains on a folder of images (None: the built-in digits) and returns the run.

    `recipe` is a name, a recipe.json or a Recipe; by default the everyday one for what the folder holds (data/look.py):
    `detect`, `segment`, or for classes `finetune` when `settings` names weights, else `classify`.
    `fold`: (1, 5) judges on the first of five folds of a folder without a split, which chooses nothing (`train_folds`
    trains them all). `settings` override recipe fields by dotted name. `minutes` count from `began` (time.monotonic();
    None: now) to the page. `resume` continues the run in `out`, and takes those `settings` that run_folder.ON_RESUMING
    names. Raises UserError for what the user can mend, before anything is written; engine.NonFiniteLoss on divergence.
    """
    clock = budget.Clock(called := time.monotonic(), began or called, page=report)
    settings = length.require_one(dict(settings or {}))
    request = DataRequest(_text(data), _text(labels), val_fraction, *(fold or ()))
    splits: Any = None
    seen = ""
    if resume:
        if recipe is not None:
            raise UserError("a resumed run keeps its recipe; leave it out or start a new run")
        request, splits, given = run_folder.reopen(out, request, settings)
    else:
        given, seen = _chosen(recipe, look_at(data, labels), settings, out)
    require_read(given.task, settings)
    if isinstance(recipe, Recipe):
        given, settings = apart(recipe, settings)
    job = job_of(given)
    with runtime.start(str(settings.get("precision", given.precision))) as run:
        if run.main and seen:
            print(seen, flush=True)
        with run.main_first():  # downloads, where they were asked for
            splits = splits or request.open(override(given, settings))
            elsewhere = run_folder.is_of_other_data(recipe, splits)
            given, said = length.replayed(given, settings, same_data=not elsewhere)
            resolved, choices = derive(given, splits, settings, run, resumed=resume, elsewhere=elsewhere)
        run = replace(run, precision=resolved.precision)
        path = Path(run.from_main(str(run_folder.choose(out, resolved, resume=resume)) if run.main else ""))
        task = job.make_task(splits, resolved, run)
        with run.main_first():
            model = job.make_model(resolved, task, run)
        if run.main:
            path = run_folder.make(path, resolved, numbered=out is None)
        path = Path(run.from_main(str(path)))
        with files.locked(path) if run.main else contextlib.nullcontext():
            if not (resume and run.from_main(run.main and _found_finished(path))):
                session = Session(path, task, model, splits, request, run, clock)
                if not resume:
                    session.begin(given, settings, said + choices)
                session.fit(resume=resume)
                task = session.task
            outcome = run.from_main(run_folder.result(path) if run.main else None)
    if not run.main:
        return outcome
    task.run = replace(run, world=1)  # the group is gone: nobody has to wait for what follows
    with files.locked(path):
        final = judged_at_the_end(path, task, getattr(splits, "test", None))
        if report and len(final.val) and not (path / run_folder.PAGE).exists():
            job.finish(path, final)
    return run_folder.result(path)


def _found_finished(path: Path) -> bool:
    """Whether the run that is to be resumed is at its end, which is said."""
    if found := run_folder.finished(path):
        print(run_folder.told_finished(path), flush=True)
    return found


def train_folds(data: str | Path, recipe: str | Recipe | None = None, *, folds: int, out: str | Path | None = None,
                settings: dict[str, Any] | None = None, labels: str | Path | None = None, report: bool = True,
                say: Callable[[str], None] = print) -> dict[str, Any]:  # fmt: skip
    """Trains as `train` does, once for each of so many folds of a folder without a split; returns `folds.summary`.

    Called again it goes on where it was. Raises UserError as `train`, and when `out` holds other folds.
    """
    given, _ = _chosen(recipe, look_at(data, labels), dict(settings or {}), out)
    request = DataRequest(_text(data), _text(labels), fold=1, folds=folds)
    first = request.open(given)  # whatever is wrong with the data is said before there is a folder
    plan = {"data": _text(data), "labels": _text(labels), "folds": folds, "settings": settings or {},
            "recipe": to_dict(given), "pictures": run_folder.fingerprint(first)}  # fmt: skip

    folder = fold_runs.choose(out)

    def execute(number: int, path: Path, resume: bool) -> None:
        if resume:
            train(out=path, resume=True, report=report)
        else:
            own = fold_runs.like_the_first(folder, settings or {}, say)
            train(data, recipe, out=path, settings=own, labels=labels, fold=(number, folds), report=report)

    return fold_runs.run(folder, plan, folds, execute, say)


def _chosen(recipe: str | Recipe | None, look: Look, settings: dict[str, Any],
            out: str | Path | None) -> tuple[Recipe, str]:  # fmt: skip
    """The recipe that was named, if it is for what the folder holds; else the everyday one, and a sentence on why.

    Raises UserError where none fits, or results would lie among the pictures.
    """
    run_folder.require_outside(out, look.name)
    if recipe is not None:
        given = recipe if isinstance(recipe, Recipe) else get_recipe(recipe)
        require(look, given.task, given.name)
        return given, ""
    require_understood(look)
    task = look.task or "classify"  # of an unknown place its reader says what is missing
    start = str(settings.get("weights", "none")).lower() not in ("none", "null", "off", STARTER)
    name = "finetune" if task == "classify" and start else EVERYDAY[task]
    others = f"; {look.others()}" if look.others() else ""
    return get_recipe(name), f"{look}: {TASKS[task]}, by the recipe {name}{others}" if look.task else ""


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
    run_folder.require_outside(out, data)
    require(look_at(data), chosen.task, chosen.name)
    regime, _, _ = roadmap.parse(chosen.model)
    numbers = range(len(roadmap.STEPS[regime])) if steps is None else sorted(set(steps))
    folder, request = Path(out), DataRequest(str(Path(data).expanduser()))
    request.open(chosen)  # whatever is wrong with the data is said before the sweep has a folder

    def execute(job: Recipe, path: Path, resume: bool) -> None:
        train(None if resume else data, None if resume else job, out=path, resume=resume, report=False)

    sweep.run(folder, request, roadmap.jobs(chosen, numbers, range(seeds)), execute, say)
    return sweep.table(folder)


def check(data: str | Path, *, labels: str | Path | None = None, progress: Callable[[int, int], None] | None = None,
          tell: Callable[[Problem], None] | None = None) -> FolderReport:  # fmt: skip
    """What is in a folder, and whether it is fit to train on; `labels` as `train` takes it.

    `progress` is called with the pictures looked at and in all, `tell` with each unusable picture as it is found.
    """
    return check_folder(data, labels=labels, progress=progress, tell=tell)


def import_yolo(data: str | Path, out: str | Path | None = None) -> list[str]:
    """Writes COCO annotation files for a folder with labels in YOLO's format; returns a sentence for each."""
    return yolo.import_yolo(data, out)


def convert(source: str | Path, target: str | Path, *, naming: str = "official", model: str | None = None,
            ema: bool | None = None) -> str:  # fmt: skip
    """Rewrites a checkpoint in another naming; returns what was read and written, for people.

    `model` names the size when the source is not one of our files; otherwise it is recognised from the shapes.
    """
    target = Path(target)
    if target.exists() and target.samefile(find(source, model)[0]):
        raise UserError(f"{target} is what is to be converted, and would be overwritten; choose another target")
    network = model_for(source, name=model, ema=ema)
    found = require_whole(load_weights(network, source, ema=ema))
    save_weights(network, target, naming=naming, metadata=carried(source, model))
    return "\n".join([f"{found}", f"written to {target} in {naming} naming", *_needed_beside(naming, target)])


def _needed_beside(naming: str, target: Path) -> list[str]:
    """What a library's own entry points ask for besides the file."""
    if naming == "timm":
        return [
            f"timm.create_model(…, checkpoint_path={str(target)!r}) loads it as it is; local-dir: and hf-hub: names "
            "ask for a config.json beside it (timm.models.save_for_hf writes one)"
        ]
    if naming == "transformers":
        return [
            "load_state_dict loads it as it is; from_pretrained(FOLDER) asks for a config.json and a "
            "preprocessor_config.json beside it and for the name model.safetensors (save_pretrained writes all three)"
        ]
    return []


def _text(place: str | Path | None) -> str | None:
    return None if place is None else str(place)
