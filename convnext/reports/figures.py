"""The figures of reports and docs. Matplotlib without pyplot: nothing is registered, no backend is chosen.

SVG figures name their colours as the page's CSS variables, so that they follow its light or dark scheme.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import files
from ..errors import UserError
from ..training.log import LogRow, judged, read
from .intervals import WITHOUT_PERCENT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS_UP_TO = 30  # classes whose names fit beside the confusion matrix
COUNTS_UP_TO = 12  # classes whose cells have room for a number
LONGEST_COUNT = 10_000  # the first that does not fit into a cell
MOST_CELLS = 200  # a side of the confusion matrix; more classes are added up in groups
WIDTH = 3.7  # inches of a figure that stands in a row of three

# Matplotlib wants colours, the page has names: each of these otherwise unused colours becomes the name behind it.
INK, DIM, LINE, RAW, EMA, TRAIN = (f"#00010{i}" for i in range(6))
CSS = {
    INK: "var(--ink)",
    DIM: "var(--dim)",
    LINE: "var(--line)",
    RAW: "var(--raw)",
    EMA: "var(--ema)",
    TRAIN: "var(--train)",
}
CELL = np.array([47, 111, 222]) / 255  # of the confusion matrix, made transparent; reads on light and on dark

METRICS = {  # as axes call them
    "top1": "top-1", "macro_f1": "macro F1", "box_ap": "AP", "mask_ap": "AP", "box_ap50": "AP50", "miou": "mIoU",
    "aacc": "pixel accuracy", "r2": "R²",
}  # fmt: skip


Column = Literal["epoch", "lr", "loss"]


def elapsed_minutes(rows: Sequence[LogRow]) -> list[float]:
    """Minutes of training at each row of a log: a resumed run's clock starts again, so its parts are added up."""
    minutes, before, last = [], 0.0, 0.0
    for row in rows:
        now = row.get("time_s", last)
        if now < last:
            before += last
        last = now
        minutes.append((before + now) / 60)
    return minutes


def curves(rows: Sequence[LogRow], metric: str, metric_label: str) -> list[str]:
    """Loss, metric and learning rate over epochs, from the rows of log.jsonl: three SVGs, fewer without rows."""
    train = [row for row in rows if row["kind"] == "train"]
    evals = [row for row in rows if row["kind"] == "eval"]
    figures = []
    if train or evals:
        figures.append(_loss_curve(train, evals))
    if evals:
        figures.append(_metric_curve(evals, metric, metric_label))
    if train:
        with page_style("lr"):
            figure, axes = figure_of("epoch", "learning rate")
            axes.plot(_column(train, "epoch"), _column(train, "lr"), color=RAW, marker=_marker(train))
            axes.set_ylim(bottom=0)
            axes.ticklabel_format(axis="y", scilimits=(-2, 3))
            figures.append(as_svg(figure))
    return figures


def _loss_curve(train: list[LogRow], evals: list[LogRow]) -> str:
    with page_style("loss"):
        figure, axes = figure_of("epoch", "loss")
        epochs, losses = _column(train, "epoch"), _column(train, "loss")
        axes.plot(epochs, losses, color=TRAIN, marker=_marker(train), label="training")
        _raw_and_ema(axes, evals, "loss")
        axes.legend(frameon=False)
        return as_svg(figure)


def _metric_curve(evals: list[LogRow], metric: str, label: str) -> str:
    with page_style(metric):
        figure, axes = figure_of("epoch", label)
        _raw_and_ema(axes, evals, metric)
        best = [row for row in evals if row.get("best")]
        if best:
            value = judged(best[-1])[metric]
            name = "best" if best[-1].get("chosen", True) else "published"  # the last, where nothing was to choose
            shown = f"{value:.3f}" if metric in WITHOUT_PERCENT else f"{value:.1f}"
            axes.plot(best[-1]["epoch"], value, "o", color=INK, markersize=4, label=f"{name}: {shown}")
        axes.legend(frameon=False, loc="lower right")
        return as_svg(figure)


