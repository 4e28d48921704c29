"""Segmenters as checkpoints: recognised by their names, under ours, mmsegmentation's or transformers'."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn

from .checkpoint import Checkpoint
from .dense import Heads, dense_weights, load_body, load_dense
from .keymaps import Weights
from .loading import LoadReport
from .upernet import Segmenter, build_segmenter

HEADS = Heads(
    "segmenter",
    ("decode_head.", "auxiliary_head."),
    re.compile(r"\.conv_seg\.(weight|bias)$"),
    {"mmseg": (), "transformers": ((".bn.", ".batch_norm."), (".conv_seg.", ".classifier."))},
)
CLASSIFIERS = ("decode_head.conv_seg.weight", "decode_head.classifier.weight")
WIDTH = "decode_head.fpn_bottleneck.conv.weight"


def segmenter_of(weights: Weights, backbone: nn.Module) -> Segmenter | None:
    """A fresh segmenter of the shape of `weights` on a backbone of theirs; None when they are not a segmenter's."""
    if not (classes := _entry(weights, CLASSIFIERS)) or not (width := _entry(weights, (WIDTH,))):
        return None
    auxiliary = any("auxiliary_head." in name for name in weights)
    return build_segmenter(backbone, len(weights[classes]), len(weights[width]), auxiliary)  # type: ignore[arg-type]


def load_segmenter(model: Segmenter, opened: Checkpoint, head: str, strict: bool,
                   load_backbone: Callable[[nn.Module], LoadReport]) -> LoadReport:  # fmt: skip
    """Loads a segmenter's checkpoint, or with `load_backbone` a classifier's into the backbone alone.

    A file without an auxiliary head leaves the model's as it was created.
    """
    if _entry(opened.weights, CLASSIFIERS) is None:
        return load_body(model, load_backbone, "decode and auxiliary heads start fresh")
    return load_dense(model, opened, head, strict, HEADS, without=("auxiliary_head.",))


def segmenter_weights(model: Segmenter, naming: str) -> Weights:
    return dense_weights(model, naming, HEADS)


def _entry(weights: Weights, endings: tuple[str, ...]) -> str | None:
    return next((name for name in weights if name.endswith(endings)), None)
