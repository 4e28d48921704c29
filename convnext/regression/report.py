"""The run's page: one self-contained HTML file that says how far a regressor's numbers are from the true ones.

Shapes: N validation images, T targets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from ..reports import sections
from ..reports.figures import DIM, RAW, WIDTH, as_svg, figure_of, page_style
from ..reports.page import THIN, Part, RunRecord, escaped, html_table, note, run_tiles, shot, write_page
from ..training.log import LogRow
from ..training.run_folder import first_row, result
from .metrics import TargetRow, intervals_of, result_of, rows_of
from .task import Regress

WORST = 16  # pictures of the largest errors
DRAWN = 6  # targets that have figures; the table has all
BINS = 25


@dataclass(frozen=True)
class Evidence:
    """What a model did with the validation images, and what else the page shows.

    `predicted` and `true` are (N, T), `spread` (T,) standard deviations of what was learned from; `comparisons` are
    other methods' R²; `said` are sentences on how good the weights are.
    """

    targets: tuple[str, ...]
    ids: tuple[str, ...]
    predicted: np.ndarray
    true: np.ndarray
    spread: np.ndarray
    loader: Callable[[str], Image.Image]
    command: str
    comparisons: list[tuple[str, float]] = field(default_factory=list)
    split: str = "validation"
    said: list[str] = field(default_factory=list)

    @cached_property
    def rows(self) -> list[TargetRow]:
        return rows_of(self.predicted, self.true, self.targets)

    @cached_property
    def result(self) -> dict[str, float]:
        return result_of(self.rows, len(self.ids))

    def of(self, target: int) -> tuple[np.ndarray, np.ndarray]:
        """Predictions and true values where these are there."""
        there = ~np.isnan(self.true[:, target])
        return self.predicted[there, target], self.true[there, target]


def write_report(run: Path, evidence: Evidence) -> Path:
    """Writes `run`/report/index.html from the run's recipe.json and log.jsonl and the evidence; returns its path."""

    def parts(record: RunRecord) -> list[Part]:
        return [
            ("result", "Result", _headline(evidence, record)),
            ("curves", "Learning curves", _curves(record.rows)),
            ("errors", "Predicted against true", _figures(evidence)),
            ("targets", "Target by target", _table(evidence)),
            ("worst", "Largest errors", _worst(evidence)),
        ]

    return write_page(run, evidence.command, parts)


def gather(path: Path, task: Regress, model: nn.Module) -> Evidence:
    """Evaluates the published `model` of the run at `path` on the task's validation images, on this process alone."""
    outcome = result(path)
    predicted, true = task.evaluator.compared(model)
    place = {name: i for i, name in enumerate(task.val.ids)}

    def picture(name: str) -> Image.Image:
        return task.val[place[name]].image

    return Evidence(
        targets=task.targets,
        ids=task.val.ids,
        predicted=predicted,
        true=true,
        spread=task.std,
        loader=picture,
        command=first_row(path)["command"],
        comparisons=outcome.comparisons,
        split=outcome.judged_split,
        said=outcome.headline,
    )


def _headline(evidence: Evidence, record: RunRecord) -> str:
    several = len(evidence.targets) > 1
    how = f"{len(evidence.ids):,} {evidence.split} images. " + (
        f"Mean of {len(evidence.targets)} targets; 1 is no error, 0 is as good as their mean."
        if several
        else f"1 is no error, 0 is as good as the mean of {escaped(evidence.targets[0])}."
    )
    if not several and (ends := intervals_of(*evidence.of(0)).get("r2")):
        how = f"95{THIN}% interval {ends[0]:.4f} to {ends[1]:.4f}. {how}"
    score = sections.score("R²", evidence.result["r2"], how, evidence.said, unit="")
    tiles = [("Rank correlation", f"{evidence.result['spearman']:.3f}", "Spearman's rho")]
    if not several:
        tiles = [
            ("Mean absolute error", f"{evidence.result['mae']:.4g}", f"in units of {evidence.targets[0]}"),
            ("Root mean squared error", f"{evidence.result['rmse']:.4g}", f"in units of {evidence.targets[0]}"),
            *tiles,
        ]
    return f"{sections.headline(score, [*tiles, *run_tiles(record)])}{_comparisons(evidence)}"


