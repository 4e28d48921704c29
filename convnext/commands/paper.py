"""The commands that make the paper's tables: parse, call one function, print. Part of the command line (main.py)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import UserError
from ..recipes import recipe as recipes_io
from ..recipes import roadmap as steps_of
from ..system.tables import FORMS, render

TABLES = ("1", "2", "3", "4", "5", "6", "7", "9", "12")  # of the paper, that `bench` prints
Command = Callable[[str, Callable[[argparse.Namespace], int | None], str], argparse.ArgumentParser]


def add_to(command: Command) -> None:
    """Adds `bench`, `robustness` and `roadmap` to the command line."""
    text = "parameters, multiply-adds and speed of networks, side by side; a CPU runs single images, a minute at most"
    _add_bench(command("bench", _bench, text))
    text = "accuracy on ImageNet's harder test sets (the paper's Table 8), or on corrupted copies of a folder of yours"
    _add_robustness(command("robustness", _robustness, text))
    sub = command("roadmap", _roadmap, "the road from ResNet to ConvNeXt: the paper's Tables 10 and 11 and Figure 2")
    kinds = sub.add_subparsers(dest="what", metavar="WHAT")
    show = kinds.add_parser(
        "show", help="every step: multiply-adds and parameters counted, beside the published figures"
    )
    show.add_argument("--regime", choices=tuple(steps_of.STEPS), help="default: both")
    _reading_arguments(show)
    form_argument(show)
    train = kinds.add_parser("train", help="train steps with several seeds under one recipe; continues where it was")
    train.add_argument("data", metavar="DATA", help="folder of images, as for convnext train")
    train.add_argument(
        "--recipe", default="roadmap/small", help="roadmap/small (two cores), roadmap/tiny, roadmap/base"
    )
    train.add_argument("--steps", default=None, metavar="LIST", help="such as 0-7,9,16 (default: all)")
    train.add_argument("--seeds", type=int, default=2, help="number of seeds (default: 2)")
    train.add_argument("--epochs", type=float)
    train.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="any recipe field")
    train.add_argument("--out", default="runs/roadmap", metavar="DIR", help="folder of the sweep")
    form_argument(train)
    plot = kinds.add_parser("plot", help="Figure 2, from the paper's figures or from your own runs")
    plot.add_argument("sweep", metavar="DIR", nargs="?", help="folder of a sweep (default: the paper's figures)")
    plot.add_argument("--regime", choices=tuple(steps_of.STEPS), help="of the paper's figures (default: tiny)")
    plot.add_argument("--out", default="roadmap.png", metavar="FILE", help="ends in .png or .svg")


def _add_bench(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("names", metavar="NAME", nargs="*", help="convnext_tiny, torchvision:resnet50, timm:…, roadmap:…")
    sub.add_argument(
        "--table",
        metavar="N",
        help="of the paper: 1, 2, 12 (networks), 3 (detectors), 4, 7 (segmenters), printed and measured; 5, 6 "
        "(settings), 9 (layers)",
    )
    sub.add_argument("--image-size", type=int, default=224, metavar="N", help="for named networks (default: 224)")
    sub.add_argument("--no-speed", action="store_true", help="count only")
    sub.add_argument("--plot", metavar="FILE", help="with --table 1: Figure 1 as .png or .svg")
    form_argument(sub)


def _add_robustness(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("checkpoint", metavar="CHECKPOINT")
    table = sub.add_argument_group("ImageNet's suites: any of them, each the folder it unpacks to")
    for flag, text in (
        ("--val", "validation set: synset folders"),
        ("--a", "ImageNet-A"),
        ("--r", "ImageNet-R"),
        ("--sketch", "ImageNet-Sketch"),
        ("--v2", "ImageNet-V2"),
        ("--c", "ImageNet-C: CORRUPTION/SEVERITY/SYNSET"),
        ("--c-bar", "ImageNet-C-bar"),
    ):
        table.add_argument(flag, metavar="DIR", help=text)
    table.add_argument("--real-labels", metavar="FILE", help="real.json of ReaL, for the images of --val")
    table.add_argument("--partial", action="store_true", help="classes may be missing: for a trial on a sample")
    own = sub.add_argument_group("a folder of yours")
    own.add_argument("--corrupt", metavar="DATA", help="write corrupted copies of its images, then judge them")
    own.add_argument("--out", metavar="DIR", help="where they go (default: runs/corrupted/NAME)")
    own.add_argument("--corrupted", metavar="DIR", help="judge copies written before")
    own.add_argument("--corruptions", metavar="LIST", help="such as fog,contrast (default: the 15 of ImageNet-C)")
    own.add_argument("--severities", default="1,2,3,4,5", metavar="LIST", help="of 1 to 5 (default: all)")
    own.add_argument("--frost", metavar="DIR", help="pictures of frost; without them that corruption is left out")
    own.add_argument("--seed", type=int, default=0)
    sub.add_argument("--batch-size", type=int, default=64)
    precision_argument(sub)
    form_argument(sub)


def form_argument(sub: argparse.ArgumentParser, *shorthands: str) -> None:
    """--form, and flags of the same meaning for some forms, such as --json."""
    sub.add_argument(
        "--form",
        choices=FORMS,
        default="text",
        help="how the table is written (in CSV, text that spreadsheets take for a formula begins with ')",
    )
    for form in shorthands:
        sub.add_argument(f"--{form}", dest="form", action="store_const", const=form, help=f"the same as --form {form}")


def precision_argument(sub: argparse.ArgumentParser) -> None:
    """--precision of the commands that judge or use a trained model."""
    sub.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="auto: that of the model's own figure; fp32 where its file does not say",
    )


def _reading_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--stem-norm", action="store_true", help="norm and activation behind the patchify stem")
    sub.add_argument("--no-conv-bias", action="store_true", help="no bias even where no norm follows")
    sub.add_argument("--layer-scale", type=float, default=0.0, metavar="VALUE", help="such as 1e-6 (default: none)")


def _roadmap(options: argparse.Namespace) -> int:
    kinds = {"show": _show, "train": _train, "plot": _plot}
    if options.what is None:
        raise UserError("say what to do: convnext roadmap show, train DATA or plot")
    kinds[options.what](options)
    return 0


def _bench(options: argparse.Namespace) -> None:
    if bool(options.table) == bool(options.names):
        raise UserError("name networks to compare, or a table of the paper: convnext bench --table 1")
    if options.plot and options.table != "1":
        raise UserError("--plot draws Figure 1; it goes with --table 1")
    if options.table and options.table not in TABLES:
        raise UserError(
            f"no table {options.table!r} here, but {', '.join(TABLES)}; docs/paper.md has a command for each"
        )
    if options.table in ("5", "6"):
        from ..paper.settings_tables import settings_rows

        _print(settings_rows(options.table), options.form)
        return
    from ..paper import costs, figures, layer_table

    if options.plot:
        figures.require_kind(Path(options.plot))  # before minutes are spent on its figures
    speed, say = not options.no_speed, _to_stderr
    rows: Sequence[Mapping[str, object]]
    if options.table == "9":
        rows = layer_table.architecture_rows()
    elif options.table == "3":
        from ..paper.dense_tables import table3_rows

        rows = table3_rows(speed=speed, say=say)
    elif options.table in ("4", "7"):
        from ..paper.dense_tables import segmentation_rows

        rows = segmentation_rows(options.table, speed=speed, say=say)
    elif options.table:
        rows = of_networks = costs.table_rows(options.table, speed=speed, say=say)
        if options.plot:
            say(f"written to {figures.plot_figure_1(of_networks, Path(options.plot))}")
    else:
        rows = costs.network_rows(options.names, options.image_size, speed=speed, say=say)
    _print(rows, options.form)


def _robustness(options: argparse.Namespace) -> None:
    suites = {name: getattr(options, name) for name in ("val", "a", "r", "sketch", "v2", "real_labels", "c", "c_bar")}
    ways = [bool(options.corrupt), bool(options.corrupted), any(suites.values())]
    if sum(ways) != 1:
        raise UserError(
            "say what to judge on: folders of ImageNet's suites (--val, --a, --c, …), --corrupt DATA or "
            "--corrupted DIR, one of the three"
        )
    from ..robustness import evaluate

    batch_size, precision = options.batch_size, options.precision
    if any(suites.values()):
        ours = evaluate.robustness(
            options.checkpoint,
            **suites,
            partial=options.partial,
            batch_size=batch_size,
            precision=precision,
            say=_to_stderr,
        )
        _print(evaluate.table(ours), options.form)
        return
    copies = options.corrupted
    if options.corrupt:
        evaluate.require_batch(batch_size)  # before hours are spent on copies
        learned = evaluate.learned_from(options.checkpoint, options.corrupt)
        copies = options.out or Path("runs", "corrupted", Path(options.corrupt).resolve().name)
        wanted = options.corruptions and [name.strip() for name in options.corruptions.split(",")]
        evaluate.corrupt_folder(
            options.corrupt,
            copies,
            corruptions=wanted,
            severities=numbers(options.severities, "--severities"),
            seed=options.seed,
            frost=options.frost,
            learned=learned,
            say=_to_stderr,
        )
    result = evaluate.robustness_on_own(
        options.checkpoint, copies, options.corrupt, batch_size=batch_size, precision=precision, say=_to_stderr
    )
    _print(result.rows, options.form)


def _to_stderr(note: str) -> None:
    print(note, file=sys.stderr)


def _show(options: argparse.Namespace) -> None:
    from ..paper import costs

    reading = steps_of.Reading(
        stem_norm=options.stem_norm, conv_bias=not options.no_conv_bias, layer_scale=options.layer_scale
    )
    rows = costs.roadmap_rows([options.regime] if options.regime else tuple(steps_of.STEPS), reading)
    _print(rows, options.form)


def _train(options: argparse.Namespace) -> None:
    from .. import api
    from ..studies import ablation

    settings: recipes_io.Settings = dict(recipes_io.parse_settings(options.set))
    if options.epochs is not None:
        settings["epochs"] = options.epochs
    steps = None if options.steps is None else numbers(options.steps, "--steps")
    rows = api.ablate(
        options.data,
        options.recipe,
        steps=steps,
        seeds=options.seeds,
        out=options.out,
        settings=settings,
        say=_to_stderr,
    )
    _print(rows, options.form)
    if (least := ablation.smallest_difference(rows)) is not None:
        _to_stderr(f"differences below {least:.2f} points may be chance (95 %, spread of pairs pooled over the steps)")
    if left := ablation.unfinished(Path(options.out)):
        print(f"{len(left)} runs are not finished: {', '.join(left[:5])}{', …' * (len(left) > 5)}", file=sys.stderr)


def _plot(options: argparse.Namespace) -> None:
    from ..paper import figures
    from ..studies import ablation

    if options.sweep and options.regime:
        raise UserError("a sweep has its own regime; leave out --regime, or the folder for the paper's figures")
    rows: Sequence[figures.Bar]
    rows = ablation.table(Path(options.sweep)) if options.sweep else figures.published_roadmap(options.regime or "tiny")
    print(f"written to {figures.plot_roadmap(rows, Path(options.out))}")


def numbers(text: str, flag: str) -> list[int]:
    """ "0-7,9" -> [0, …, 7, 9]; UserError, naming the flag, for anything else."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UserError(f"{flag} {text!r} is not a list of numbers such as 0-7,9,16")
        if int(last or first) < int(first):
            raise UserError(f"{flag} {part.strip()!r} counts down; write {last}-{first}")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _print(rows: Sequence[Mapping[str, object]], form: str) -> None:
    print(render(rows, None, form))