def _raw_and_ema(axes: Axes, evals: list[LogRow], name: str) -> None:
    averaged = [(row["epoch"], row.get("ema") or {}) for row in evals]
    raw = [(row["epoch"], row["raw"]) for row in evals]
    for found, colour, label in ((raw, RAW, "validation"), (averaged, EMA, "validation, EMA")):
        points = [(epoch, values[name]) for epoch, values in found if name in values]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker=_marker(points), label=label)


def _marker(points: Sequence[object]) -> str:
    """Of so few that a line between them says little, or, of one, cannot be seen."""
    return "." if len(points) < 3 else ""


def confusion_picture(confusion: np.ndarray, classes: Sequence[str]) -> str:
    """(K, K) counts with true classes in rows -> SVG; each cell is shaded by its share of its row.

    Where there is room cells have a number: the count, or of counts too long for a cell the share in percent.
    """
    counts = _grouped(confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    strength = np.where(shares > 0, 0.15 + 0.85 * np.sqrt(shares), 0)  # a rare confusion must be seen too
    cells = np.dstack([np.broadcast_to(CELL, (*shares.shape, 3)), strength])
    named = len(classes) <= LABELS_UP_TO
    side = max(WIDTH, 1.2 + 0.19 * len(classes)) if named else 5.0
    with page_style("confusion"):
        figure, axes = figure_of("predicted", "true", (side, side))
        axes.imshow(cells, interpolation="none")
        axes.grid(False)
        for edge in axes.spines.values():
            edge.set(visible=True, color=LINE)
        if named:
            names = [_short(name) for name in classes]
            rotation = 0 if max(map(len, names)) <= 2 else 90
            axes.set_xticks(range(len(names)), names, rotation=rotation, parse_math=False)
            axes.set_yticks(range(len(names)), names, parse_math=False)
            axes.tick_params(length=0)
        else:
            axes.set(xlabel="predicted, by number of the class", ylabel="true, by number of the class")
            extent = (-0.5, len(classes) - 0.5, len(classes) - 0.5, -0.5)
            axes.images[0].set_extent(extent)
        if len(classes) <= COUNTS_UP_TO:
            texts = _cell_texts(counts, shares)
            for place, text in np.ndenumerate(texts):
                colour = "white" if shares[place] > 0.4 else INK
                axes.text(place[1], place[0], text, ha="center", va="center", color=colour, fontsize=7)
        return as_svg(figure)


def _cell_texts(counts: np.ndarray, shares: np.ndarray) -> np.ndarray:
    if counts.max(initial=0) < LONGEST_COUNT:
        return np.vectorize(lambda count: f"{count:,}" if count else "", otypes=[object])(counts)
    percent = np.vectorize(lambda share: f"{100 * share:.0f}" if share >= 0.005 else "<1", otypes=[object])(shares)
    return np.where(counts > 0, percent, "")


def precision_recall(curves: dict[str, np.ndarray]) -> str:
    """Precision at 101 recalls from 0 to 1, mean over classes, by name -> SVG."""
    with page_style("precision"):
        figure, axes = figure_of("recall", "precision")
        for (name, values), style in zip(curves.items(), ("-", "--", "-", "--"), strict=False):
            colour = RAW if name.startswith("box") else EMA
            axes.plot(np.linspace(0, 1, len(values)), values, style, color=colour, label=name)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.legend(frameon=False)
        return as_svg(figure)


def reliability(bins: np.ndarray) -> str:
    """(3, B) count, sum of confidence, sum of outcomes -> SVG: accuracy over confidence, and the size of each bin."""
    count, _, correct = bins
    edges = np.linspace(0, 1, len(count) + 1)
    filled = count > 0
    with page_style("reliability"):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.2, 4.4), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        centres, width = (edges[:-1] + edges[1:])[filled] / 2, 0.92 / len(count)
        top.plot([0, 1], [0, 1], color=DIM, linestyle=(0, (4, 3)), linewidth=1, label="confidence = accuracy")
        top.bar(centres, correct[filled] / count[filled], width, color=RAW, alpha=0.75, label="accuracy")
        top.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
        figure.legend(frameon=False, loc="outside upper left", ncols=2)
        bottom.bar(centres, 100 * count[filled] / count.sum(), width, color=TRAIN)
        bottom.set(xlabel="confidence", ylabel="% of all")
        return as_svg(figure)


