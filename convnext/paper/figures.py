"""Figures 1 and 2 of the paper, from its printed numbers or from runs."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import NotRequired, TypedDict

from .. import files
from ..errors import UserError
from ..recipes.roadmap import STEPS, SWIN
from ..reports.figures import STYLE
from .costs import NetworkRow

SIDE_STEPS = (10, 11)  # of the roadmap: kernels 9 and 11 lead nowhere

# What Figure 2 shows of a step: the paper's cost, or the multiply-adds of runs. A step of None is the reference.
Bar = TypedDict(
    "Bar",
    {
        "step": int | None,
        "change": str,
        "top-1": float,
        "std": float | None,
        "cost": NotRequired[float],  # GFLOPs
        "MMACs": NotRequired[float],
    },
)


def published_roadmap(regime: str) -> list[Bar]:
    """The rows of Table 10 or 11 as `plot_roadmap` takes them, misprints mended, the reference transformer last."""
    rows: list[Bar] = [
        {"step": i, "change": step.name, "top-1": step.top1, "std": step.std, "cost": step.counts or step.gflops}
        for i, step in enumerate(STEPS[regime])
    ]
    name, gflops, top1 = SWIN[regime]
    return [*rows, {"step": None, "change": name, "top-1": top1, "std": None, "cost": gflops}]


def plot_roadmap(rows: Sequence[Bar], out: Path) -> Path:
    """PNG or SVG in the manner of Figure 2: a bar for each step's top-1, its cost as a dot; side steps are hatched.

    Raises UserError when there are no rows or the file is of another kind.
    """
    import matplotlib
    from matplotlib.figure import Figure

    require_kind(out)
    if not rows:
        raise UserError("no step has a finished run yet; let convnext roadmap train go on")
    with matplotlib.rc_context({**STYLE, "font.size": 9, "grid.color": "#dddddd"}):
        figure = Figure(figsize=(9, 0.8 + 0.32 * len(rows)), dpi=150, layout="constrained")
        by_score, by_cost = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        places = range(len(rows))
        scores = [row["top-1"] for row in rows]
        spreads = [row["std"] or 0.0 for row in rows]
        bars = by_score.barh(places, scores, xerr=spreads, color="#2f6fde", error_kw={"ecolor": "#444444"})
        for row, bar in zip(rows, bars, strict=True):
            if row["step"] in SIDE_STEPS:
                bar.set(hatch="///", alpha=0.55)
            elif row["step"] is None:
                bar.set_color("#999999")
        for place, score, spread in zip(places, scores, spreads, strict=True):
            by_score.text(score + spread, place, f" {_tenths(score)}", va="center")
        lowest = min(score - spread for score, spread in zip(scores, spreads, strict=True))
        highest = max(score + spread for score, spread in zip(scores, spreads, strict=True))
        margin = 0.15 * (highest - lowest) + 0.2
        by_score.set(
            xlabel="top-1, % (bars begin at the left edge, not at 0)", xlim=(lowest - margin, highest + margin)
        )
        by_score.set_yticks(places, [row["change"] for row in rows])
        by_score.invert_yaxis()
        million = "MMACs" in rows[0]
        costs = [row["MMACs"] if million else row["cost"] for row in rows]
        by_cost.plot(costs, places, "o", color="#444444", markersize=4)
        by_cost.set(xlabel="multiply-adds, 10⁶" if million else "multiply-adds, 10⁹", xlim=(0, 1.1 * max(costs)))
        with files.atomic(out) as temporary:
            figure.savefig(temporary, format=out.suffix[1:].lower())
    return out


def _tenths(score: float) -> str:
    """80.35 as the paper rounds it, to 80.4: halves go up, whatever their binary form."""
    return str(Decimal(repr(score)).quantize(Decimal("0.1"), ROUND_HALF_UP))


def plot_figure_1(rows: Sequence[NetworkRow], out: Path) -> Path:
    """PNG or SVG in the manner of Figure 1: top-1 over multiply-adds of both halves of Table 1, a colour a family.

    `rows` as `costs.table_rows("1")` makes them. Raises UserError for a file of another kind.
    """
    import matplotlib
    from matplotlib.figure import Figure

    require_kind(out)
    with matplotlib.rc_context({**STYLE, "font.size": 9, "grid.color": "#dddddd"}):
        figure = Figure(figsize=(10, 4.6), dpi=150, layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        halves = (("1K", "trained on ImageNet-1K"), ("22K", "pre-trained on ImageNet-22K"))
        families = dict.fromkeys(_family(row) for row in rows)
        for axes, (data, title) in zip(panels, halves, strict=True):
            for number, family in enumerate(families):
                mine = [row for row in rows if (row["data"], _family(row)) == (data, family)]
                label, width = family, 2.4 if family == "ConvNeXt" else 1
                for large, style in ((False, "o-"), (True, "s:")):
                    points = sorted((r["GFLOPs (paper)"], r["top1"]) for r in mine if (r["size"] > 224) == large)
                    if points:
                        axes.plot(*zip(*points, strict=True), style, color=f"C{number}", label=label, linewidth=width)
                        label = "_" + family  # one entry in the legend
            axes.set(xscale="log", xlabel="multiply-adds, 10⁹ (logarithmic); squares: over 224 pixels", title=title)
            axes.legend(frameon=False, loc="lower right")
        panels[0].set(ylabel="ImageNet-1K top-1, %")
        with files.atomic(out) as temporary:
            figure.savefig(temporary, format=out.suffix[1:].lower())
    return out


def _family(row: NetworkRow) -> str:
    """ConvNeXt-B -> ConvNeXt; R-101x3 -> BiT, the name those ResNets are known by."""
    family = str(row["model"]).split("-")[0]
    return "BiT" if family == "R" else family


def require_kind(out: Path) -> None:
    """UserError for a file of another kind than figures are written as."""
    if out.suffix.lower() not in (".png", ".svg"):
        raise UserError(f"{out} must end in .png or .svg")
