"""The commands that train: train and pretrain. Part of the command line (main.py)."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import UserError
from ..recipes import recipe as recipes_io
from ..system.processes import spread

if TYPE_CHECKING:
    from ..training.run_folder import RunResult


def add_to(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands; `command(name, function, help)` makes one's parser."""
    _train_arguments(command("train", _train, "train on a folder of images (default: the built-in digits)"))
    _pretrain_arguments(command("pretrain", _pretrain, "make a start like the one that ships, from drawn pictures"))


def _train_arguments(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument
    text = (
        "class folders, a table of labels or numbers, masks, or boxes (COCO, YOLO, PASCAL VOC); or digits, cifar10, "
        "imagenette, …"
    )
    add("data", metavar="DATA", nargs="?", help=text)
    text = (
        "default: by what DATA holds, classify, finetune, regress, detect or segment; or scratch, probe, "
        "imagenet1k/tiny, …, a recipe.json"
    )
    add("--recipe", help=text)
    add("--model", "-m", help="convnext_atto … convnext_xlarge, torchvision:NAME, timm:NAME")
    text = "start from a checkpoint, a released name (in22k, …), a hub id, or none; default: what ships, where it helps"
    add("--weights", "--finetune", help=text)
    add("--out", "--output-dir", metavar="DIR", help="run folder (default: runs/<recipe>-<n>)")
    length = sub.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=float)
    length.add_argument(
        "--minutes",
        type=float,
        help="of the whole command (with --folds: of each fold), the page included; the steps that fit are measured",
    )
    add("--batch-size", "-b", metavar="N", help="total batch over all devices, or auto")
    add("--image-size", "--img-size", "--imgsz", metavar="N", type=int)
    add(
        "--precision", choices=("auto", "fp32", "bf16"), help="default: the recipe's; auto: what the device is made for"
    )
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="any recipe field, such as optim.lr=1e-3")
    add(
        "--labels",
        metavar="FILE",
        help="table of path,label, path,labels (a;b) or path,number; or the classes of masks",
    )
    add(
        "--val-fraction",
        type=float,
        default=0.2,
        help="held out of a folder without val/; 0 learns from all and publishes the last weights",
    )
    add(
        "--folds", type=int, metavar="K", help="train K times on K folds of a folder without a split: mean and interval"
    )
    add("--seed", type=int)
    add("--nproc", type=int, help="processes on this machine (one a GPU)")
    add("--resume", action="store_true", help="continue the run in --out")
    add("--no-report", action="store_true", help="leave out the page at the end")


def _pretrain_arguments(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument
    add("--model", "-m", help="convnext_atto … convnext_xlarge (default: convnext_atto)")
    add("--out", metavar="DIR", help="run folder (default: runs/pretrain-<n>); starter.safetensors is written there")
    length = sub.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=float)
    length.add_argument("--minutes", type=float)
    add("--batch-size", "-b", metavar="N", help="total batch over all devices, or auto")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="any recipe field, such as optim.lr=1e-3")
    add("--seed", type=int)
    add("--nproc", type=int, help="processes on this machine (one a GPU)")
    add("--resume", action="store_true", help="continue the run in --out")
    not_asked = dict.fromkeys(("weights", "image_size", "precision", "labels", "folds"))
    sub.set_defaults(data="formulas", recipe="pretrain", val_fraction=0.2, no_report=True, **not_asked)


def _train(options: argparse.Namespace) -> int:
    return _told(_trained(options), _print_result)


def _pretrain(options: argparse.Namespace) -> int:
    if options.resume:
        options.data = options.recipe = None
    return _told(_trained(options), _print_start)


def _told(result: RunResult | int, tell: Callable[[RunResult], None]) -> int:
    """The exit code of `_trained`; on the main process a run is told."""
    if isinstance(result, int):
        return result
    if int(os.environ.get("RANK", 0)) == 0:
        tell(result)
    return 0


def _trained(options: argparse.Namespace) -> RunResult | int:
    """The run, or the exit code where it was trained otherwise: in other processes, or in folds."""
    began = time.monotonic()  # before the libraries are loaded: --minutes counts that too
    settings: recipes_io.Settings = dict(recipes_io.parse_settings(options.set))
    for name in settings:
        recipes_io.check_field(name)
    named = {
        "model": options.model,
        "weights": options.weights,
        "epochs": options.epochs,
        "minutes": options.minutes,
        "image_size": options.image_size,
        "seed": options.seed,
        "precision": options.precision,
    }
    if options.batch_size == "auto":
        named["auto_batch"] = True
    else:
        named["batch_size"] = options.batch_size
    named = {name: value for name, value in named.items() if value is not None}
    if twice := [name for name in named if name in settings]:
        raise UserError(
            f"{twice[0]} is given twice, as {named[twice[0]]} and by --set {twice[0]}="
            f"{settings[twice[0]]}; leave one of them out"
        )
    settings |= named
    if options.folds is not None:
        return _train_folds(options, settings)
    if options.nproc is not None and "RANK" not in os.environ:
        return spread(options.nproc, _without_nproc(options.arguments))
    from ..api import train

    return train(
        options.data,
        options.recipe,
        out=options.out,
        settings=settings,
        resume=options.resume,
        labels=options.labels,
        val_fraction=options.val_fraction,
        report=not options.no_report,
        began=began,
    )


def _train_folds(options: argparse.Namespace, settings: recipes_io.Settings) -> int:
    from ..api import train_folds
    from ..studies.folds import as_text

    if options.nproc is not None or "RANK" in os.environ:
        raise UserError("--folds trains on one device, one fold after the other; leave out --nproc")
    if options.resume:
        raise UserError("folds go on by themselves: repeat the same command, with its --out, without --resume")
    if options.val_fraction != 0.2:
        raise UserError("with --folds each fold is held out in turn; leave out --val-fraction")
    data = options.data or "digits"
    found = train_folds(
        data,
        options.recipe,
        folds=options.folds,
        out=options.out,
        settings=settings,
        labels=options.labels,
        report=not options.no_report,
    )
    print(f"\n{as_text(found, data)}")
    return 0


def _print_start(result: RunResult) -> None:
    """Writes what ships of a run of `pretrain`, and says where it is."""
    from ..classification.starter import save_starter

    path = save_starter(result.path)
    print("", *result.headline, f"start:   {path} (convnext train DATA --weights {path})", sep="\n")


def _print_result(result: RunResult) -> None:
    print("", *result.headline, sep="\n")
    for name, value in result.comparisons:
        print(f"  beside it, {name}: {value:.1f} %" if result.unit == "%" else f"  beside it, {name}: {value:.4f}")
    print(f"model:   {result.path / 'model.safetensors'}")
    if (page := result.path / "report" / "index.html").exists():
        print(f"report:  {page}")
    print(f"try it:  convnext predict {result.path / 'model.safetensors'} IMAGE…")


def _without_nproc(arguments: list[str]) -> list[str]:
    """The command line of one of the processes."""
    kept, skip = [], False
    for word in arguments:
        if not skip and not word.startswith("--nproc="):
            skip = word == "--nproc"
            kept += [] if skip else [word]
        else:
            skip = False
    return kept
