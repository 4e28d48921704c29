"""A checkpoint of any kind of model -> the model, ready to predict, train or be converted; and back into a file.

A file of ours is .safetensors with string metadata: "format", "variant", "arch" (JSON), and what the writer adds:
"classes" and "preprocess" (JSON), "metric", "which" ("raw" or "ema"), "licence".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from .catalog.class_lists import names_for
from .catalog.releases import parse_name
from .data.normalise import whole_number
from .errors import UserError
from .models.baselines import is_baseline
from .models.convnext import Backbone
from .tasks import all_slices, of_release, slice_of
from .weights.backbone import HeadRule, baseline_with, build_backbone, open_for, settings_in, stored_protocol
from .weights.checkpoint import FORMAT, Checkpoint, WeightsSource, open_checkpoint, write
from .weights.class_names import fitting_names
from .weights.info import ModelInfo, Pretrained, find_info, keep_info
from .weights.load_report import LoadReport, require_whole
from .weights.shapes import as_described, by_shapes

DESCRIBED = ("classes", "category_ids", "mask_coding", "preprocess")  # of a model's info, in a file of ours
CARRIED = (
    "classes", "category_ids", "mask_coding", "preprocess", "task",
    "groups", "metric", "which", "precision", "licence", "data"
)  # fmt: skip


def load_weights(
    model: nn.Module,
    source: WeightsSource,
    *,
    head: HeadRule = "auto",
    rows: Sequence[int] | None = None,
    ema: bool | None = None,
    strict: bool = True,
) -> LoadReport:
    """Loads a checkpoint of any known naming and container into `model`, and says what became of every entry.

    `head`: "auto" loads it where the class counts agree and otherwise leaves the model's head as it was created; "drop"
    always leaves it; "rows" (implied by `rows`) keeps the given rows of a larger head, one for each class. `ema`: see
    `open_checkpoint`. A stem for other channels or another patch size is adapted. Raises UserError, with the model
    unchanged, when the source cannot be used or, unless `strict` is False, when any entry is left over.
    """
    opened = open_for(model, source, ema)
    report: LoadReport = slice_of(model).load(model, opened, "rows" if rows is not None else head, rows, strict)
    return replace(report, metadata=opened.metadata)


def save_weights(
    model: nn.Module, path: str | Path, *, naming: str = "official", metadata: Mapping[str, str] | None = None
) -> Path:
    """Writes the model's weights to a .safetensors or .pth file, whole or not at all, under another library's names.

    `metadata` (strings) joins what describes the network, from which `from_pretrained` builds it again; a .pth file
    carries it in the official and mm* namings only. Names and protocol in `model.info` are written too. Raises
    UserError when that library has no such network.
    """
    path, kind = Path(path), slice_of(model)
    if astray := [name for name in DESCRIBED if name in model.__dict__]:
        keep_info(model, find_info(model) or ModelInfo())  # which the advice needs
        raise UserError(f"model.{astray[0]} is not written; set model.info.{astray[0]}, where it is kept now")
    own = {name: getattr(find_info(model), name, None) for name in DESCRIBED}
    said = kind.describe(model) | {name: json.dumps(value) for name, value in own.items() if value}
    form = FORMAT if naming == "official" else "pt"  # transformers refuses a file whose "format" it does not know
    write(kind.weights_as(model, naming), path, naming=naming, metadata={"format": form} | said | dict(metadata or {}))
    return path


def from_pretrained(source: str | Path) -> Pretrained:
    """A model in evaluation mode from a checkpoint's path, a released name or a hub id, ready to predict.

    Its `.info` is a `ModelInfo`: `.classes` (names, also as another library's file or its folder's config.json gives
    them; where there are none ImageNet's for 1,000 classes, COCO's for a detector's 80, ADE20K's for a segmenter's
    150, else None), `.preprocess` (the evaluation protocol as a dict), `.metadata`, `.release` (the record of released
    weights, else None) and `.load_report`; a detector's has `.category_ids`, a segmenter's `.mask_coding` (a dict of
    what masks hold). Raises UserError as `load_weights` does, and where anything in the model would be freshly made.
    """
    opened = open_checkpoint(source)
    model = cast(Pretrained, _model_of(opened))
    kind = slice_of(model)
    report = require_whole(kind.load(model, opened, "auto", None, True))
    said = opened.described
    if said.classes and len(said.classes) != model.num_classes:
        raise UserError(
            f"{opened.source} names {len(said.classes)} classes and its network has {model.num_classes}; "
            "save it again with a name for each"
        )
    own = said.classes or fitting_names(opened.foreign.classes, model.num_classes)
    names, shown = own or names_for(model.num_classes), stored_protocol(opened) or kind.shown(opened.release).to_dict()
    info = ModelInfo(report, opened.metadata, opened.release, names, shown)
    kind.complete(model, info, opened, own)
    keep_info(model, info)
    if isinstance(model, Backbone) and (size := whole_number(shown["size"])) < (stride := model.arch.strides[-1]):
        raise UserError(
            f"the network of {opened.source} is shown pictures of {size} pixels and sees nothing below {stride}; "
            "save it again with the size it was trained at"
        )
    return model.eval()


def model_for(source: WeightsSource, *, name: str | None = None, ema: bool | None = None) -> nn.Module:
    """A fresh network of the shape of a checkpoint: described in its metadata, or read from its names and shapes.

    Raises UserError when the checkpoint is not of the size that `name` says.
    """
    variant = None if name is None or is_baseline(name) else parse_name(name).variant
    model = _model_of(open_checkpoint(source, variant=variant, ema=ema))
    if variant is not None and model.variant != variant:
        raise UserError(f"{source} holds a {model.variant} network, not {variant}; leave the name out")
    return model


def carried(source: WeightsSource, variant: str | None = None) -> dict[str, str]:
    """What a checkpoint says of itself beside its weights, for a copy of it: classes, protocol, task, licence."""
    opened = open_checkpoint(source, variant=variant)
    kept = {key: opened.metadata[key] for key in CARRIED if key in opened.metadata}
    if opened.foreign.classes is not None and "classes" not in kept:
        with torch.device("meta"):
            count = cast(Pretrained, _model_of(opened)).num_classes
        if names := fitting_names(opened.foreign.classes, count):
            kept["classes"] = json.dumps(names)
    if opened.foreign.preprocess is not None:
        kept = {"preprocess": json.dumps(opened.foreign.preprocess)} | kept
    if opened.release is not None:
        protocol = json.dumps(of_release(opened.release).shown(opened.release).to_dict())
        kept = {"preprocess": protocol, "licence": opened.release.licence, "which": opened.release.which} | kept
    return kept


def _model_of(opened: Checkpoint) -> nn.Module:
    """A fresh network to be filled whole. Raises UserError where the file has no head, or not the one it describes."""
    variant = opened.described.variant
    if is_baseline(variant):
        network: nn.Module = baseline_with(variant, settings_in(opened))
        return next((found for kind in all_slices() if (found := kind.recognise(opened, network))), network)
    arch, settings = as_described(opened)
    held = by_shapes(opened)[1]["num_classes"]
    maps = settings.get("features_only") or settings.get("out_norms")
    if not maps and (said := settings.get("num_classes", held)) != held:
        holds = f"a head for {held}" if held else "no head"
        raise UserError(
            f"{opened.source} says that it knows {said} classes and holds {holds}, so it would answer at random; "
            f"train from it with --weights {opened.source}, which makes a head"
        )
    network = build_backbone(arch, settings)
    whole = next((found for kind in all_slices() if (found := kind.recognise(opened, network))), None)
    if whole is None and opened.described.kind:
        raise UserError(
            f"{opened.source} says that it is a {opened.described.kind} and lacks what tells the classes, so it would "
            f"answer nothing; train from it with --weights {opened.source}, which makes heads"
        )
    return whole or network
