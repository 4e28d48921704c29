"""train, evaluate, predict, check, convert as functions: what the command line calls, and what a script may."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import files, recipe as recipes_io
from .data import sources
from .data.check import FolderReport
from .data.check import check as check_folder
from .data.images import IMAGE_SUFFIXES, open_image
from .data.transforms import Preprocess, views
from .errors import UserError
from .models import create_model, from_pretrained, load_weights, save_weights
from .recipe import Recipe
from .recipes import folder, get_recipe
from .tasks.classify import Classify, mean_area
from .training import budget, engine, log, optim, runtime, state
from .training.runtime import Runtime

CACHE_SHARE = 0.25  # of free memory: decoded images are kept when they take no more than this


@dataclass(frozen=True)
class RunResult:
    """What a training run left: its folder, the best metric in percent, and the rows of its log."""

    path: Path
    metric: float
    history: list[dict[str, Any]]
    comparisons: list[tuple[str, float]] = field(default_factory=list)  # what simpler methods reach on the same data, in percent


@dataclass(frozen=True)
class Prediction:
    """The classes of one image, most probable first."""

    path: str
    top: tuple[tuple[str, float], ...]
    error: str | None = None  # why the file could not be read


def train(data: str | Path | None = None, recipe: str | Recipe | None = None, *, out: str | Path | None = None,
          settings: dict[str, Any] | None = None, resume: bool = False, labels: str | Path | None = None,
          val_fraction: float = 0.2, report: bool = True) -> RunResult:  # fmt: skip
    """Trains on a folder of images (None: the built-in digits) and returns the run.

    `recipe` is a name, a recipe.json or a Recipe; by default `finetune` when `settings` names weights, else `scratch`.
    `settings` override recipe fields by dotted name. `resume` continues the run in `out`. Raises UserError for whatever
    the user can mend, before anything is written; engine.NonFiniteLoss when training diverges.
    """
    settings = dict(settings or {})
    if resume:
        data, recipe, settings = _resumed(data, out, settings)
    elif not isinstance(recipe, Recipe):
        recipe = get_recipe(recipe or ("finetune" if settings.get("weights") else "scratch"))
    given = recipe
    with runtime.start(str(settings.get("precision", given.precision))) as run:
        splits = sources.open_data(data, val_fraction=val_fraction, multi_label_csv=labels)
        resolved, choices = _derive(given, splits, settings, run)
        path = Path(run.from_main(str(_run_folder(out, resolved, resume) if run.main else "")))
        if resume and _finished(path):
            return _result(path)
        task = make_task(splits, resolved, run)
        model = _make_model(resolved, task, run)
        with files.locked(path) if run.main else _nothing():
            return _train(path, task, model, resolved, choices, given.derive, settings, splits, run, resume, report)


def _train(path: Path, task: Classify, model: nn.Module, recipe: Recipe, choices: list[folder.Choice], rule: str,
           settings: dict[str, Any], splits: sources.Splits, run: Runtime, resume: bool, report: bool) -> RunResult:  # fmt: skip
    if not resume:
        recipe, more = _settle(task, model, recipe, rule, settings, run)
        choices = choices + more
    task.recipe = recipe
    train_state = state.TrainState(model, optim.make_optimiser(model, recipe.optim))
    if recipe.ema is not None:
        train_state.start_average()
    if resume:
        if state.restore(train_state, path) is None and run.main:
            print(f"{path} holds no checkpoint yet; starting from the beginning")
        if run.main:
            log.cut(path / "log.jsonl", train_state.step)
    elif run.main:
        _open_run(path, recipe, splits, choices, task, run)
    preprocess = task.preprocess

    def publish(now: state.TrainState, metrics: dict[str, float]) -> None:
        assert now.best is not None
        metadata = {"classes": json.dumps(list(task.val.classes)), "preprocess": json.dumps(preprocess.to_dict()),
                    "metric": json.dumps(metrics), "which": now.best.which, "licence": "the training data's and weights' owner's",
                    "loss": recipe.loss}  # fmt: skip
        with now.averaged() if now.best.which == "ema" else _nothing():
            save_weights(now.model, path / "model.safetensors", metadata=metadata)

    engine.fit(task, train_state, recipe, path, run, publish=publish)
    if report and run.main:
        write_report(path, task, replace(run, rank=0, world=1))
    run.barrier()
    return _result(path)


def make_task(splits: sources.Splits, recipe: Recipe, run: Runtime, cache: bool = True) -> Classify:
    """The sources of a data set under a recipe; decoded images stay in memory where they fit."""
    limit = int(_free_memory() * CACHE_SHARE / run.world) if cache else 0
    train_source, val_source = sources.cached(splits.train, limit), sources.cached(splits.val, limit)
    return Classify(train_source, val_source, recipe, Preprocess.for_size(recipe.image_size), run)


def write_report(path: Path, task: Classify, run: Runtime) -> Path:
    """Evaluates the run's model.safetensors on the validation set and writes report/index.html."""
    import numpy as np

    from .explain import class_activation_map, overlay
    from .report import Evidence
    from .report import write_report as write
    from .tasks.baselines import pixel_baselines

    task.run = run
    model = from_pretrained(path / "model.safetensors").to(run.device)
    rows: list[dict[str, Any]] = []
    task.evaluate(model, rows.append)
    probs = np.stack([row["probabilities"] for row in rows])
    targets = np.array([row["target"] for row in rows])
    place = {name: i for i, name in enumerate(task.val.ids)}
    classes = list(task.val.classes)
    cams = []
    if not task.multi_label:
        chosen = _one_per_class([r["target"] for r in rows], limit=8)
        pictures = [task.val[place[rows[i]["id"]]].image for i in chosen]
        tensors = torch.stack([task.preprocess(picture) for picture in pictures]).to(run.device)
        maps = class_activation_map(model, tensors, torch.tensor([int(probs[i].argmax()) for i in chosen]))
        cams = [(overlay(picture, heat), f"{classes[int(probs[i].argmax())]} ({probs[i].max():.0%})")
                for picture, heat, i in zip(pictures, maps, chosen, strict=True)]  # fmt: skip
    start = log.read(path / "log.jsonl")[0]
    evidence = Evidence(
        classes=classes, ids=[row["id"] for row in rows], probs=probs, targets=targets,
        loader=lambda name: task.val[place[name]].image, cams=cams, command=start["command"],
        comparisons=pixel_baselines(task.train, task.val),
    )  # fmt: skip
    return write(path, evidence)


