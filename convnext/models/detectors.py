"""Detectors as checkpoints: what kind a file holds, and its weights under our names or mmdetection's.

The released files and ours have the same names. mmdetection 3 calls the backbone's parts as mmpretrain does and all
else alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from ..errors import UserError
from .checkpoint import Checkpoint
from .fitting import some
from .keymaps import Weights, from_official, to_official
from .loading import LoadReport, fill
from .rcnn import Detector, build_detector

BODY = "backbone."
HEADS = ("neck.", "rpn_head.", "roi_head.")
PER_CLASS = re.compile(r"\.(fc_cls|fc_reg|conv_logits)\.(weight|bias)$")  # as many rows as there are classes
NAMINGS = ("official", "mmdet")


def kind_of(weights: Weights) -> tuple[str, int] | None:
    """The detector that weights belong to and its number of classes; None when it is not a detector."""
    for kind, key in (("mask_rcnn", "bbox_head.fc_cls.bias"), ("cascade_mask_rcnn", "bbox_head.0.fc_cls.bias")):
        for name, value in weights.items():
            if name.endswith(f"roi_head.{key}"):
                return kind, len(value) - 1  # the last row is the background's
    return None


def detector_of(weights: Weights, backbone: nn.Module) -> Detector | None:
    """A fresh detector of the shape of `weights` on a backbone of theirs; None when they are not a detector's."""
    found = kind_of(weights)
    return build_detector(found[0], backbone, found[1]) if found else None  # type: ignore[arg-type]


def load_detector(model: Detector, opened: Checkpoint, head: str, strict: bool,
                  load_backbone: Callable[[nn.Module], LoadReport]) -> LoadReport:  # fmt: skip
    """Loads a detector's checkpoint, or with `load_backbone` a classifier's into the backbone alone.

    What depends on the classes is kept as it was created where their number differs, or always with `head="drop"`.
    """
    if kind_of(opened.weights) is None:
        report = load_backbone(model.backbone)
        return replace(report, head="reinitialised", notes=(*report.notes, "pyramid and heads start fresh"))
    translated = to_official(opened.weights, opened.source)
    prefix = translated.prefix.removesuffix(BODY)
    weights = {BODY + name: value for name, value in translated.weights.items()}
    weights |= {name.removeprefix(prefix): opened.weights[name] for name in translated.outside}
    notes, fresh = [*opened.notes, *translated.notes], set()
    if opened.release:
        notes.append(f"licence {opened.release.licence}, from {opened.release.url}")
    own = model.state_dict()
    of_classes = [name for name in weights if PER_CLASS.search(name) and name in own]
    other = [name for name in of_classes if weights[name].shape[0] != own[name].shape[0]]
    if other or head == "drop":
        fresh = set(of_classes)
        weights = {name: value for name, value in weights.items() if name not in fresh}
        notes.append(f"the rows of classes start fresh: {some(sorted(fresh))}")
    fate = "reinitialised" if fresh else "loaded"
    naming = "mmdet" if translated.naming.name.startswith("mmdet") else "official"
    return fill(model, weights, LoadReport(opened.source, naming, opened.entry, head=fate, notes=tuple(notes)),
                fresh=fresh, strict=strict)  # fmt: skip


def detector_weights(model: Detector, naming: str) -> Weights:
    """The weights under the names of "official" or "mmdet"; UserError for a library without such a detector."""
    if naming not in NAMINGS:
        raise UserError(f"a detector cannot be written in {naming!r} naming; use {' or '.join(NAMINGS)}")
    weights = dict(model.state_dict())
    if naming == "official":
        return weights
    body = {name.removeprefix(BODY): value for name, value in weights.items() if name.startswith(BODY)}
    heads = {name: value for name, value in weights.items() if name.startswith(HEADS)}
    return from_official(body, "mmdet", model.backbone.arch, True) | heads
