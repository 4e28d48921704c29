"""The page of a detector's run: how good it is, what it confuses, where it errs most.

Shapes: G objects and D detections of an image, K classes. Number K stands for the background.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ..reports import figures, sections
from ..reports.page import Part, RunRecord, escaped, html_table, note, percent, run_tiles, shot, write_page
from .coco_format import AnnotationRow, ResultRow, is_crowd
from .draw import draw_objects
from .metrics import Details, judge, named
from .source import DetectionSource

LEAST_SCORE = 0.3  # of the detections that the confusion matrix and the pictures count
MATCH = 0.5  # IoU from which a detection stands for an object
WORST = 12  # pictures
PAIRS = 15  # rows of the table of confused classes


@dataclass(frozen=True)
class Errors:
    """Of one image: (object's class, detection's class) of each pair; K where there was no object, or nothing found."""

    name: str
    pairs: list[tuple[int, int]]

    @property
    def wrong(self) -> int:
        return sum(truth != said for truth, said in self.pairs)


@dataclass(frozen=True)
class Truth:
    """What an image holds: boxes as x1, y1, x2, y2, and labels as positions among the classes."""

    boxes: np.ndarray  # (G, 4)
    labels: np.ndarray  # (G,)
    crowds: np.ndarray  # (C, 4) regions with more objects than were marked one by one
    crowd_labels: np.ndarray  # (C,)

    @classmethod
    def of(cls, annotations: Sequence[AnnotationRow], place: dict[int, int]) -> Truth:
        """From an annotation file's rows; `place` is the position of each category id."""
        boxes = np.array([row["bbox"] for row in annotations], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([place[row["category_id"]] for row in annotations], dtype=np.int64)
        crowd = np.array([is_crowd(row) for row in annotations], dtype=bool)
        return cls(boxes[~crowd], labels[~crowd], boxes[crowd], labels[crowd])


@dataclass(frozen=True)
class DetectionEvidence:
    """What a detector found in the images of a `split`: COCO result rows by image name.

    `said` are sentences on how good the weights are.
    """

    source: DetectionSource
    found: dict[str, list[ResultRow]]
    command: str
    split: str = "validation"
    said: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[ResultRow]:
        return [row for rows in self.found.values() for row in rows]

    @property
    def result(self) -> dict[str, float]:
        return self._judged[0]

    @property
    def details(self) -> dict[str, Details]:
        """Of boxes, and of masks where there are any."""
        return self._judged[1]

    @cached_property
    def _judged(self) -> tuple[dict[str, float], dict[str, Details]]:
        return judge(self.source.raw, self.rows, masks=self.source.masks)

    @cached_property
    def errors(self) -> list[Errors]:
        """By the objects that average precision counts: all of the file, also those that are too thin to learn from."""
        place = {number: k for k, number in enumerate(self.source.category_ids)}
        of_image: dict[int, list[AnnotationRow]] = defaultdict(list)
        for row in self.source.raw["annotations"]:
            of_image[row["image_id"]].append(row)
        return [
            Errors(name, _matched(Truth.of(of_image[number], place), self._sure(name), place))
            for name, number in zip(self.source.ids, self.source.image_ids, strict=True)
        ]

    @cached_property
    def counts(self) -> np.ndarray:
        """(K,) objects of each class that are judged."""
        place = {number: k for k, number in enumerate(self.source.category_ids)}
        labels = [place[row["category_id"]] for row in self.source.raw["annotations"] if not is_crowd(row)]
        return np.bincount(labels, minlength=len(place))

    def picture(self, name: str) -> Image.Image:
        """The image with what was found drawn in."""
        number = dict(zip(self.source.category_ids, self.source.classes, strict=True))
        rows = [named(row, number[row["category_id"]]) for row in self._sure(name)]
        return draw_objects(self.source.image(self.source.ids.index(name)), rows)

    def _sure(self, name: str) -> list[ResultRow]:
        return [row for row in self.found.get(name, []) if row["score"] >= LEAST_SCORE]


def write_detection_report(run: Path, evidence: DetectionEvidence) -> Path:
    """Writes `run`/report/index.html; returns its path."""

    def parts(record: RunRecord) -> list[Part]:
        return [
            ("result", "Result", _headline(evidence, record)),
            ("curves", "Learning curves", sections.curves(record.rows, "box_ap", "Box AP")),
            ("precision", "Precision and recall", _precision(evidence)),
            ("classes", "Class by class", _classes(evidence)),
            ("confusion", "What it takes for what", _confusion(evidence)),
            ("worst", "Worst images", _worst(evidence)),
        ]

    return write_page(run, evidence.command, parts)


def _headline(evidence: DetectionEvidence, record: RunRecord) -> str:
    result, source = evidence.result, evidence.source
    names = {
        "box_ap50": "Box AP50",
        "box_ap75": "Box AP75",
        "mask_ap": "Mask AP",
        "mask_ap50": "Mask AP50",
        "box_ap_small": "Small objects",
        "box_ap_medium": "Medium objects",
        "box_ap_large": "Large objects",
        "box_ar100": "Recall",
    }
    whats = {
        "box_ap_small": "box AP, below 32² pixels",
        "box_ap_medium": "box AP, to 96² pixels",
        "box_ap_large": "box AP, beyond",
        "box_ar100": "of boxes, 100 an image",
    }
    tiles = [
        (label, percent(result[key]), whats.get(key, "COCO's measure")) for key, label in names.items() if key in result
    ]
    how = (
        f"Mean over IoU 0.50 to 0.95. {len(source):,} {evidence.split} images, "
        f"{source.judged:,} objects, {len(source.classes):,} classes. No interval is given for average precision."
    )
    score = sections.score("Box AP", result["box_ap"], how, evidence.said)
    return sections.headline(score, [*tiles, *run_tiles(record)])


def _precision(evidence: DetectionEvidence) -> str:
    curves = {
        f"{kind} {iou}": values for kind, found in evidence.details.items() for iou, values in found.precision.items()
    }
    how = "Mean over classes, for detections that overlap an object by at least 50 and 75 per cent of their union."
    return note(how) + f'<figure style="max-width:480px">{figures.precision_recall(curves)}</figure>'


def _classes(evidence: DetectionEvidence) -> str:
    source, kinds = evidence.source, evidence.details
    rows = []
    for number, value in sorted(kinds["box"].ap.items(), key=lambda item: item[1]):
        k = source.category_ids.index(number)
        values = [percent(found.ap[number]) for found in kinds.values()]
        bar = f'<i style="width:{value:.1f}%"></i>'
        rows.append((escaped(source.classes[k]), f"{evidence.counts[k]:,}", *values, bar))
    columns = [("class", "name"), ("objects", "n"), *((f"{kind} AP", "n") for kind in kinds), ("", "bar")]
    return note("Average precision of each class that has objects; lowest first.") + html_table(columns, rows)


def _confusion(evidence: DetectionEvidence) -> str:
    names = [*evidence.source.classes, "nothing"]
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for errors in evidence.errors:
        for truth, said in errors.pairs:
            counts[truth, said] += 1
    how = (
        f"Rows are objects, columns what was found there with a score of at least {LEAST_SCORE:g} and an overlap of at "
        f"least {MATCH:.0%}; “nothing” is an object that was missed, or a find where no object is. Finds in a region "
        "marked as a crowd of their class are not counted."
    )
    order = np.argsort(-(counts * (1 - np.eye(len(counts), dtype=counts.dtype))), axis=None, kind="stable")[:PAIRS]
    places = [divmod(int(cell), len(counts)) for cell in order]
    rows = [(escaped(names[i]), escaped(names[j]), f"{counts[i, j]:,}") for i, j in places if i != j and counts[i, j]]
    table = html_table((("object", "name"), ("found", "name"), ("times", "n")), rows) if rows else note("No error.")
    picture = (
        f'<figure class="scroll"><div style="min-width:300px">{figures.confusion_picture(counts, names)}</div></figure>'
    )
    return note(how) + f'<div class="side">{picture}<div><h3>Most frequent errors</h3>{table}</div></div>'


def _worst(evidence: DetectionEvidence) -> str:
    ranked = sorted((one for one in evidence.errors if one.wrong), key=lambda one: -one.wrong)[:WORST]
    if not ranked:
        return note("None: everything was found, and nothing else.")
    background = len(evidence.source.classes)
    shots = []
    for one in ranked:
        missed = sum(said == background for _, said in one.pairs)
        extra = sum(truth == background for truth, _ in one.pairs)
        caption = f"{missed} missed, {extra} where nothing is, {one.wrong - missed - extra} of another class"
        shots.append(shot(evidence.picture(one.name), f'{caption}<div class="file">{escaped(one.name)}</div>'))
    how = f"Those with the most errors; detections with a score of at least {LEAST_SCORE:g} are drawn."
    return note(how) + f'<div class="shots">{"".join(shots)}</div>'


def _matched(truth: Truth, rows: Sequence[ResultRow], place: dict[int, int]) -> list[tuple[int, int]]:
    """Each detection, surest first, takes the free object that it overlaps most, whatever the class.

    One that takes none is an error, but not within a crowd of its class: COCO's measure leaves it out, too.
    """
    boxes, labels, background = truth.boxes, truth.labels, len(place)
    free = np.ones(len(boxes), dtype=bool)
    pairs = []
    for row in sorted(rows, key=lambda row: -row["score"]):
        x, y, w, h = row["bbox"]
        said, box = place[row["category_id"]], np.array((x, y, x + w, y + h))
        overlap = np.where(free, _overlap(boxes, box), 0) if len(boxes) else np.zeros(1)
        best = int(overlap.argmax())
        if overlap[best] >= MATCH:
            free[best] = False
            pairs.append((int(labels[best]), said))
        elif not (_share_within(truth.crowds[truth.crowd_labels == said], box) >= MATCH).any():
            pairs.append((background, said))
    return pairs + [(int(label), background) for label in labels[free]]


def _overlap(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(G, 4), (4,) -> (G,) intersection over union."""
    shared = _shared(boxes, box)
    both = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return np.asarray(shared / np.maximum(both - shared, 1e-9))


def _share_within(crowds: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(C, 4), (4,) -> (C,) share of the box that lies within each crowd."""
    return np.asarray(_shared(crowds, box) / max((box[2:] - box[:2]).prod(), 1e-9))


def _shared(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(G, 4), (4,) -> (G,) pixels that both cover."""
    return np.asarray((np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])).clip(0).prod(1))
