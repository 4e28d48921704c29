"""Detectors as checkpoints: what kind a file holds, and its weights under our names or mmdetection's."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from .checkpoint import Checkpoint
from .dense import Heads, dense_weights, load_body, load_dense
from .keymaps import Weights
from .loading import LoadReport
from .rcnn import WITHOUT_MASKS, Detector, Kind, build_detector

MASK_HEAD = "roi_head.mask_head"
HEADS = Heads(
    "detector",
    ("neck.", "rpn_head.", "roi_head."),
    re.compile(r"\.(fc_cls|fc_reg|conv_logits)\.(weight|bias)$"),
    {"mmdet": ()},  # mmdetection 3 calls the backbone's parts as mmpretrain does and all else as the released files
)


def kind_of(weights: Weights) -> tuple[str, int] | None:
    """The detector that weights belong to and its number of classes; None when it is not a detector."""
    masked = any(f"{MASK_HEAD}." in name for name in weights)
    kinds: tuple[tuple[Kind, str], ...]
    kinds = (("mask_rcnn", "bbox_head.fc_cls.bias"), ("cascade_mask_rcnn", "bbox_head.0.fc_cls.bias"))
    for kind, key in kinds:
        for name, value in weights.items():
            if name.endswith(f"roi_head.{key}"):
                return kind if masked else WITHOUT_MASKS[kind], len(value) - 1  # the last row is the background's
    return None


def detector_of(weights: Weights, backbone: nn.Module) -> Detector | None:
    """A fresh detector of the shape of `weights` on a backbone of theirs; None when they are not a detector's."""
    found = kind_of(weights)
    return build_detector(found[0], backbone, found[1]) if found else None  # type: ignore[arg-type]


def load_detector(model: Detector, opened: Checkpoint, head: str, strict: bool,
                  load_backbone: Callable[[nn.Module], LoadReport]) -> LoadReport:  # fmt: skip
    """Loads a detector's checkpoint, or with `load_backbone` a classifier's into the backbone alone."""
    if kind_of(opened.weights) is None:
        return load_body(model, load_backbone, "pyramid and heads start fresh")
    if not model.masked:  # boxes alone are learned, be it from a detector that had outlines
        dropped = [name for name in opened.weights if f"{MASK_HEAD}." in name]
        weights = {name: value for name, value in opened.weights.items() if name not in dropped}
        notes = (*opened.notes, "the heads for masks are left out") if dropped else tuple(opened.notes)
        return load_dense(model, replace(opened, weights=weights, notes=notes), head, strict, HEADS)
    return load_dense(model, opened, head, strict, HEADS, without=(f"{MASK_HEAD}.",))


def detector_weights(model: Detector, naming: str) -> Weights:
    return dense_weights(model, naming, HEADS)
