"""Segmenters as checkpoints: recognised by their names, under ours, mmsegmentation's or transformers'."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from ..catalog.class_lists import ade20k
from ..catalog.releases import AnyRelease
from ..data.keep_ratio import KeepRatio
from ..dense.weights import Heads, dense_weights, load_body, load_dense, refuse_rows
from ..models.convnext import Backbone
from ..weights.backbone import shape_of
from ..weights.checkpoint import Checkpoint
from ..weights.info import ModelInfo
from ..weights.keymaps import Weights
from ..weights.load_report import LoadReport
from .data import PAPER_SIDE, protocol
from .mask_coding import MaskCoding, ade20k_coding
from .model import Segmenter, build_segmenter

HEADS = Heads(
    "segmenter",
    ("decode_head.", "auxiliary_head."),
    re.compile(r"\.conv_seg\.(weight|bias)$"),
    {"mmseg": (), "transformers": ((".bn.", ".batch_norm."), (".conv_seg.", ".classifier."))},
)
CLASSIFIERS = ("decode_head.conv_seg.weight", "decode_head.classifier.weight")
WIDTH = "decode_head.fpn_bottleneck.conv.weight"


def holds(model: nn.Module) -> bool:
    """Whether a model is a segmenter."""
    return isinstance(model, Segmenter)


def recognise(opened: Checkpoint, network: nn.Module) -> Segmenter | None:
    """A fresh segmenter of the shape of a checkpoint on a backbone of its; None when it is not a segmenter's."""
    weights = opened.weights
    classes, width = _entry(weights, CLASSIFIERS), _entry(weights, (WIDTH,))
    if classes is None or width is None or not isinstance(network, Backbone):
        return None
    auxiliary = any("auxiliary_head." in name for name in weights)
    return build_segmenter(network, len(weights[classes]), len(weights[width]), auxiliary)


def load(model: Segmenter, opened: Checkpoint, head: str, rows: Sequence[int] | None, strict: bool) -> LoadReport:
    """Loads a segmenter's checkpoint, or a classifier's into the backbone alone.

    A file without an auxiliary head leaves the model's as it was created.
    """
    refuse_rows(model, rows)
    if _entry(opened.weights, CLASSIFIERS) is None:
        return load_body(model, opened, strict, "decode and auxiliary heads start fresh")
    return load_dense(model, opened, head, strict, HEADS, without=("auxiliary_head.",))


def weights_as(model: Segmenter, naming: str) -> Weights:
    """The weights under our names, mmsegmentation's or transformers'."""
    return dense_weights(model, naming, HEADS)


def describe(model: Segmenter) -> dict[str, str]:
    """What a file's metadata says of the network."""
    return shape_of(model.backbone) | {"segmenter": "upernet"}


def shown(release: AnyRelease | None) -> KeepRatio:
    """How a segmenter is shown pictures where its file does not say."""
    return protocol(release.eval_size if release else PAPER_SIDE)


def complete(model: Segmenter, info: ModelInfo, opened: Checkpoint, named: Sequence[str] | None) -> None:
    """Gives a model of `from_pretrained` what its masks hold: ADE20K's, and its names, where it has 150 classes and
    its file says nothing else. Raises UserError for a damaged description."""
    info.mask_coding = opened.described.mask_coding
    if info.mask_coding is not None:
        MaskCoding.from_dict(info.mask_coding)
    names = [name for name, _ in ade20k()]
    if info.mask_coding is None and model.num_classes == len(names) and named in (None, names):
        info.mask_coding, info.classes = ade20k_coding().to_dict(), names


def _entry(weights: Weights, endings: tuple[str, ...]) -> str | None:
    return next((name for name in weights if name.endswith(endings)), None)
