"""Parse, call one function of api, print. Nothing here imports torch before a command needs it."""

from __future__ import annotations

import argparse
import codecs
import errno
import io
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from . import paper_commands, use_commands
from . import recipe as recipes_io
from .errors import UserError
from .processes import follow_parent, spread
from .progress import Progress
from .tables import as_json, render
from .variants import DETECTORS, RELEASES, SEGMENTERS, VARIANTS

TOLD = 20  # unusable pictures that `check` names before its report, which groups them all
AS_THEY_CAN = "convnext.as_they_can"  # how characters are written that the output's encoding lacks
OUTPUT_FULL = (errno.ENOSPC, errno.EDQUOT)
EXIT_USER, EXIT_FAILED, EXIT_INTERRUPTED = 2, 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 2 for what the user can mend, 1 for what failed while running."""
    follow_parent()
    codecs.register_error(AS_THEY_CAN, _written_as_it_can)
    for stream in (sys.stdin, sys.stdout, sys.stderr):  # file names need not be text in the terminal's encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape" if stream is sys.stdin else AS_THEY_CAN)
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = make_parser().parse_args(arguments, argparse.Namespace(arguments=arguments))
    try:
        code = int(options.run(options) or 0)
        sys.stdout.flush()  # here, where a full disk can still be told
        return code
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as error:
        if error.errno in OUTPUT_FULL and error.filename is None:  # no file of ours, which has a name
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            error = OSError(f"the output cannot be written ({error.strerror}); make room, or write it elsewhere")
        print(f"convnext {options.command}: {error}", file=sys.stderr)
        return EXIT_USER
    except UserError as error:
        print(f"convnext {options.command}: {error}", file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:
        print(f"convnext {options.command}: interrupted{_how_to_go_on(options)}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except RuntimeError as error:
        if os.environ.get("CONVNEXT_TRACEBACK"):
            raise
        print(f"convnext {options.command}: {error} (CONVNEXT_TRACEBACK=1 shows where)", file=sys.stderr)
        return EXIT_FAILED


def _written_as_it_can(error: UnicodeError) -> tuple[str | bytes, int]:
    """Of a name that is no text its own bytes, of a character that the encoding lacks its escape (\\U0001f436)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return character.encode("ascii", "backslashreplace").decode("ascii"), error.start + 1


def _how_to_go_on(options: argparse.Namespace) -> str:
    if options.command not in ("train", "pretrain"):
        return ""
    out = getattr(options, "out", None)
    if getattr(options, "folds", None) is not None:
        return "; the same command, with its --out, goes on"
    where = shlex.quote(out) if out else "and the run folder named above"
    return f"; the run continues with convnext {options.command} --resume --out {where}"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="convnext", description="ConvNeXt: from a folder of images to a trained, measured model."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    sub = command("models", _models, "the family: parameters, multiply-adds, released weights with published accuracy")
    paper_commands.form_argument(sub, "json")
    sub = command("check", _check, "is this folder fit to train on?")
    sub.add_argument("data", metavar="DATA", help="folder of class folders, of masks or of boxes")
    sub.add_argument("--labels", metavar="FILE", help="as for train")
    paper_commands.form_argument(sub, "json")
    _train_arguments(command("train", _train, "train on a folder of images (default: the built-in digits)"))
    _pretrain_arguments(command("pretrain", _pretrain, "make a start like the one that ships, from drawn pictures"))
    use_commands.add_to(command)
    sub = command("import-yolo", _import_yolo, "COCO annotations for a folder with labels in YOLO's format")
    sub.add_argument("data", metavar="DATA", help="data.yaml, or the folder that holds it")
    sub.add_argument("--out", metavar="DIR", help="where annotations/ is written (default: the data's own folder)")
    sub = command("convert", _convert, "one library's checkpoint into another's")
    sub.add_argument("source", metavar="SOURCE")
    sub.add_argument("target", metavar="TARGET", help="ends in .safetensors or .pth")
    sub.add_argument(
        "--naming",
        required=True,
        choices=("official", "timm", "torchvision", "transformers", "mmpretrain", "mmdet", "mmseg"),
    )
    sub.add_argument("--model", help="the size, where the shapes do not tell it")
    sub.add_argument(
        "--ema", action=argparse.BooleanOptionalAction, help="take the averaged weights of a training checkpoint"
    )
    paper_commands.add_to(command)
    paper_commands.form_argument(command("doctor", _doctor, "machine, versions, devices, what is installed"), "json")
    return parser