def evaluate(checkpoint: str | Path, data: str | Path | None = None, *, flip: bool = False, crops: int = 1, batch_size: int = 256,
             split: str = "val", labels: str | Path | None = None, precision: str = "auto") -> dict[str, float]:  # fmt: skip
    """Accuracy of a checkpoint on a data set by the protocol stored with it; `flip` and `crops` average more views.

    Classes are matched by name, so a folder may hold fewer of them in any order. Raises UserError when a class of the
    folder is unknown to the checkpoint.
    """
    model = from_pretrained(checkpoint)
    preprocess = Preprocess.from_dict(model.preprocess)
    splits = sources.open_data(data, multi_label_csv=labels)
    source = sources.relabelled(splits.train if split == "train" else splits.val, model.classes)
    with runtime.start(precision) as run:
        recipe = Recipe(image_size=preprocess.size, batch_size=1, loss="bce" if source.multi_label else "softmax")
        several = _Views(preprocess, flip, crops) if flip or crops > 1 else None
        task = Classify(source, source, recipe, preprocess, run, eval_batch=batch_size, views=several)
        return task.evaluate(model.to(run.device).eval())


def predict(checkpoint: str | Path, images: Iterable[str | Path], *, top: int = 5, batch_size: int = 64,
            precision: str = "auto") -> list[Prediction]:  # fmt: skip
    """Names and probabilities for files, folders and glob patterns; an unreadable file yields a Prediction with `error`.

    Raises UserError when nothing is found at a given place.
    """
    model = from_pretrained(checkpoint)
    preprocess = Preprocess.from_dict(model.preprocess)
    paths = list(itertools.chain.from_iterable(_expand(str(image)) for image in images))
    results: list[Prediction] = []
    with runtime.start(precision) as run:
        model = model.to(run.device).eval()
        for i in range(0, len(paths), batch_size):
            results += _predict_batch(model, preprocess, paths[i : i + batch_size], top, run)
    return results


def check(data: str | Path) -> FolderReport:
    """What is in a folder, and whether it is fit to train on."""
    return check_folder(data)


def convert(source: str | Path, target: str | Path, *, naming: str = "official", model: str | None = None, ema: bool | None = None) -> str:
    """Rewrites a checkpoint in another naming; returns what was read and written, for people.

    `model` names the size when the source is not one of our files; otherwise it is recognised from the shapes.
    """
    from .models.zoo import model_for

    network = model_for(source, name=model, ema=ema)
    report = load_weights(network, source, ema=ema)
    save_weights(network, Path(target), naming=naming)
    return f"{report}\nwritten to {target} in {naming} naming"


