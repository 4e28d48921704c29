"""The run's page: one self-contained HTML file that says how good a classifier is, where it errs and how it was made.

Shapes: M validation images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..errors import UserError
from ..reports import figures, sections
from ..reports.figures import plot_curves
from ..reports.page import THIN, Part, RunRecord, escaped, html_table, note, percent, run_tiles, shot, write_page
from ..system.shares import accuracy_interval
from ..training.log import LogRow
from ..training.run_folder import first_row, result
from .explain import class_activation_map, overlay
from .metrics import ClassificationCounter, MultiLabelCounter, class_rows
from .task import ClassifiedImage, Classify

__all__ = ["Evidence", "plot_curves", "write_report"]

MISTAKES = 16  # pictures of the worst ones
PAIRS = 15  # rows of the table of confused classes
CHUNK = 4096  # images counted at once: bounds the memory of a large validation set
MAPS = 8  # pictures whose class-activation map is shown


@dataclass(frozen=True)
class Evidence:
    """What a model did with the validation images, and what else the page shows.

    `targets` are (M,) class indices or (M, K) multi-hot labels; `loader` gives the picture of an id; `cams` are
    pictures with captions; `comparisons` are other methods' accuracies on the same images in percent. `choices` is how
    many weights these ones were chosen from by these images; `said` are sentences on how good they are.
    """

    classes: list[str]
    ids: list[str]
    probs: np.ndarray  # (M, K)
    targets: np.ndarray
    loader: Callable[[str], Image.Image]
    command: str
    cams: list[tuple[Image.Image, str]] = field(default_factory=list)
    comparisons: list[tuple[str, float]] = field(default_factory=list)
    split: str = "validation"
    choices: int = 1
    said: list[str] = field(default_factory=list)

    @property
    def multi_label(self) -> bool:
        return self.targets.ndim == 2

    @cached_property
    def counter(self) -> ClassificationCounter | MultiLabelCounter:
        """The counts over all images."""
        kind = MultiLabelCounter if self.multi_label else ClassificationCounter
        counter: ClassificationCounter | MultiLabelCounter = kind(len(self.classes))
        for start in range(0, len(self.ids), CHUNK):
            part = slice(start, start + CHUNK)
            counter.update(torch.as_tensor(self.probs[part]), torch.as_tensor(self.targets[part]))
        return counter

    @cached_property
    def result(self) -> dict[str, float]:
        return self.counter.result()

    @cached_property
    def right(self) -> np.ndarray:
        """(M,) whether the image's class, or every one of its labels, was found."""
        if self.multi_label:
            return ((self.probs >= 0.5) == (self.targets > 0.5)).all(1)
        return self.probs.argmax(1) == self.targets

    @property
    def metric(self) -> tuple[str, str]:
        """The main figure's name in the log, and in words."""
        return ("macro_f1", "Macro F1") if self.multi_label else ("top1", "Top-1 accuracy")


def write_report(run: Path, evidence: Evidence) -> Path:
    """Writes `run`/report/index.html from the run's recipe.json and log.jsonl and the evidence; returns its path."""

    def parts(record: RunRecord) -> list[Part]:
        return [
            ("result", "Result", _headline(evidence, record)),
            ("curves", "Learning curves", _curves(evidence, record.rows)),
            ("confusion", "Confusion matrix", "" if evidence.multi_label else _confusion(evidence)),
            ("classes", "Class by class", _classes(evidence)),
            ("mistakes", "Worst mistakes", _mistakes(evidence)),
            ("calibration", "Calibration", _calibration(evidence)),
            ("maps", "Where the network looks", _maps(evidence)),
        ]

    return write_page(run, evidence.command, parts)


def _headline(evidence: Evidence, record: RunRecord) -> str:
    result, (name, label) = evidence.result, evidence.metric
    low, high = accuracy_interval(int(evidence.right.sum()), len(evidence.right), choices=evidence.choices)
    chosen = f", allowing for the choice among {evidence.choices:,} weights on these images"
    interval = f"95{THIN}% interval {low:.1f} to {percent(high)}{chosen if evidence.choices > 1 else ''}"
    if evidence.multi_label:
        scale, sure = "", f"{percent(result['exact_match'])} of the images have every label right ({interval})"
    else:
        scale, sure = _scale(result[name], low, high), interval
    how = f"{sure}. {len(evidence.ids):,} {evidence.split} images, {len(evidence.classes):,} classes."
    score = sections.score(label, result[name], how, evidence.said, scale)
    tiles = [*_quality_tiles(evidence), *run_tiles(record)]
    return f"{sections.headline(score, tiles)}{_comparisons(evidence)}"


def _scale(value: float, low: float, high: float) -> str:
    """A line from 0 to 100 % with the interval and the value on it."""
    band = f'<i style="left:{low:.2f}%;width:{high - low:.2f}%"></i>'
    return f'<div class="scale">{band}<b style="left:calc({value:.2f}% - 2px)"></b></div>'