def _train_arguments(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument
    text = (
        "class folders, a table of labels, masks, or boxes (COCO, YOLO, PASCAL VOC); or digits, cifar10, imagenette, …"
    )
    add("data", metavar="DATA", nargs="?", help=text)
    text = (
        "default: by what DATA holds, classify, finetune, detect or segment; or scratch, probe, imagenet1k/tiny, …, "
        "a recipe.json"
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
    add("--labels", metavar="FILE", help="table of path,label or path,labels (a;b); or the classes of masks")
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


def _told(result: Any, tell: Callable[[Any], None]) -> int:
    """The exit code of `_trained`; on the main process a run is told."""
    if isinstance(result, int):
        return result
    if int(os.environ.get("RANK", 0)) == 0:
        tell(result)
    return 0


def _trained(options: argparse.Namespace) -> Any:
    """The run, or the exit code where it was trained otherwise: in other processes, or in folds."""
    began = time.monotonic()  # before the libraries are loaded: --minutes counts that too
    settings: dict[str, Any] = dict(recipes_io.parse_settings(options.set))
    for name in settings:
        recipes_io.check_field(name)
    named = {"model": options.model, "weights": options.weights, "epochs": options.epochs, "minutes": options.minutes,
             "image_size": options.image_size, "seed": options.seed, "precision": options.precision}  # fmt: skip
    if options.batch_size == "auto":
        named["auto_batch"] = True
    else:
        named["batch_size"] = options.batch_size
    named = {name: value for name, value in named.items() if value is not None}
    if twice := [name for name in named if name in settings]:
        raise UserError(f"{twice[0]} is given twice, as {named[twice[0]]} and by --set {twice[0]}="
                        f"{settings[twice[0]]}; leave one of them out")  # fmt: skip
    settings |= named
    if options.folds is not None:
        return _train_folds(options, settings)
    if options.nproc is not None and "RANK" not in os.environ:
        return spread(options.nproc, _without_nproc(options.arguments))
    from .api import train

    return train(options.data, options.recipe, out=options.out, settings=settings, resume=options.resume,
                 labels=options.labels, val_fraction=options.val_fraction, report=not options.no_report,
                 began=began)  # fmt: skip


def _train_folds(options: argparse.Namespace, settings: dict[str, Any]) -> int:
    from .api import train_folds
    from .folds import as_text

    if options.nproc is not None or "RANK" in os.environ:
        raise UserError("--folds trains on one device, one fold after the other; leave out --nproc")
    if options.resume:
        raise UserError("folds go on by themselves: repeat the same command, with its --out, without --resume")
    if options.val_fraction != 0.2:
        raise UserError("with --folds each fold is held out in turn; leave out --val-fraction")
    data = options.data or "digits"
    found = train_folds(data, options.recipe, folds=options.folds, out=options.out, settings=settings,
                        labels=options.labels, report=not options.no_report)  # fmt: skip
    print(f"\n{as_text(found, data)}")
    return 0


def _print_start(result: Any) -> None:
    """Writes what ships of a run of `pretrain`, and says where it is."""
    from .starter import save_starter

    path = save_starter(result.path)
    print("", *result.headline, f"start:   {path} (convnext train DATA --weights {path})", sep="\n")


def _print_result(result: Any) -> None:
    print("", *result.headline, sep="\n")
    for name, value in result.comparisons:
        print(f"  beside it, {name}: {value:.1f} %")
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


def _models(options: argparse.Namespace) -> None:
    rows: list[dict[str, Any]] = [
        {"name": name, "parameters": arch.parameters(), "gmacs_224": arch.multiply_adds(224) / 1e9,
         "gmacs_384": arch.multiply_adds(384) / 1e9, "depths": arch.depths, "dims": arch.dims,
         "weights": {r.tag: r.top1 for r in RELEASES if r.variant == name}}
        for name, arch in VARIANTS.items()
    ]  # fmt: skip
    if options.form == "json":
        print(json.dumps(rows, indent=2))
        return
    if options.form != "text":
        flat = [{key: " ".join(map(str, value)) if isinstance(value, tuple) else value for key, value in row.items()}
                | {"weights": _released(row["weights"])} for row in rows]  # fmt: skip
        print(render(flat, form=options.form))
        return
    print(f"{'model':26}{'parameters':>13}{'GMACs@224':>11}{'GMACs@384':>11}   released weights (ImageNet-1K top-1, %)")
    for row in rows:
        figures = f"{row['parameters']:>13,}{row['gmacs_224']:>11.3f}{row['gmacs_384']:>11.3f}"
        print(f"{row['name']:26}{figures}   {_released(row['weights']) or '-'}")
    print(f"\n{'released detector':44}{'box AP':>9}{'mask AP':>9}   (COCO val2017; costs: convnext bench --table 3)")
    for detector in DETECTORS:
        print(f"{detector.stem:44}{detector.box_ap:>9}{detector.mask_ap:>9}")
    print(f"\n{'released segmenter':44}{'mIoU':>9}{'mIoU ms':>9}   (ADE20K; costs: convnext bench --table 4)")
    for segmenter in SEGMENTERS:
        print(f"{segmenter.stem:44}{segmenter.miou:>9}{segmenter.miou_ms:>9}")


def _released(weights: dict[str, float | None]) -> str:
    """Tags of released weights with their published accuracy, where there is one."""
    return ", ".join(f"{tag} {top1}" if top1 else tag for tag, top1 in weights.items())


def _check(options: argparse.Namespace) -> int:
    from .api import check

    quiet = options.form != "text" and not sys.stderr.isatty()
    with Progress("checked", quiet=quiet) as progress:
        tell = _teller(progress)
        report = check(options.data, labels=options.labels, progress=progress, tell=tell)
    if options.form == "text":
        print(report)
    elif options.form == "json":
        print(as_json(report.to_dict(), indent=2))
    else:
        print(render(report.to_dict()["problems"], ("severity", "kind", "path", "detail"), options.form))
    return 0 if report.ok else EXIT_USER


def _teller(progress: Progress) -> Callable[[Any], None]:
    """Prints the first unusable pictures as they are found, where the whole report is a while off."""
    told = 0

    def tell(problem: Any) -> None:
        nonlocal told
        told += 1
        if told <= TOLD and progress.long:
            progress.line(problem.detail)

    return tell


def _import_yolo(options: argparse.Namespace) -> None:
    from .api import import_yolo

    print("\n".join(import_yolo(options.data, options.out)))


def _convert(options: argparse.Namespace) -> None:
    from .api import convert

    print(convert(options.source, options.target, naming=options.naming, model=options.model, ema=options.ema))


def _doctor(options: argparse.Namespace) -> None:
    from importlib import metadata

    from .training import runtime

    facts = runtime.describe()
    with runtime.start() as run:
        facts["device"] = str(run.device)
        facts["precision"] = f"{run.precision} ({runtime.native_precision(run.device)[1]})"
        facts["loader processes"] = str(runtime.default_workers(run.device))
    for name in (
        "torchvision",
        "numpy",
        "pillow",
        "safetensors",
        "scikit-learn",
        "matplotlib",
        "huggingface_hub",
        "timm",
    ):
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[name] = "not installed"
    if options.form == "text":
        print("\n".join(f"{name:18}{value}" for name, value in facts.items()))
    else:
        print(render([{"fact": name, "value": value} for name, value in facts.items()], form=options.form))
