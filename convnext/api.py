"""train, evaluate, predict, check, convert as functions: what the command line calls, and what a script may."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from . import files
from .classification.predict import Prediction
from .data.find_images import Listing, list_images
from .data.images import readable
from .data.report import FolderReport, Problem
from .data.request import DataRequest
from .data.splits import Pictures, Split, Splits
from .detection import yolo
from .errors import UserError
from .pretrained import carried, from_pretrained, load_weights, model_for, save_weights
from .recipes import apart, everyday_name, get_recipe, length, roadmap
from .recipes.everyday import Choice
from .recipes.recipe import Recipe, Settings, TestMode, override, to_dict
from .studies import ablation
from .studies import folds as fold_runs
from .tasks import DEFAULT, TASKS, derive, open_data, require_read, slice_of, task_slice
from .tasks.look import Look, look_at, require, require_for_model, require_understood
from .tasks.options import require_drawing, require_evaluable, require_predictable
from .training import budget, run_folder, runtime
from .training.run import TrainingRun, judged_at_the_end
from .training.run_folder import RunResult
from .training.runtime import Runtime
from .training.slice import Answer, AnySlice, CheckRequest, EvaluateOptions, PredictOptions, Result
from .weights.checkpoint import find
from .weights.load_report import require_whole

__all__ = ["Prediction", "RunResult", "ablate", "check", "convert", "evaluate", "import_yolo", "predict",
           "predictions", "train", "train_folds"]  # fmt: skip


def train(
    data: str | Path | None = None,
    recipe: str | Path | Recipe | None = None,
    *,
    out: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    resume: bool = False,
    labels: str | Path | None = None,
    val_fraction: float = DataRequest.val_fraction,
    fold: tuple[int, int] | None = None,
    report: bool = True,
    began: float | None = None,
) -> RunResult:
    """Trains on a folder of images (None: the built-in digits) and returns the run.

    `recipe` is a name, a recipe.json or a Recipe; by default the everyday one for what the folder holds:
    `detect`, `segment`, or for classes `finetune` when `settings` names weights, else `classify`.
    `fold`: (1, 5) judges on the first of five folds of a folder without a split, which chooses nothing (`train_folds`
    trains them all). `settings` override recipe fields by dotted name. `minutes` count from `began` (time.monotonic();
    None: now) to the page. `resume` continues the run in `out`, and takes those `settings` that run_folder.ON_RESUMING
    names. Raises UserError for what the user can mend, before anything is written; engine.NonFiniteLoss on divergence.
    """
    clock = budget.Clock(called := time.monotonic(), began or called, page=report)
    settings = length.require_one(dict(settings or {}))
    request = DataRequest(_text(data), _text(labels), val_fraction, *(fold or ()))
    start = _resumed(request, recipe, settings, out) if resume else _fresh(request, recipe, settings, out)
    kind = task_slice(start.given.task)
    with runtime.start(str(start.settings.get("precision", start.given.precision))) as run:
        if run.is_main and start.seen:
            print(start.seen, flush=True)
        training, given, choices = _prepared(start, kind, run, out, clock)
        path = training.path
        with files.locked(path) if run.is_main else contextlib.nullcontext():
            if not (resume and run.broadcast(run.is_main and _found_finished(path))):
                training.require_record()
                if not resume:
                    training.begin(given, start.settings, choices)
                training.fit(resume=resume)
            outcome = run.broadcast(run_folder.result(path) if run.is_main else None)
    if run.is_main:
        return _finished(training, report)
    assert outcome is not None  # the main process's
    return outcome


@dataclass(frozen=True)
class _Start:
    """What a run is started with, or was."""

    given: Recipe
    settings: Settings
    request: DataRequest
    named: str | Path | Recipe | None  # the recipe, as the user named it
    splits: Splits[Pictures] | None = None  # of a run that is resumed
    seen: str = ""  # what the folder holds, and the recipe for that

    @property
    def resumed(self) -> bool:
        return self.splits is not None


def _fresh(
    request: DataRequest, recipe: str | Path | Recipe | None, settings: Settings, out: str | Path | None
) -> _Start:
    given, seen = _chosen(recipe, look_at(request.data, request.labels), settings, out)
    require_read(given.task, settings)
    if isinstance(recipe, Recipe):
        given, settings = apart(recipe, settings)
    return _Start(given, settings, request, recipe, seen=seen)


def _resumed(
    request: DataRequest, recipe: str | Path | Recipe | None, settings: Settings, out: str | Path | None
) -> _Start:
    if recipe is not None:
        raise UserError("a resumed run keeps its recipe; leave it out or start a new run")
    request, splits, given = run_folder.reopen(out, request, settings, open_data)
    require_read(given.task, settings)
    return _Start(given, settings, request, None, splits)


def _prepared(
    start: _Start, kind: AnySlice, run: Runtime, out: str | Path | None, clock: budget.Clock
) -> tuple[TrainingRun, Recipe, list[Choice]]:
    """The run in its folder; the recipe it was given, and what was chosen so far. UserError for what cannot be."""
    given, settings, resume = start.given, start.settings, start.resumed
    with run.main_process_first():  # downloads, where they were asked for
        splits = start.splits or open_data(start.request, override(given, settings))
        elsewhere = run_folder.is_of_other_data(start.named, splits)
        given, said = length.replayed(given, settings, same_data=not elsewhere)
        resolved, choices = derive(given, splits, settings, run, resumed=resume, elsewhere=elsewhere)
    assert resolved.precision != "auto"
    run = replace(run, precision=resolved.precision)
    path = Path(run.broadcast(str(run_folder.choose(out, resolved, resume=resume)) if run.is_main else ""))
    task = kind.make_task(splits, resolved, run)
    with run.main_process_first():
        model = kind.make_model(resolved, task, run)
    if run.is_main:
        path = run_folder.make(path, resolved, numbered=out is None)
    path = Path(run.broadcast(str(path)))
    return TrainingRun(path, kind, task, model, splits, start.request, run, clock, save_weights), given, said + choices


def _finished(training: TrainingRun, report: bool) -> RunResult:
    """Judges what was published on the test pictures, writes the page, and tells what the run has left."""
    path, task, run = training.path, training.task, training.run
    task.alone()  # the group is gone: nobody has to wait for what follows

    def published() -> nn.Module:
        model: nn.Module = from_pretrained(path / "model.safetensors").to(run.device)
        return model

    with files.locked(path):
        final = judged_at_the_end(path, task, training.splits.test, published)
        if report and len(final.val) and not (path / run_folder.PAGE).exists():
            training.kind.finish(path, final, published())
    return run_folder.result(path)


def _found_finished(path: Path) -> bool:
    """Whether the run that is to be resumed is at its end, which is said."""
    if found := run_folder.finished(path):
        print(run_folder.told_finished(path), flush=True)
    return found


def train_folds(
    data: str | Path,
    recipe: str | Path | Recipe | None = None,
    *,
    folds: int,
    out: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    labels: str | Path | None = None,
    report: bool = True,
    say: Callable[[str], None] = print,
) -> fold_runs.Summary:
    """Trains as `train` does, once for each of so many folds of a folder without a split; returns `folds.summary`.

    Called again it goes on where it was. Raises UserError as `train`, and when `out` holds other folds.
    """
    given, _ = _chosen(recipe, look_at(data, labels), dict(settings or {}), out)
    request = DataRequest(_text(data), _text(labels), fold=1, folds=folds)
    first = open_data(request, given)  # whatever is wrong with the data is said before there is a folder
    plan: fold_runs.Plan = {
        "data": _text(data),
        "labels": _text(labels),
        "folds": folds,
        "settings": dict(settings or {}),
        "recipe": to_dict(given),
        "pictures": run_folder.fingerprint(first),
    }

    folder = fold_runs.choose(out)

    def execute(number: int, path: Path, resume: bool) -> None:
        if resume:
            train(out=path, resume=True, report=report)
        else:
            own = fold_runs.like_the_first(folder, dict(settings or {}), say)
            train(data, recipe, out=path, settings=own, labels=labels, fold=(number, folds), report=report)

    return fold_runs.run(folder, plan, folds, execute, say)


def _chosen(
    recipe: str | Path | Recipe | None, look: Look, settings: Settings, out: str | Path | None
) -> tuple[Recipe, str]:
    """The recipe that was named, if it is for what the folder holds; else the everyday one, and a sentence on why.

    Raises UserError where none fits, or results would lie among the pictures.
    """
    run_folder.require_outside(out, look.name)
    if recipe is not None:
        given = recipe if isinstance(recipe, Recipe) else get_recipe(recipe)
        require(look, given.task, given.name)
        return given, ""
    require_understood(look)
    name = everyday_name(look.task or DEFAULT, settings.get("weights"))  # an unknown place: its reader says what lacks
    others = f"; {look.others()}" if look.others() else ""
    return get_recipe(name), f"{look}: {TASKS[look.task]}, by the recipe {name}{others}" if look.task else ""


def ablate(
    data: str | Path,
    recipe: str | Path | Recipe = "roadmap/small",
    *,
    steps: Iterable[int] | None = None,
    seeds: int = 2,
    out: str | Path = "runs/roadmap",
    settings: Mapping[str, object] | None = None,
    say: Callable[[str], None] = print,
) -> list[ablation.StepRow]:
    """Trains steps of the roadmap (None: all) with several seeds under one recipe; returns the table's rows so far.

    Called again it goes on where it was; called twice at once, the two share the work. Raises UserError as `train`
    does, and when `out` holds another ablation.
    """
    chosen = override(recipe if isinstance(recipe, Recipe) else get_recipe(recipe), settings or {})
    if seeds < 1:
        raise UserError(f"--seeds {seeds} must be at least 1")
    run_folder.require_outside(out, data)
    require(look_at(data), chosen.task, chosen.name)
    regime, _, _ = roadmap.parse(chosen.model)
    numbers = range(len(roadmap.STEPS[regime])) if steps is None else sorted(set(steps))
    folder, request = Path(out), DataRequest(str(Path(data).expanduser()))
    open_data(request, chosen)  # whatever is wrong with the data is said before the ablation has a folder

    def execute(job: Recipe, path: Path, resume: bool) -> None:
        train(None if resume else data, None if resume else job, out=path, resume=resume, report=False)

    ablation.run(folder, request, roadmap.jobs(chosen, numbers, range(seeds)), execute, say)
    return ablation.table(folder)


def evaluate(
    checkpoint: str | Path,
    data: str | Path | None = None,
    *,
    flip: bool = False,
    crops: int = 1,
    batch_size: int = 256,
    split: Split = "val",
    labels: str | Path | None = None,
    mode: TestMode | None = None,
    precision: str = "auto",
    per_class: bool = False,
    say: Callable[[str], None] | None = None,
) -> Result:
    """Accuracy of a checkpoint on a data set by the protocol stored with it; `flip` and `crops` average more views.

    Classes are matched by name, so a folder may hold fewer of them in any order. Of a folder without a split all
    images count, but for those that the model learned from; `say` is told which were judged. Raises UserError when a
    class of the folder is unknown to the checkpoint, or where one has several labels an image and the other one.

    "intervals" holds 95 % intervals of those figures that have one, and with `per_class` "classes" has a row for each.
    `precision`: "fp32", "bf16", or "auto" for the one that the model's own figure was measured in (fp32 where its file
    does not say). Of a detector: COCO's figures. Of a segmenter: mIoU, seen as `mode` says (None: in sliding windows).
    """
    if batch_size < 1:
        raise UserError(f"a batch of {batch_size} holds no image; pass a positive --batch-size")
    options = EvaluateOptions(flip, crops, batch_size, split, labels, mode, precision, per_class, say)
    model = from_pretrained(checkpoint)
    kind = slice_of(model)
    require_for_model(look_at(data, labels), kind.name, checkpoint)
    require_evaluable(kind, checkpoint, options)
    return kind.evaluate(model, checkpoint, data, options)


def predict(
    checkpoint: str | Path,
    images: Iterable[str | Path],
    *,
    top: int = 5,
    batch_size: int | None = None,
    precision: str = "auto",
    least_score: float | None = None,
    mode: TestMode | None = None,
    out: str | Path | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Any]:  # answers of the model's task: Prediction, DetectionPrediction, …
    """Names and probabilities for files, folders and glob patterns; what is missing or unreadable has an `error`.

    Of a detector: the objects with a score of at least `least_score` (None: 0.3); `out` is a folder for the pictures
    with them drawn in. Of a segmenter: the share of each class; `out` is a folder for masks and pictures under them.
    Raises UserError when there is nothing at any of the places, or `out` is asked of a classifier.
    """
    options = PredictOptions(top, batch_size, precision, least_score, mode, None if out is None else Path(out), say)
    return list(predictions(checkpoint, list_images(images), options))


def predictions(checkpoint: str | Path, listing: Listing, options: PredictOptions) -> Iterator[Answer]:
    """The answers of `predict` one by one, in the order of the listing, as they come: none is kept here."""
    if options.top < 1:
        raise UserError(f"--top {options.top} names no class; pass at least 1")
    model = from_pretrained(checkpoint)
    kind = slice_of(model)
    require_predictable(kind, checkpoint, options)
    answers = kind.predict(model, checkpoint, [path for path in listing.paths if path not in listing.lost], options)
    require_drawing(kind, checkpoint, options)  # after what the model itself is refused for
    for path in listing.paths:
        yield kind.unreadable(path, listing.lost[path]) if path in listing.lost else next(answers)


def check(
    data: str | Path,
    *,
    labels: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[Problem], None] | None = None,
) -> FolderReport:
    """What is in a folder, and whether it is fit to train on; `labels` as `train` takes it.

    `progress` is called with the pictures looked at and in all, `tell` with each unusable picture as it is found.
    Nothing is raised for what can be described: UserError only when there is no such folder or it cannot be listed.
    """
    look = look_at(data, labels)
    if not look.understood:
        return FolderReport(readable(str(data)), {}, [Problem("not understood", ".", str(look))])
    return task_slice(look.task or DEFAULT).check(CheckRequest(str(data), look.kind, labels, progress, tell))


def import_yolo(data: str | Path, out: str | Path | None = None) -> list[str]:
    """Writes COCO annotation files for a folder with labels in YOLO's format; returns a sentence for each."""
    return yolo.import_yolo(data, out)


def convert(
    source: str | Path,
    target: str | Path,
    *,
    naming: str = "official",
    model: str | None = None,
    ema: bool | None = None,
) -> str:
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
