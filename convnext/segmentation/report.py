"""The page of a segmenter's run: how good it is, what it confuses, where it errs most.

Shapes: H x W pixels, K classes.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..recipes.recipe import TestMode
from ..reports import figures, sections
from ..reports.page import Part, RunRecord, escaped, html_table, note, percent, run_tiles, shot, write_page
from .data import SegmentationSource, picture_of
from .draw import draw_labels
from .metrics import SegmentationCounter
from .task import SegmentedImage

WORST = 8  # pictures
PAIRS = 15  # rows of the table of confused classes
MODES = {"slide": "in sliding windows", "whole": "whole", "multiscale": "whole, at six scales, also mirrored"}


@dataclass
class SegmentationEvidence:
    """What a segmenter made of the images of a `split`; of the worst ones, the labels themselves.

    `said` are sentences on how good the weights are.
    """

    source: SegmentationSource
    command: str
    split: str = "validation"
    mode: TestMode = "slide"  # how the pictures were seen
    said: list[str] = field(default_factory=list)
    result: dict[str, float] = field(default_factory=dict)
    counter: SegmentationCounter = field(default_factory=lambda: SegmentationCounter(0))
    worst: list[tuple[float, int, np.ndarray, np.ndarray]] = field(default_factory=list)  # a heap: the best is first

    def add(self, record: SegmentedImage) -> None:
        """One image's record, as the task hands it out."""
        own = SegmentationCounter(len(self.source.classes))
        own.update(torch.from_numpy(record["found"]), torch.from_numpy(record["truth"]))
        if own.confusion.sum():
            row = (-own.result()["miou"], record["index"], record["found"], record["truth"])
            (heapq.heappush if len(self.worst) < WORST else heapq.heappushpop)(self.worst, row)

    def pictures(self, index: int, found: np.ndarray, truth: np.ndarray) -> tuple[Image.Image, Image.Image]:
        """The image under what was found and under the truth."""
        image = picture_of(self.source.images[index], truth.shape, self.source.masks[index])
        coding = self.source.coding
        return draw_labels(image, found, coding), draw_labels(image, truth, coding)


def write_segmentation_report(run: Path, evidence: SegmentationEvidence) -> Path:
    """Writes `run`/report/index.html; returns its path."""

    def parts(record: RunRecord) -> list[Part]:
        return [
            ("result", "Result", _headline(evidence, record)),
            ("curves", "Learning curves", sections.curves(record.rows, "miou", "mIoU")),
            ("classes", "Class by class", _classes(evidence)),
            ("confusion", "What it takes for what", _confusion(evidence)),
            ("worst", "Worst images", _worst(evidence)),
        ]

    return write_page(run, evidence.command, parts)


def _headline(evidence: SegmentationEvidence, record: RunRecord) -> str:
    result, source = evidence.result, evidence.source
    mode = MODES[evidence.mode]
    how = (
        f"Intersection over union, mean over classes. {len(source):,} {evidence.split} images, "
        f"seen {mode}; {len(source.classes):,} classes. No interval is given for mIoU."
    )
    own = [
        ("Pixel accuracy", percent(result["aacc"]), "share of all labelled pixels"),
        ("Mean accuracy", percent(result["macc"]), "share of each class's pixels, mean over classes"),
    ]
    score = sections.score("mIoU", result["miou"], how, evidence.said)
    return sections.headline(score, [*own, *run_tiles(record)])


def _classes(evidence: SegmentationEvidence) -> str:
    counts = evidence.counter.confusion.double()
    there, iou = counts.sum(1), evidence.counter.iou()
    share = 100 * there / there.sum().clamp_min(1)
    recall = 100 * counts.diagonal() / there.clamp_min(1)
    rows = [
        (
            escaped(evidence.source.classes[k]),
            percent(float(share[k])),
            percent(float(recall[k])),
            percent(float(iou[k])),
            f'<i style="width:{float(iou[k]):.1f}%"></i>',
        )
        for k in iou.nan_to_num(1e9).argsort().tolist()
        if there[k]
    ]
    columns = (("class", "name"), ("of all pixels", "n"), ("found", "n"), ("IoU", "n"), ("", "bar"))
    return note(f"Each class that the {evidence.split} masks show; lowest first.") + html_table(columns, rows)


def _confusion(evidence: SegmentationEvidence) -> str:
    names = list(evidence.source.classes)
    counts = evidence.counter.confusion.numpy()
    how = "Rows are the masks' classes, columns what the network says, in percent of a row's pixels."
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    total = max(1, int(counts.sum()))
    rows = [
        (escaped(names[i]), escaped(names[j]), percent(100 * wrong[i, j] / total))
        for i, j in (divmod(int(cell), len(counts)) for cell in order)
        if wrong[i, j]
    ]
    columns = (("truth", "name"), ("said", "name"), ("of all pixels", "n"))
    table = html_table(columns, rows) if rows else note("No error.")
    picture = (
        f'<figure class="scroll"><div style="min-width:300px">{figures.confusion_picture(counts, names)}</div></figure>'
    )
    return note(how) + f'<div class="side">{picture}<div><h3>Most frequent errors</h3>{table}</div></div>'


def _worst(evidence: SegmentationEvidence) -> str:
    shots = []
    for negative, index, found, truth in sorted(evidence.worst, key=lambda row: -row[0]):
        name = escaped(evidence.source.ids[index])
        said, meant = evidence.pictures(index, found, truth)
        file = f'<div class="file">{name}</div>'
        found_and_mask = shot(said, f"found: mIoU {percent(-negative)}{file}") + shot(meant, f"mask{file}")
        shots.append(f'<div class="pair">{found_and_mask}</div>')
    how = "Those with the lowest mIoU over the classes in them: what was found, then the mask."
    return note(how) + f'<div class="shots pairs">{"".join(shots)}</div>' if shots else ""