def _quality_tiles(evidence: Evidence) -> list[tuple[str, str, str]]:
    result = evidence.result
    loss = (f"{evidence.split.capitalize()} loss", f"{result['loss']:.3f}", "mean over images")
    ece = ("Calibration error", percent(result["ece"]), "expected, 15 bins")
    if evidence.multi_label:
        return [
            ("Micro F1", percent(result["micro_f1"]), "all labels alike"),
            ("Wrong labels", percent(result["hamming"]), "Hamming loss"),
            loss,
            ece,
        ]
    top5 = [("Top-5 accuracy", percent(result["top5"]), "among the best five")] if len(evidence.classes) > 5 else []
    return [*top5, ("Mean class accuracy", percent(result["mean_class_accuracy"]), "every class alike"), loss, ece]


def _comparisons(evidence: Evidence) -> str:
    if not evidence.comparisons:
        return ""
    ours = ("this network", evidence.result[evidence.metric[0]])
    table = sorted([ours, *evidence.comparisons], key=lambda row: -row[1])
    cells = [
        f'<tr><td class="name">{"<b>" if row is ours else ""}{escaped(row[0])}{"</b>" if row is ours else ""}</td>'
        f'<td class="n">{percent(row[1])}</td><td class="bar">'
        f'<i{"" if row is ours else " class=other"} style="width:{row[1]:.2f}%"></i></td></tr>'
        for row in table
    ]
    return f'<h3 style="margin-top:26px">On the same images</h3><table>{"".join(cells)}</table>'


def _curves(evidence: Evidence, rows: list[LogRow]) -> str:
    how = (
        "The training loss is taken on augmented, mixed and smoothed images, so it may lie above the validation loss. "
        "EMA is the running average of the weights."
    )
    return sections.curves(rows, *evidence.metric, how)


def _confusion(evidence: Evidence) -> str:
    confusion = getattr(evidence.counter, "confusion", None)
    if confusion is None:
        return ""
    counts, names = confusion.numpy(), evidence.classes
    wide = max(300, 22 * len(names)) if len(names) <= figures.LABELS_UP_TO else 300
    how = "Rows are true classes, columns predictions; the stronger a cell, the larger its share of the row."
    drawn = figures.confusion_picture(counts, names)
    picture = f'<figure class="scroll"><div style="min-width:{wide}px">{drawn}</div></figure>'
    return note(how) + f'<div class="side">{picture}<div><h3>Most confused</h3>{_pairs(counts, names)}</div></div>'


def _pairs(counts: np.ndarray, names: list[str]) -> str:
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    shares = wrong / np.maximum(counts.sum(1, keepdims=True), 1)
    order = np.argsort(-(wrong + shares / 2), axis=None, kind="stable")[:PAIRS]  # at equal counts, the larger share
    places = [divmod(int(cell), len(counts)) for cell in order]
    rows = [
        (escaped(names[i]), escaped(names[j]), f"{wrong[i, j]:,}", percent(100 * shares[i, j]))
        for i, j in places
        if wrong[i, j]
    ]
    if not rows:
        return note("No image was given a wrong class.")
    return html_table((("true", "name"), ("predicted", "name"), ("images", "n"), ("of the class", "n")), rows)


def _classes(evidence: Evidence) -> str:
    figures_of = class_rows(*evidence.counter.classes.numpy())
    order = sorted(range(len(figures_of)), key=lambda i: (figures_of[i]["support"] == 0, figures_of[i]["f1"]))
    rows = []
    for i in order:
        row = figures_of[i]
        values = [percent(row[name]) if row["support"] else "–" for name in ("precision", "recall", "f1")]
        bar = f'<i style="width:{row["f1"]:.1f}%"></i>'
        rows.append((escaped(evidence.classes[i]), f"{row['support']:,}", *values, bar))
    columns = (("class", "name"), ("images", "n"), ("precision", "n"), ("recall", "n"), ("F1", "n"), ("", "bar"))
    how = (
        "Precision: of what was called so, the share that was so. Recall: of what was so, the share that was found. "
        "F1: their harmonic mean; lowest first."
    )
    return note(how) + html_table(columns, rows)


def _mistakes(evidence: Evidence) -> str:
    wrong = np.flatnonzero(~evidence.right)
    if not len(wrong):
        return note(f"None: all {len(evidence.ids):,} {evidence.split} images are right.")
    badness = _label_losses(evidence, wrong) if evidence.multi_label else evidence.probs[wrong].max(1)
    worst = wrong[np.argsort(-badness, kind="stable")][:MISTAKES]
    caption = _labels_caption if evidence.multi_label else _class_caption
    shots = "".join(
        shot(
            evidence.loader(evidence.ids[i]),
            f'{caption(evidence, i)}<div class="file">{escaped(evidence.ids[i])}</div>',
        )
        for i in worst
    )
    order = "largest loss first" if evidence.multi_label else "most confident first"
    share = (
        f"{len(wrong):,} of {len(evidence.ids):,} images are wrong; {order}. Wrong labels in the data show here too."
    )
    return note(share) + f'<div class="shots">{shots}</div>'