class _Views:
    """Several views of one image, picklable for loader processes."""

    def __init__(self, preprocess: Preprocess, flip: bool, crops: int) -> None:
        self.preprocess, self.flip, self.crops = preprocess, flip, crops

    def __call__(self, image: Any) -> Tensor:
        return views(image, self.preprocess, flip=self.flip, crops=self.crops)


def _derive(given: Recipe, splits: sources.Splits, settings: dict[str, Any], run: Runtime) -> tuple[Recipe, list[folder.Choice]]:
    counts = splits.train.class_counts()
    facts = folder.Facts(
        images=len(splits.train), classes=len(splits.train.classes), size=splits.train.typical_size,
        smallest_class=min(counts), largest_class=max(counts), multi_label=splits.train.multi_label,
        native=splits.train.native, few_steps=run.device.type == "cpu",
    )  # fmt: skip
    resolved, choices = folder.derive(given, facts, settings)
    resolved = replace(resolved, precision=run.precision, num_classes=resolved.num_classes or facts.classes)
    if resolved.batch_size > facts.images:
        raise UserError(f"the batch of {resolved.batch_size} is larger than the {facts.images} training images; pass a smaller --batch-size")
    if resolved.num_classes != facts.classes:
        raise UserError(f"the recipe is for {resolved.num_classes} classes, {splits.name} has {facts.classes}; set num_classes=none")
    return resolved, choices


def _settle(task: Classify, model: nn.Module, recipe: Recipe, rule: str, settings: dict[str, Any],
            run: Runtime) -> tuple[Recipe, list[folder.Choice]]:  # fmt: skip
    if recipe.auto_batch:
        recipe = replace(recipe, micro_batch=run.from_main(budget.largest_micro_batch(recipe, _trial(model, recipe, run))))
        task.recipe = recipe
    per_epoch = task.steps_per_epoch
    if recipe.steps is not None:
        return recipe, []
    if recipe.minutes is None:
        steps = max(1, round(recipe.epochs * per_epoch))
    else:
        probe = recipe if rule == "none" or "ema" in settings else replace(recipe, ema=0.99)
        speed = budget.measure(task, model, probe, run)
        if "eval_every" not in settings:
            recipe = replace(recipe, eval_every=budget.evaluations(recipe.minutes, speed, probe, per_epoch))
            probe = replace(probe, eval_every=recipe.eval_every)
        steps = run.from_main(budget.steps_within(recipe.minutes, speed, probe, per_epoch, relative_cost=mean_area(probe)))
        recipe = replace(recipe, epochs=steps / per_epoch)
    return folder.settle(recipe, rule, steps, per_epoch, settings)


def _trial(model: nn.Module, recipe: Recipe, run: Runtime) -> Any:
    def attempt(size: int) -> None:
        with run.autocast():
            model(torch.zeros(size, 3, recipe.image_size, recipe.image_size, device=run.device)).float().sum().backward()
        model.zero_grad(set_to_none=True)

    return attempt


def _make_model(recipe: Recipe, task: Classify, run: Runtime) -> nn.Module:
    torch.manual_seed(recipe.seed)
    model = create_model(
        recipe.model, num_classes=task.num_classes, drop_path_rate=recipe.drop_path, drop_rate=recipe.dropout,
        layer_scale_init_value=recipe.layer_scale, head_init_scale=recipe.head_init_scale,
        patch_size=recipe.patch_size, depths=recipe.depths, dims=recipe.dims,
    )  # fmt: skip
    if recipe.weights is not None:
        report = load_weights(model, recipe.weights)
        if run.main:
            print(report)
    if recipe.grad_checkpointing:
        model.set_grad_checkpointing(True)  # type: ignore[operator]
    if recipe.freeze_backbone:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.startswith(("head.", "fc.", "classifier."))
    layout = torch.channels_last if recipe.channels_last else torch.preserve_format
    return model.to(run.device, memory_format=layout)  # type: ignore[call-overload]


def _run_folder(out: str | Path | None, recipe: Recipe, resume: bool) -> Path:
    if out is None:
        names = (Path("runs") / f"{recipe.name.replace('/', '-')}-{n}" for n in itertools.count(1))
        out = next(path for path in names if not path.exists())
    path = Path(out)
    if not resume and path.exists() and (path.is_file() or any(p.name != files.LOCK_NAME for p in path.iterdir())):
        raise UserError(f"{path} exists and is not empty; pass --resume to continue that run, or choose another --out")
    files.make_writable_folder(path)
    return path


