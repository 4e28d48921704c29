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
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypedDict

from ..catalog.releases import DETECTORS, RELEASES, SEGMENTERS
from ..catalog.variants import VARIANTS
from ..errors import UserError
from ..system.processes import follow_parent
from ..system.progress import Progress
from ..system.tables import as_json, render
from . import paper, train, use

if TYPE_CHECKING:
    from ..data.report import Problem

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
    paper.form_argument(sub, "json")
    sub = command("check", _check, "is this folder fit to train on?")
    sub.add_argument("data", metavar="DATA", help="folder of class folders, of masks or of boxes")
    sub.add_argument("--labels", metavar="FILE", help="as for train")
    paper.form_argument(sub, "json")
    train.add_to(command)
    use.add_to(command)
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
    paper.add_to(command)
    paper.form_argument(command("doctor", _doctor, "machine, versions, devices, what is installed"), "json")
    return parser


class _Model(TypedDict):
    """A row of `models`."""

    name: str
    parameters: int
    gmacs_224: float
    gmacs_384: float
    depths: tuple[int, ...]
    dims: tuple[int, ...]
    weights: dict[str, float | None]  # released ones, and their published accuracy


def _models(options: argparse.Namespace) -> None:
    rows: list[_Model] = [
        {
            "name": name,
            "parameters": arch.parameters(),
            "gmacs_224": arch.multiply_adds(224) / 1e9,
            "gmacs_384": arch.multiply_adds(384) / 1e9,
            "depths": arch.depths,
            "dims": arch.dims,
            "weights": {r.tag: r.top1 for r in RELEASES if r.variant == name},
        }
        for name, arch in VARIANTS.items()
    ]
    if options.form == "json":
        print(json.dumps(rows, indent=2))
        return
    if options.form != "text":
        flat = [
            {key: " ".join(map(str, value)) if isinstance(value, tuple) else value for key, value in row.items()}
            | {"weights": _released(row["weights"])}
            for row in rows
        ]
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
    from ..api import check

    quiet = options.form != "text" and not sys.stderr.isatty()
    with Progress("checked", quiet=quiet) as progress:
        tell = _teller(progress)
        report = check(options.data, labels=options.labels, progress=progress, tell=tell)
    if options.form == "text":
        print(report)
    elif options.form == "json":
        print(as_json(report.to_dict(), indent=2))
    else:
        print(render(report.rows, ("severity", "kind", "path", "detail"), options.form))
    return 0 if report.ok else EXIT_USER


def _teller(progress: Progress) -> Callable[[Problem], None]:
    """Prints the first unusable pictures as they are found, where the whole report is a while off."""
    told = 0

    def tell(problem: Problem) -> None:
        nonlocal told
        told += 1
        if told <= TOLD and progress.long:
            progress.line(problem.detail)

    return tell


def _import_yolo(options: argparse.Namespace) -> None:
    from ..api import import_yolo

    print("\n".join(import_yolo(options.data, options.out)))


def _convert(options: argparse.Namespace) -> None:
    from ..api import convert

    print(convert(options.source, options.target, naming=options.naming, model=options.model, ema=options.ema))


def _doctor(options: argparse.Namespace) -> None:
    from importlib import metadata

    from ..training import runtime

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