def plot_curves(logs: Mapping[str, Path | tuple[Path, str]], out: Path) -> Path:
    """PNG that compares runs: a validation metric (better of raw and EMA) over minutes and over epochs.

    `logs` maps a run's name to its log.jsonl, or to that and a metric (else the one that its best was chosen by).
    Raises UserError when a log holds no evaluation.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "font.size": 9, "grid.color": "#dddddd"}):
        figure = Figure(figsize=(10, 4.2), dpi=150, layout="constrained")
        by_time, by_epoch = figure.subplots(1, 2, sharey=True)
        metrics: set[str] = set()
        for name, path in logs.items():
            minutes, epochs, values, metric = _evaluations(*(path if isinstance(path, tuple) else (path,)))
            metrics.add(METRICS.get(metric, metric))
            plain = metric in WITHOUT_PERCENT
            unit = "" if plain else ", %"
            for axes, x in ((by_time, minutes), (by_epoch, epochs)):
                axes.plot(x, values, label=f"{name}: {max(values):.{3 if plain else 1}f}")
        by_time.set(xlabel="minutes", ylabel=f"validation {', '.join(sorted(metrics))}{unit}")
        by_epoch.set(xlabel="epochs")
        for text in by_epoch.legend(frameon=False, loc="lower right").get_texts():
            text.set_parse_math(False)
        with files.atomic(out) as temporary, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            figure.savefig(temporary, format="png")
    return out


def _evaluations(path: Path, metric: str | None = None) -> tuple[list[float], list[float], list[float], str]:
    rows = read(path)
    timed = [(m, row) for m, row in zip(elapsed_minutes(rows), rows, strict=True) if row["kind"] == "eval"]
    if not timed:
        raise UserError(f"{path} holds no evaluation to plot; let the run reach its first one")
    name = metric or str(timed[0][1].get("metric", "top1"))
    values = [max(part[name] for part in (row["raw"], row.get("ema")) if part) for _, row in timed]
    return [minutes for minutes, _ in timed], [row["epoch"] for _, row in timed], values, name


def _column(rows: list[LogRow], name: Column) -> list[float]:
    return [row[name] for row in rows]


def _short(name: str, limit: int = 18) -> str:
    plain = " ".join(name.split())
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def _grouped(confusion: np.ndarray) -> np.ndarray:
    """At most MOST_CELLS rows and columns: neighbouring classes added up."""
    step = -(-len(confusion) // MOST_CELLS)
    starts = np.arange(0, len(confusion), step)
    return np.add.reduceat(np.add.reduceat(confusion, starts, axis=0), starts, axis=1)


STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.linewidth": 0.6, "axes.linewidth": 0.8, "lines.linewidth": 1.6, "legend.fontsize": "medium",
    "xtick.major.size": 0, "ytick.major.size": 0,
}  # fmt: skip
_PAGE_STYLE: dict[Any, Any] = {
    **STYLE, "text.color": INK, "axes.labelcolor": DIM, "xtick.color": DIM, "ytick.color": DIM, "axes.edgecolor": LINE,
    "grid.color": LINE, "svg.fonttype": "none",
}  # fmt: skip


@contextlib.contextmanager
def page_style(name: str) -> Iterator[None]:
    """Figures made and written in here match the page; `name` keeps the ids of several figures on it apart."""
    import matplotlib

    with matplotlib.rc_context({**_PAGE_STYLE, "svg.hashsalt": name}):
        yield


def figure_of(x: str, y: str, size: tuple[float, float] = (WIDTH, 0.7 * WIDTH)) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y)
    return figure, axes


def as_svg(figure: Figure) -> str:
    """The bare <svg> element, as wide as its place, in the page's font and colours."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's browser has the glyph
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text))
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # figure_1, line2d_2, …: the same in every figure
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--font)", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", text)  # as older versions write it
    for colour, name in CSS.items():
        text = text.replace(colour, name)
    return text
