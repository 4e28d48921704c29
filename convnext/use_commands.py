"""The commands that use a trained model: evaluate and predict, for classifiers, detectors and segmenters."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from .errors import UserError
from .paper_commands import form_argument, precision_argument
from .tables import render


def add_to(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands; `command(name, function, help)` makes one's parser."""
    sub = command("evaluate", _evaluate, "accuracy as the weights' protocol says")
    sub.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="model.safetensors of a run, a checkpoint, or a released name"
    )
    sub.add_argument("data", metavar="DATA", nargs="?", help="as for train (default: the built-in digits)")
    sub.add_argument("--split", choices=("val", "train", "all", "test"), default="val",
                     help="all: of a folder without a split; test: of pictures with masks")  # fmt: skip
    sub.add_argument("--labels", metavar="FILE", help="labels of a multi-label folder, or the classes of masks")
    sub.add_argument("--test-mode", choices=("slide", "whole", "multiscale"), help="of a segmenter (default: slide)")
    sub.add_argument("--flip", action="store_true", help="average with the mirrored image")
    sub.add_argument(
        "--crops", type=int, default=1, choices=(1, 5), help="average over the centre and the four corners"
    )
    sub.add_argument("--batch-size", type=int, default=256)
    precision_argument(sub)
    form_argument(sub, "json")
    sub = command("predict", _predict, "names and probabilities for images")
    sub.add_argument("checkpoint", metavar="CHECKPOINT")
    sub.add_argument(
        "images", metavar="IMAGES", nargs="+", help="files, folders, glob patterns; - reads paths from standard input"
    )
    sub.add_argument("--top", type=int, default=5)
    sub.add_argument("--score", type=float, default=0.3, help="of a detector: the least that is reported")
    sub.add_argument(
        "--out", metavar="DIR", help="of a detector or segmenter: the pictures with what was found drawn in, masks"
    )
    sub.add_argument("--test-mode", choices=("slide", "whole", "multiscale"), help="of a segmenter (default: slide)")
    precision_argument(sub)
    form_argument(sub, "json", "csv")


def _evaluate(options: argparse.Namespace) -> None:
    from .api import evaluate

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
        say=lambda note: print(note, file=sys.stderr),
    )
    if int(os.environ.get("RANK", 0)):
        return
    if options.form == "json":
        print(json.dumps(result))
    elif options.form != "text":
        print(render([result], form=options.form))
    else:
        print(
            "\n".join(
                f"{name:20}{value:10.4f}" if name != "count" else f"{name:20}{int(value):10d}"
                for name, value in result.items()
            )
        )


def _predict(options: argparse.Namespace) -> int:
    from .api import predict
    from .data.images import readable

    images = [line for word in options.images for line in (_standard_input() if word == "-" else [word])]
    rows: list[Any] = predict(options.checkpoint, images, top=options.top, least_score=options.score, out=options.out,
                              mode=options.test_mode, precision=options.precision,
                              say=lambda note: print(note, file=sys.stderr))  # fmt: skip
    if hasattr(rows[0], "rows"):
        _print_found(rows, options.form)
    elif hasattr(rows[0], "shares"):
        _print_areas(rows, options.form)
    elif options.form == "json":
        values = [
            {"path": r.path, "error": r.error, "top": [{"class": name, "probability": p} for name, p in r.top]}
            for r in rows
        ]
        print(json.dumps(values, indent=2, ensure_ascii=False))
    elif options.form != "text":
        flat: list[dict[str, Any]] = []
        for row in rows:
            flat += [{"path": row.path, "rank": rank, "class": name, "probability": round(p, 6), "error": row.error}
                     for rank, (name, p) in enumerate(row.top, 1)]  # fmt: skip
            if row.error:
                flat.append({"path": row.path, "error": row.error})
        print(render(flat, ("path", "rank", "class", "probability", "error"), options.form))
    else:
        for row in rows:
            print(f"{readable(row.path):40} " + (row.error or "  ".join(f"{name} {p:.1%}" for name, p in row.top)))
    if all(row.error for row in rows):
        raise UserError(f"none of the {len(rows)} files could be read; the first: {rows[0].error}")
    return 0


def _standard_input() -> list[str]:
    return [name for line in sys.stdin if (name := line.rstrip("\n")).strip()]


def _print_found(found: list[Any], form: str) -> None:
    """What a detector found; JSON is COCO's result format."""
    from .data.images import readable
    from .detecting import as_results

    sides = ("x", "y", "width", "height")
    if form == "json":
        print(json.dumps(as_results(found)))
    elif form != "text":
        flat = [
            {"path": one.path, "class": row["class"], "score": round(row["score"], 6)}
            | dict(zip(sides, (round(v, 2) for v in row["bbox"]), strict=True))
            for one in found
            for row in one.rows
        ]
        print(render(flat, ("path", "class", "score", *sides), form))
    for one in found:
        names = ", ".join(f"{row['class']} {row['score']:.2f}" for row in one.rows)
        if form == "text":
            print(f"{readable(one.path):40} " + (one.error or names or "nothing"))
        elif one.error:
            print(one.error, file=sys.stderr)


def _print_areas(found: list[Any], form: str) -> None:
    """How much of each picture is what."""
    from .data.images import readable

    if form == "json":
        rows = [{"path": one.path, "error": one.error, "areas": dict(one.shares)} for one in found]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    elif form != "text":
        flat = [
            {"path": one.path, "class": name, "share": round(share, 6)} for one in found for name, share in one.shares
        ]
        flat += [{"path": one.path, "error": one.error} for one in found if one.error]
        print(render(flat, ("path", "class", "share", "error"), form))
    else:
        for one in found:
            print(
                f"{readable(one.path):40} "
                + (one.error or ", ".join(f"{name} {share:.1%}" for name, share in one.shares))
            )
