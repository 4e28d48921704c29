"""Detectors as checkpoints: what kind a file holds, and its weights under our names or mmdetection's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from ..catalog.class_lists import coco
from ..catalog.releases import AnyRelease
from ..data.keep_ratio import KeepRatio
from ..dense.weights import Heads, dense_weights, load_body, load_dense, refuse_rows
from ..models.convnext import Backbone
from ..weights.backbone import shape_of
from ..weights.checkpoint import Checkpoint
from ..weights.info import ModelInfo
from ..weights.keymaps import Weights
from ..weights.load_report import LoadReport
from .model.rcnn import WITHOUT_MASKS, Detector, Kind, build_detector
from .transforms import PAPER_SIDE, protocol

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


def holds(model: nn.Module) -> bool:
    """Whether a model is a detector."""
    return isinstance(model, Detector)


def recognise(opened: Checkpoint, network: nn.Module) -> Detector | None:
    """A fresh detector of the shape of a checkpoint on a backbone of its; None when it is not a detector's."""
    found = kind_of(opened.weights)
    return build_detector(found[0], network, found[1]) if found and isinstance(network, Backbone) else None


def load(model: Detector, opened: Checkpoint, head: str, rows: Sequence[int] | None, strict: bool) -> LoadReport:
    """Loads a detector's checkpoint, or a classifier's into the backbone alone."""
    refuse_rows(model, rows)
    if kind_of(opened.weights) is None:
        return load_body(model, opened, strict, "pyramid and heads start fresh")
    if not model.masked:  # boxes alone are learned, be it from a detector that had outlines
        dropped = [name for name in opened.weights if f"{MASK_HEAD}." in name]
        weights = {name: value for name, value in opened.weights.items() if name not in dropped}
        notes = (*opened.notes, "the heads for masks are left out") if dropped else tuple(opened.notes)
        return load_dense(model, replace(opened, weights=weights, notes=notes), head, strict, HEADS)
    return load_dense(model, opened, head, strict, HEADS, without=(f"{MASK_HEAD}.",))


def weights_as(model: Detector, naming: str) -> Weights:
    """The weights under our names or mmdetection's."""
    return dense_weights(model, naming, HEADS)


def describe(model: Detector) -> dict[str, str]:
    """What a file's metadata says of the network."""
    return shape_of(model.backbone) | {"detector": model.kind}


def shown(release: AnyRelease | None) -> KeepRatio:
    """How a detector is shown pictures where its file does not say."""
    return protocol(PAPER_SIDE)


def complete(model: Detector, info: ModelInfo, opened: Checkpoint, named: Sequence[str] | None) -> None:
    """Gives a model of `from_pretrained` its category ids: COCO's, and their names, where it has 80 classes and its
    file says nothing else."""
    info.category_ids = opened.described.category_ids
    numbers, names = (list(column) for column in zip(*coco(), strict=True))
    if info.category_ids is None and model.num_classes == len(names) and named in (None, names):
        info.category_ids, info.classes = numbers, names
