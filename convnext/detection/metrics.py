"""COCO's average precision and recall, for boxes and masks; the counting itself is faster-coco-eval's.

D detections of an image, H x W its pixels.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from .coco_format import AnnotationRow, CocoContent, NamedRow, ResultRow
from .rle import library, run_lengths

# faster-coco-eval's names of COCO's twelve figures, and ours
FIGURES = {
    "AP_all": "ap", "AP_50": "ap50", "AP_75": "ap75", "AP_small": "ap_small", "AP_medium": "ap_medium",
    "AP_large": "ap_large", "AR_all": "ar1", "AR_second": "ar10", "AR_third": "ar100", "AR_small": "ar_small",
    "AR_medium": "ar_medium", "AR_large": "ar_large",
}  # fmt: skip
KINDS = {"box": "bbox", "mask": "segm"}
RECALLS = 101  # at which precision is taken
IOU_PLACES = {"50": 0, "75": 5}  # of IoU 0.50 and 0.75 among the ten from 0.50 to 0.95


def as_coco(
    detections: dict[str, Tensor], image_id: int, category_ids: Sequence[int], parts: Iterable[Tensor] | None = None
) -> list[ResultRow]:
    """What a detector found in one image ("boxes", "scores", "labels", and "masks" by choice) as COCO result rows.

    `parts` are the masks instead, a few (part of D, H, W) at a time: all of a large picture's take gigabytes.
    """
    boxes = detections["boxes"].detach().cpu().double()
    corners = boxes.clone()
    corners[:, 2:] -= boxes[:, :2]
    rows: list[ResultRow] = [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for label, box, score in zip(
            detections["labels"].tolist(), corners.tolist(), detections["scores"].tolist(), strict=True
        )
    ]
    if "masks" in detections:
        parts = [detections["masks"]]
    if parts is not None:
        encoded = (runs for masks in parts for runs in run_lengths(masks.cpu().numpy()))
        for row, runs in zip(rows, encoded, strict=True):
            row["segmentation"] = runs
    return rows


def evaluate(truth: CocoContent, rows: Sequence[ResultRow], *, masks: bool = True) -> dict[str, float]:
    """COCO's twelve figures in percent, as `box_ap`, `box_ap50`, …, and with `masks` `mask_ap`, ….

    `truth` is an annotation file's content, `rows` are result rows. A figure that the truth has no objects for (say,
    none is small) is left out. Raises UserError when faster-coco-eval is not installed.
    """
    return judge(truth, rows, masks=masks)[0]


def judge(
    truth: CocoContent, rows: Sequence[ResultRow], *, masks: bool = True
) -> tuple[dict[str, float], dict[str, Details]]:
    """The figures of `evaluate`, and what lies behind those of "box" and of "mask"."""
    found: dict[str, float] = {}
    behind: dict[str, Details] = {}
    for name in ("box", "mask")[: 1 + masks]:
        counted = _counted(truth, rows, KINDS[name])
        figures = counted.stats_as_dict if counted is not None else dict.fromkeys(FIGURES, 0.0)
        found |= {
            f"{name}_{ours}": 100 * float(figures[theirs]) for theirs, ours in FIGURES.items() if figures[theirs] >= 0
        }
        behind[name] = _details(truth, counted)
    return found, behind


def named(row: ResultRow, name: str) -> NamedRow:
    """A result row with its category's name, without the image's id."""
    found: NamedRow = {"class": name, "category_id": row["category_id"], "bbox": row["bbox"], "score": row["score"]}
    if "segmentation" in row:
        found["segmentation"] = row["segmentation"]
    return found


@dataclass(frozen=True)
class Details:
    """What lies behind the averages. AP in percent by category id, of those that have objects."""

    ap: dict[int, float]
    precision: dict[str, np.ndarray]  # "50" and "75" (IoU) -> (101,) at recalls from 0 to 1, mean over categories


def details(truth: CocoContent, rows: Sequence[ResultRow], kind: str = "box") -> Details:
    """Category by category, and precision over recall; `kind` is "box" or "mask"."""
    return _details(truth, _counted(truth, rows, KINDS[kind]))


def by_class(truth: CocoContent, behind: dict[str, Details]) -> dict[str, float]:
    """AP of each class that has objects, in percent, as "box_ap NAME" and "mask_ap NAME"."""
    name = {row["id"]: row["name"] for row in truth["categories"]}
    return {f"{kind}_ap {name[number]}": ap for kind, one in behind.items() for number, ap in one.ap.items()}


def _details(truth: CocoContent, counted: _Counted | None) -> Details:
    present = sorted({row["category_id"] for row in truth["annotations"] if not row.get("iscrowd")})
    if counted is None:
        return Details(dict.fromkeys(present, 0.0), {name: np.zeros(RECALLS) for name in IOU_PLACES})
    precision = np.asarray(counted.eval["precision"])[:, :, :, 0, -1]  # (IoU, recall, category)
    place = {number: k for k, number in enumerate(counted.params.catIds)}
    shown = precision[:, :, [place[number] for number in present]]
    return Details(
        {number: 100 * float(shown[:, :, k].mean()) for k, number in enumerate(present)},
        {name: shown[index].mean(1) for name, index in IOU_PLACES.items()},
    )


def complete(truth: CocoContent) -> CocoContent:
    """`truth` with what COCO's evaluation needs and exports leave out: ids, crowd marks, areas, outlines.

    An outline made here ends with its image; the library would draw one of 10^12 pixels until memory ends.
    """
    rows: list[AnnotationRow] = []
    size = {row["id"]: (row["width"], row["height"]) for row in truth["images"]}
    for number, row in enumerate(truth["annotations"], 1):
        w, h = row["bbox"][2:]
        area = row.get("area")
        outline = row.get("segmentation") or [_corners(row["bbox"], *size[row["image_id"]])]
        rows.append(
            {
                **row,
                "id": number,
                "iscrowd": int(row.get("iscrowd") or 0),
                "area": w * h if area is None else area,
                "segmentation": outline,
            }
        )
    return {**truth, "annotations": rows}


def _corners(box: Sequence[float], width: float, height: float) -> list[float]:
    """x, y, width and height -> x and y of the four corners of what is within the image."""
    x, y, w, h = box
    left, right = (min(max(side, 0), width) for side in (x, x + w))
    top, bottom = (min(max(side, 0), height) for side in (y, y + h))
    return [left, top, right, top, right, bottom, left, bottom]


class _Parameters(Protocol):
    """The library keeps an evaluation's settings here."""

    @property
    def catIds(self) -> Sequence[int]: ...


class _Counted(Protocol):
    """The library's evaluation offers this; it has no types of its own."""

    @property
    def stats_as_dict(self) -> Mapping[str, float]: ...

    @property
    def eval(self) -> Mapping[str, np.ndarray]: ...

    @property
    def params(self) -> _Parameters: ...

    def run(self) -> None: ...


def _counted(truth: CocoContent, rows: Sequence[ResultRow], kind: str) -> _Counted | None:
    """The finished evaluation; None where nothing was found, which the library does not take."""
    if not rows:
        return None
    coco = library()
    counted: _Counted
    with contextlib.redirect_stdout(io.StringIO()):
        known = coco.COCO(complete(truth))
        counted = coco.COCOeval_faster(known, known.loadRes(_for(kind, rows)), kind, print_function=lambda *_: None)
        counted.run()
    return counted


def _for(kind: str, rows: Sequence[ResultRow]) -> list[dict[str, object]]:
    """Result rows of one kind: beside boxes, the library would take a mask's area for the box's."""
    left_out = "segmentation" if kind == "bbox" else "bbox"
    return [{key: value for key, value in row.items() if key != left_out} for row in rows]
