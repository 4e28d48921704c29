"""The commands that use a trained model: evaluate and predict, for classifiers, detectors and segmenters."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import UserError
from ..system.progress import Progress
from ..system.tables import render
from .paper import form_argument, precision_argument


def add_to(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands; `command(name, function, help)` makes one's parser."""
    sub = command("evaluate", _evaluate, "accuracy as the weights' protocol says")
    sub.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="model.safetensors of a run, a checkpoint, or a released name"
    )
    sub.add_argument("data", metavar="DATA", nargs="?", help="as for train (default: the built-in digits)")
    sub.add_argument(
        "--split",
        choices=("val", "train", "all", "test"),
        default="val",
        help="all: of a folder without a split, even known ones; test: where there is one",
    )
    sub.add_argument("--labels", metavar="FILE", help="as for train")
    sub.add_argument("--test-mode", choices=("slide", "whole", "multiscale"), help="of a segmenter (default: slide)")
    sub.add_argument(
        "--per-class",
        action="store_true",
        help="precision, recall, F1 of each class, too; in CSV and Markdown that table alone",
    )
    sub.add_argument("--flip", action="store_true", help="average with the mirrored image")
    sub.add_argument(
        "--crops", type=int, default=1, choices=(1, 5), help="average over the centre and the four corners"
    )
    sub.add_argument("--batch-size", type=int, default=256)
    precision_argument(sub)
    form_argument(sub, "json", "csv")
    sub = command("predict", _predict, "names and probabilities for images")
    sub.add_argument("checkpoint", metavar="CHECKPOINT")
    sub.add_argument(
        "images", metavar="IMAGES", nargs="+", help="files, folders, glob patterns; - reads paths from standard input"
    )
    sub.add_argument("--top", type=int, default=5)
    sub.add_argument("--score", type=float, help="of a detector: the least that is reported (default: 0.3)")
    sub.add_argument(
        "--out", metavar="DIR", help="of a detector or segmenter: the pictures with what was found drawn in, masks"
    )
    sub.add_argument("--test-mode", choices=("slide", "whole", "multiscale"), help="of a segmenter (default: slide)")
    precision_argument(sub)
    form_argument(sub, "json", "csv")


def _evaluate(options: argparse.Namespace) -> None:
    from ..api import evaluate
    from ..reports import intervals

    result = evaluate(
        options.checkpoint,
        options.data,
        flip=options.flip,
        crops=options.crops,
        batch_size=options.batch_size,
        split=options.split,
        labels=options.labels,
        mode=options.test_mode,
        precision=options.precision,
        per_class=options.per_class,
        say=lambda note: print(note, file=sys.stderr),
    )
    if int(os.environ.get("RANK", 0)):
        return
    rows = next((result[name] for name in intervals.TABLES if name in result), None)
    if options.form == "json":
        print(json.dumps(result))
    elif options.form != "text":
        print(render(rows or [intervals.flat(result)], form=options.form))
    else:
        print(intervals.as_lines(result))
        if rows:
            print(f"\n{render(rows)}")


def _predict(options: argparse.Namespace) -> int:
    from ..api import predictions
    from ..data.find_images import list_images
    from ..detection.predict import image_ids
    from ..training.slice import PredictOptions
    from . import predictions as output

    listing = list_images(line for word in options.images for line in (_standard_input() if word == "-" else [word]))
    if listing.left_out:
        print(listing.left_out, file=sys.stderr)
    ids = image_ids(listing.paths) if options.form == "json" else {}
    beside = sys.stderr.isatty() and not sys.stdout.isatty()  # on one terminal the answers themselves are the progress
    with Progress("predicted", quiet=not beside) as progress:
        asked = PredictOptions(
            top=options.top,
            least_score=options.score,
            out=None if options.out is None else Path(options.out),
            mode=options.test_mode,
            precision=options.precision,
            say=lambda note: print(note, file=sys.stderr),
        )
        answers = predictions(options.checkpoint, listing, asked)
        faults = output.write(progress.over(answers, len(listing.paths)), options.form, ids)
    if len(faults) == len(listing.paths):
        raise UserError(f"none of the {len(faults)} files could be read; the first: {faults[0]}")
    if faults:
        print(
            f"{len(faults):,} of {len(listing.paths):,} pictures could not be read; the first: {faults[0]}",
            file=sys.stderr,
        )
    return 0


def _standard_input() -> list[str]:
    return [name for line in sys.stdin if (name := line.rstrip("\n")).strip()]