def _open_run(path: Path, recipe: Recipe, splits: sources.Splits, choices: list[folder.Choice], task: Classify, run: Runtime) -> None:
    files.write_text(path / "recipe.json", recipes_io.to_json(recipe))
    files.write_text(path / "classes.json", json.dumps(list(splits.val.classes), indent=2, ensure_ascii=False) + "\n")
    command = f"convnext train {shlex.quote(splits.name)} --recipe {shlex.quote(str(path / 'recipe.json'))}"
    row = {"kind": "start", "step": 0, "data": splits.name, "fingerprint": sources.fingerprint(splits.train), "command": command,
           "machine": runtime.describe(), "choices": [asdict(choice) for choice in choices]}  # fmt: skip
    files.write_text(path / "log.jsonl", json.dumps(row) + "\n")
    parameters = sum(p.numel() for p in create_model_shape(recipe, task).parameters())
    per_device = -(-recipe.batch_size // run.world)
    print(f"{splits.note}\n{recipe.model}: {parameters / 1e6:.2f} M parameters, {recipe.image_size} pixels, {recipe.precision}, "
          f"{run.world} x {run.device.type}; total batch {recipe.batch_size} = {run.world} x {per_device} in micro-batches of "
          f"{min(recipe.micro_batch or per_device, per_device)}; {recipe.steps} steps = {(recipe.steps or 0) / task.steps_per_epoch:.1f} epochs")  # fmt: skip
    for choice in choices:
        print(f"  {choice.field} = {choice.value}: {choice.why}")
    print(f"run folder: {path}", flush=True)


def create_model_shape(recipe: Recipe, task: Classify) -> nn.Module:
    """The recipe's network without memory for its values."""
    with torch.device("meta"):
        return create_model(recipe.model, num_classes=task.num_classes, patch_size=recipe.patch_size, depths=recipe.depths,
                            dims=recipe.dims, layer_scale_init_value=recipe.layer_scale)  # fmt: skip


def _resumed(data: str | Path | None, out: str | Path | None, settings: dict[str, Any]) -> tuple[str | Path | None, Recipe, dict[str, Any]]:
    if out is None:
        raise UserError("--resume needs --out, the folder of the run to continue")
    path = Path(out)
    if not (path / "recipe.json").exists():
        raise UserError(f"{path} holds no run to resume (no recipe.json); start it without --resume")
    if settings:
        raise UserError(f"a resumed run keeps its recipe; leave out {', '.join(settings)} or start a new run")
    recipe = recipes_io.from_json((path / "recipe.json").read_text(encoding="utf-8"))
    start = log.read(path / "log.jsonl")[0]
    data = data if data is not None else start["data"]
    found = sources.fingerprint(sources.open_data(data).train)
    if found != start["fingerprint"]:
        raise UserError(f"the data at {data} has changed since {path} was started; resume with the same images or start a new run")
    return data, recipe, {}


def _finished(path: Path) -> bool:
    return any(row["kind"] == "end" for row in log.read(path / "log.jsonl"))


def _result(path: Path) -> RunResult:
    rows = log.read(path / "log.jsonl")
    best = [row for row in rows if row["kind"] == "eval" and row["best"]]
    return RunResult(path, best[-1]["value"], rows)


def _expand(where: str) -> list[str]:
    import glob

    path = Path(where)
    if path.is_dir():
        found = sorted(str(p) for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not found:
            raise UserError(f"{where} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return found
    if path.exists():
        return [where]
    if found := sorted(glob.glob(where, recursive=True)):
        return found
    raise UserError(f"nothing found at {where}; give image files, folders or glob patterns")


def _predict_batch(model: Any, preprocess: Preprocess, paths: Sequence[str], top: int, run: Runtime) -> list[Prediction]:
    tensors, readable, results = [], [], {}
    for path in paths:
        try:
            tensors.append(preprocess(open_image(path, name=path)))
            readable.append(path)
        except UserError as error:
            results[path] = Prediction(path, (), str(error))
    if tensors:
        with torch.inference_mode(), run.autocast():
            probabilities = model(torch.stack(tensors).to(run.device)).float().softmax(-1).cpu()
        values, indices = probabilities.topk(min(top, probabilities.shape[1]))
        for path, row, places in zip(readable, values.tolist(), indices.tolist(), strict=True):
            names = [model.classes[i] if model.classes else str(i) for i in places]
            results[path] = Prediction(path, tuple(zip(names, row, strict=True)))
    return [results[path] for path in paths]


def _one_per_class(targets: Sequence[int], limit: int) -> list[int]:
    first: dict[int, int] = {}
    for i, target in enumerate(targets):
        first.setdefault(target, i)
    return sorted(first.values())[:limit]


def _free_memory() -> int:
    import os

    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()