def _comparisons(evidence: Evidence) -> str:
    if not evidence.comparisons:
        return ""
    table = [("<b>this network</b>", evidence.result["r2"])]
    table += [(escaped(name), value) for name, value in evidence.comparisons]
    cells = [
        (name, f"{value:.4f}", f'<i style="width:{100 * min(1.0, max(0.0, value)):.1f}%"></i>')
        for name, value in sorted(table, key=lambda row: -row[1])
    ]
    columns = (("method", "name"), ("R²", "n"), ("", "bar"))
    return f'<h3 style="margin-top:26px">On the same images</h3>{html_table(columns, cells)}'


def _curves(rows: list[LogRow]) -> str:
    how = "The loss is in units of the targets' spread. EMA is the running average of the weights."
    return sections.curves(rows, "r2", "R²", how, unit="")


def _figures(evidence: Evidence) -> str:
    drawn = []
    for k, name in enumerate(evidence.targets[:DRAWN]):
        predicted, true = evidence.of(k)
        if len(true):
            pair = (_against(predicted, true, name, k), _residuals(predicted - true, name, k))
            drawn.append(f'<div class="figures">{"".join(f"<figure>{svg}</figure>" for svg in pair)}</div>')
    if not drawn:
        return ""
    more = len(evidence.targets) - DRAWN
    how = "Points on the line are right; above it the network says too much. Beside it, how often it errs by how much."
    how += f" {more} more targets are in the table below." if more > 0 else ""
    return note(how) + "".join(drawn)


def _against(predicted: np.ndarray, true: np.ndarray, name: str, number: int) -> str:
    ends = [float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))]
    with page_style(f"against {number}"):
        figure, axes = figure_of("", "", (WIDTH, 0.9 * WIDTH))
        axes.plot(ends, ends, color=DIM, linestyle=(0, (4, 3)), linewidth=1)
        axes.plot(true, predicted, "o", color=RAW, markersize=3, markeredgewidth=0, alpha=0.6)
        axes.set_xlabel(f"true {name}", parse_math=False)
        axes.set_ylabel("predicted")
        return as_svg(figure)


def _residuals(errors: np.ndarray, name: str, number: int) -> str:
    with page_style(f"residuals {number}"):
        figure, axes = figure_of("", "images", (WIDTH, 0.9 * WIDTH))
        axes.hist(errors, bins=min(BINS, max(3, len(errors) // 3)), color=RAW, alpha=0.75)
        axes.axvline(0, color=DIM, linestyle=(0, (4, 3)), linewidth=1)
        axes.set_xlabel(f"predicted less true {name}", parse_math=False)
        return as_svg(figure)


def _table(evidence: Evidence) -> str:
    rows = []
    for k, row in enumerate(evidence.rows):
        ends = intervals_of(*evidence.of(k))
        cells = [_with_interval(row[name], ends.get(name)) for name in ("r2", "mae", "rmse", "spearman")]
        rows.append((escaped(row["target"]), f"{row['count']:,}", *cells))
    columns = (("target", "name"), ("images", "n"), ("R²", "n"), ("MAE", "n"), ("RMSE", "n"), ("Spearman", "n"))
    how = "MAE and RMSE are in the table's own units; in brackets 95 % intervals for other pictures of the same kind."
    return note(how) + html_table(columns, rows)


def _with_interval(value: float, ends: tuple[float, float] | None) -> str:
    return f"{value:.4g}" if ends is None else f"{value:.4g}<br>({ends[0]:.4g} to {ends[1]:.4g})"


def _worst(evidence: Evidence) -> str:
    """Pictures by their largest error in units of the target's spread."""
    apart = np.abs(evidence.predicted - evidence.true) / evidence.spread
    largest = np.nan_to_num(apart, nan=-1.0).max(1)
    shots = []
    for i in np.argsort(-largest, kind="stable")[:WORST]:
        if largest[i] < 0:
            continue
        k = int(np.nanargmax(apart[i]))
        caption = f"{escaped(evidence.targets[k])}: {evidence.predicted[i, k]:.4g}, true {evidence.true[i, k]:.4g}"
        name = evidence.ids[i]
        shots.append(shot(evidence.loader(name), f'{caption}<div class="file">{escaped(name)}</div>'))
    if not shots:
        return ""
    how = "Largest first, in units of each target's spread. Wrong numbers in the table show here too."
    return note(how) + f'<div class="shots">{"".join(shots)}</div>'
