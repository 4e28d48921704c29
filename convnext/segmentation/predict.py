"""A trained segmenter at work: its mIoU on pictures with masks, and the classes of other pictures' pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from .. import files
from ..data.images import open_image, readable, within_memory
from ..data.keep_ratio import KeepRatio
from ..data.output_paths import targets
from ..dense.classes import require_known
from ..errors import UserError
from ..system.tables import Row
from ..training import runtime
from ..training.run_folder import learned_by
from ..training.slice import EvaluateOptions, ImageIds, PredictOptions, Result
from ..weights.info import info_of
from .data import SegmentationSource, open_masks_for_judging
from .draw import draw_labels
from .mask_coding import IGNORED, MaskCoding, coding_of
from .metrics import of_segmenter
from .model import Segmenter
from .sliding import label_map
from .task import SegmentationEvaluator, per_class

OVERLAY, COLOURS = "_overlay.jpg", "_colours.png"  # what is written beside NAME.png


@dataclass(frozen=True)
class SegmentationPrediction:
    """The share of each class in one image's pixels, largest first."""

    path: str
    shares: tuple[tuple[str, float], ...] = ()
    error: str | None = None  # why the file could not be read

    columns: ClassVar[tuple[str, ...]] = ("path", "class", "share", "error")
    faults_in_json: ClassVar[bool] = True

    def line(self) -> str:
        """For people."""
        return ", ".join(f"{name} {share:.1%}" for name, share in self.shares)

    def table(self) -> list[Row]:
        """Of a table with `columns`."""
        return [{"path": self.path, "class": name, "share": round(share, 6)} for name, share in self.shares]

    def json(self, image_ids: ImageIds) -> list[Row]:
        """Objects of a JSON array."""
        return [{"path": self.path, "error": self.error, "areas": dict(self.shares)}]


def unreadable(path: str, error: str) -> SegmentationPrediction:
    """The answer for a file that cannot be read."""
    return SegmentationPrediction(path, error=error)


def evaluate(model: Segmenter, checkpoint: str | Path, data: str | Path | None, options: EvaluateOptions) -> Result:
    """mIoU, accuracies and each class's IoU on pictures with masks, in percent; classes are matched by name.

    Of a folder without splits all images count, but for those that the segmenter learned from.
    Raises UserError when no data is named or one of its classes is unknown to the segmenter.
    """
    if data is None:
        raise UserError(f"{checkpoint} is a segmenter: pass a folder of images with masks to judge it on")
    mode = options.mode or "slide"
    found, note = open_masks_for_judging(
        data, options.split, coding=coding_from(model), classes=options.labels, learned=learned_by(model)
    )
    source = matched(model, checkpoint, found)
    if options.say is not None:
        options.say(f"{note}: {len(source.classes)} classes, {mode}")
    protocol = KeepRatio.from_dict(info_of(model).preprocess)
    with runtime.start_judging(model, options.precision, options.say) as run:
        evaluator = SegmentationEvaluator(source, protocol, run, mode)
        own: list[np.ndarray] = []
        result: Result = dict(
            evaluator.evaluate(
                model.to(run.device).eval(),
                lambda one: own.append(_pixels(one["found"], one["truth"], len(source.classes))),
            )
        )
        every = np.stack([row for part in run.gather(own) for row in part])
    result["intervals"] = of_segmenter(every[:, 0], every[:, 1], every[:, 2])
    return result | {f"iou {name}": value for name, value in per_class(evaluator.counter, source.classes).items()}


def _pixels(found: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """(3, K) of one image's pixels by class: right, there, found; those that count for nothing left out."""
    counted = truth >= 0
    right = truth[counted & (found == truth)]
    return np.stack(
        [np.bincount(part, minlength=classes)[:classes] for part in (right, truth[counted], found[counted])]
    )


def matched(model: Segmenter, checkpoint: str | Path, source: SegmentationSource) -> SegmentationSource:
    """`source` with labels in the order of the model's classes. Raises UserError where they do not meet."""
    coding, names = source.coding, info_of(model).classes
    require_known(model, checkpoint, coding.classes)
    if names is None or list(coding.classes) == names:
        return source
    place = {name: i for i, name in enumerate(coding.classes)}
    absent = max((*coding.values, *coding.ignored)) + 1  # a value that no mask holds
    values = tuple(coding.values[place[name]] if name in place else absent + i for i, name in enumerate(names))
    unseen = tuple((-1 - i, -1, -1) for i in range(len(names)))  # colours that no mask holds
    colours = tuple(coding.colours[place[name]] if name in place else unseen[i] for i, name in enumerate(names))
    return replace(source, coding=replace(coding, classes=tuple(names), values=values, colours=colours))


def coding_from(model: Segmenter) -> MaskCoding:
    """How the masks of a model's pictures show its classes; by position where its file does not say."""
    info = info_of(model)
    if info.mask_coding is not None:
        return MaskCoding.from_dict(info.mask_coding)
    names = info.classes or [str(i) for i in range(model.num_classes)]
    return coding_of(names, [None] * len(names))


def predict(
    model: Segmenter, checkpoint: str | Path, paths: Sequence[str], options: PredictOptions
) -> Iterator[SegmentationPrediction]:
    """How much of each picture is what. `out` is a folder for the masks, NAME.png, and pictures under them,
    NAME_overlay.jpg; beside the masks of classes whose training masks were in colour, NAME_colours.png.

    Raises UserError, before anything is done, where a file would take the place of another or of a picture.
    """
    protocol, coding = KeepRatio.from_dict(info_of(model).preprocess), coding_from(model)
    drawn = {} if options.out is None else _places(paths, options.out, coding)
    with runtime.start_judging(model, options.precision, options.say) as run:
        model = model.to(run.device).eval()
        for path in paths:
            try:
                image = open_image(path, name=path, levels=protocol.levels)
                with within_memory(readable(path)):
                    labels = label_map(model, image, protocol, options.mode or "slide", run)
            except UserError as error:
                yield unreadable(path, str(error))
                continue
            if path in drawn:
                _draw(drawn[path], image, labels, coding)
            counts = np.bincount(labels[labels != IGNORED].ravel(), minlength=len(coding.classes)) / labels.size
            order = [k for k in np.argsort(-counts, kind="stable").tolist() if counts[k]]
            yield SegmentationPrediction(path, tuple((coding.classes[k], float(counts[k])) for k in order))


def _places(paths: Sequence[str], out: Path, coding: MaskCoding) -> dict[str, Path]:
    """Where each picture's mask goes. Raises UserError where two of all files that are written would be one."""
    masks = targets(paths, out, (".png", OVERLAY, *([COLOURS] if coding.in_colour else [])))
    beside = {_beside(mask, COLOURS) for mask in masks.values()} if coding.in_colour else set()
    if both := sorted(beside & set(masks.values())):
        raise UserError(f"{readable(both[0])} would be the mask of one picture and the colours of another; rename one")
    return masks


def _beside(mask: Path, ending: str) -> Path:
    return mask.with_name(mask.name.removesuffix(".png") + ending)


def _draw(mask: Path, image: Image.Image, labels: np.ndarray, coding: MaskCoding) -> None:
    """Writes an image's mask, whose file is called NAME.png, and what lies beside it."""
    with files.atomic(mask) as temporary:
        coding.image(labels).save(temporary, "PNG")
    with files.atomic(_beside(mask, OVERLAY)) as temporary:
        draw_labels(image, labels, coding).save(temporary, "JPEG", quality=92)
    if coding.in_colour:
        with files.atomic(_beside(mask, COLOURS)) as temporary:
            coding.coloured(labels).save(temporary, "PNG")