def _label_losses(evidence: Evidence, images: np.ndarray) -> np.ndarray:
    p = np.clip(evidence.probs[images].astype(np.float64), 1e-12, 1 - 1e-12)
    return -np.log(np.where(evidence.targets[images] > 0.5, p, 1 - p)).mean(1)


def _class_caption(evidence: Evidence, i: int) -> str:
    p, true = evidence.probs[i], int(evidence.targets[i])
    guess = int(p.argmax())
    return (
        f'<b class="wrong">{escaped(evidence.classes[guess])}</b> {p[guess]:.0%}<br>'
        f'is <b class="right">{escaped(evidence.classes[true])}</b> {p[true]:.0%}'
    )


def _labels_caption(evidence: Evidence, i: int) -> str:
    p, true = evidence.probs[i], evidence.targets[i] > 0.5
    missed, added = np.flatnonzero(true & (p < 0.5)), np.flatnonzero(~true & (p >= 0.5))
    lines = []
    for word, style, members in (("missed", "right", missed), ("added", "wrong", added)):
        named = ", ".join(f"<b class={style}>{escaped(evidence.classes[k])}</b> {p[k]:.0%}" for k in members)
        lines += [f"{word} {named}"] if named else []
    return "<br>".join(lines)


def _calibration(evidence: Evidence) -> str:
    bins = evidence.counter.bins.numpy()
    _, claimed, true = 100 * bins.sum(1) / bins[0].sum()
    if evidence.multi_label:
        average = f"On average a label is given {percent(claimed)} and present in {percent(true)} of the images."
    else:
        average = f"On average the network claims {percent(claimed)} for its prediction and is right {percent(true)}."
    text = (
        f"Expected calibration error: {percent(evidence.result['ece'])}, the distance of the bars from the diagonal, "
        f"averaged over all predictions. {average} A bar below the diagonal means over-confidence."
    )
    return f'<div class="side"><figure class="narrow">{figures.reliability(bins)}</figure>{note(text)}</div>'


def _maps(evidence: Evidence) -> str:
    if not evidence.cams:
        return ""
    shots = "".join(shot(picture, escaped(caption)) for picture, caption in evidence.cams)
    how = (
        "Class-activation maps (Grad-CAM) of the predicted class: red regions spoke for it most, clear ones not at all."
    )
    return note(how) + f'<div class="shots">{shots}</div>'


def gather(path: Path, task: Classify, model: nn.Module) -> Evidence:
    """Evaluates the published `model` of the run at `path` on the task's validation images, on this process alone."""
    outcome = result(path)
    rows: list[ClassifiedImage] = []
    task.evaluate(model, rows.append)
    probs = np.stack([row["probabilities"] for row in rows])
    targets = np.array([row["target"] for row in rows])
    place = {name: i for i, name in enumerate(task.val.ids)}

    def picture(name: str) -> Image.Image:
        return task.val[place[name]].image

    return Evidence(
        classes=list(task.val.classes),
        ids=[row["id"] for row in rows],
        probs=probs,
        targets=targets,
        loader=picture,
        cams=[] if task.multi_label else _class_maps(model, task, [row["id"] for row in rows], probs, targets),
        command=first_row(path)["command"],
        comparisons=outcome.comparisons,
        split=outcome.judged_split,
        choices=outcome.choices if outcome.test is None else 1,
        said=outcome.headline,
    )


def _class_maps(
    model: nn.Module, task: Classify, ids: Sequence[str], probs: np.ndarray, targets: np.ndarray
) -> list[tuple[Image.Image, str]]:
    """One picture a class, with the map of what the network took it for; none for networks without maps."""
    chosen = _one_per_class(targets)
    place = {name: i for i, name in enumerate(task.val.ids)}
    pictures = [task.val[place[ids[i]]].image for i in chosen]
    images = torch.stack([task.preprocess(picture) for picture in pictures]).to(task.run.device)
    said = [int(probs[i].argmax()) for i in chosen]
    try:
        maps = class_activation_map(model, images, torch.tensor(said))
    except UserError:
        return []
    names = task.val.classes
    captions = [f"{names[k]} ({probs[i, k]:.0%})" for i, k in zip(chosen, said, strict=True)]
    shown = [task.preprocess.resize(picture) for picture in pictures]
    return [(overlay(one, heat), text) for one, heat, text in zip(shown, maps, captions, strict=True)]


def _one_per_class(targets: np.ndarray) -> list[int]:
    _, first = np.unique(targets, return_index=True)
    return sorted(first.tolist())[:MAPS]
