"""What a checkpoint and a model need not share: the head, the dense form's norms, the stem's channels and patch size.

Each function changes the weights before they are compared with the model, and adds what it did to `notes`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..catalog.variants import POOL_STEM_KERNEL, Arch
from ..errors import UserError
from ..models.convnext import Backbone
from .checkpoint import Checkpoint
from .keymaps import STEMS, Weights

SHOWN = 5  # entries listed by name in a message before the count takes over


def fit_head(
    model: Backbone, weights: Weights, rule: str, rows: Sequence[int] | None, notes: list[str], source: str
) -> tuple[str, set[str]]:
    """Adapts the head in `weights`; returns its fate and the model's entries that may stay as they are."""
    theirs = weights.get("head.weight")
    if model.dense or model.num_classes == 0:
        for name in ("head.weight", "head.bias"):
            weights.pop(name, None)
        if theirs is not None:
            notes.append(f"the file's head of {len(theirs)} classes left out: the model has none")
        return "none", set()
    ours, spared = model.num_classes, {"head.weight", "head.bias"}
    if rule == "rows":
        _cut_head(weights, rows, ours, source)
        return "cut to rows", set()
    if theirs is not None and rule == "auto" and len(theirs) == ours:
        return "loaded", set()  # if its width differs, that is a mismatch and reported as such
    for name in spared:
        weights.pop(name, None)
    why = "as asked" if rule == "drop" else "the file has none"
    if theirs is not None and rule == "auto":
        why = f"the file's is for {len(theirs)} classes"
    notes.append(f"head for {ours} classes kept as it was created: {why}")
    return "reinitialised", spared


def fit_baseline_head(model: nn.Module, weights: Weights, notes: list[str]) -> tuple[str, set[str]]:
    """The same for another library's network, whose head is what has a row for each class; as `fit_head` returns."""
    wanted, ours = model.state_dict(), getattr(model, "num_classes", None)
    spared = {
        name
        for name, value in weights.items()
        if name in wanted
        and len(wanted[name].shape)
        and wanted[name].shape[0] == ours != len(value)
        and value.shape[1:] == wanted[name].shape[1:]
    }
    if not spared:
        return "loaded", set()
    theirs = {len(weights.pop(name)) for name in spared}
    why = f"the file's is for {', '.join(map(str, sorted(theirs)))} classes"
    notes.append(f"head for {ours} classes kept as it was created: {why}")
    return "reinitialised", spared


def _cut_head(weights: Weights, rows: Sequence[int] | None, ours: int, source: str) -> None:
    theirs = weights.get("head.weight")
    if rows is None:
        raise UserError(f"cutting the head of {source} needs its rows, one for each class; pass rows=[…]")
    if theirs is None:
        raise UserError(f"{source} has no head to cut; leave out rows")
    if len(rows) != ours:
        raise UserError(f"{len(rows)} rows for a model of {ours} classes; give one row for each class")
    if bad := [row for row in rows if not 0 <= row < len(theirs)]:
        raise UserError(f"row {bad[0]} is not in the head of {source}, which has {len(theirs)}; rows count from 0")
    index = torch.tensor(list(rows), device=theirs.device)
    for name in ("head.weight", "head.bias"):
        if name in weights:
            weights[name] = weights[name][index]


def fit_norms(model: Backbone, weights: Weights, notes: list[str]) -> set[str]:
    """What a dense model and a classifier's file do not share, said aloud; returns entries that may stay fresh."""
    if not model.dense:
        return set()
    if weights.pop("norm.weight", None) is not None:
        weights.pop("norm.bias", None)
        notes.append("the file's final norm left out: a model of maps has none")
    in_file = {n for n in weights if re.fullmatch(r"norm\d\.(weight|bias)", n)}
    own = {n for n in model.state_dict() if re.fullmatch(r"norm\d\.(weight|bias)", n)}
    if surplus := sorted(in_file - own):
        for name in surplus:
            del weights[name]
        notes.append(f"output norms of maps that the model does not return left out: {some(surplus)}")
    if own and not in_file:
        notes.append("output norms start fresh: the file has none")
        return own
    return set()


def require_stem(arch: Arch, opened: Checkpoint, weights: Weights) -> None:
    """UserError where a file's stem is of another form than a network's, which its names do not show."""
    kernel = next((weights[name] for name in STEMS if name in weights), None)
    own = kernel is not None and kernel.shape[-1] == arch.stem_kernel == POOL_STEM_KERNEL
    undescribed = arch.stem if own else Arch.stem  # a bare state dict may be this network's own
    theirs = undescribed if opened.described.arch is None else opened.described.arch.stem
    if theirs != arch.stem:
        forms = {"patch": "of patches", "pool": "that pools"}
        raise UserError(
            f"{opened.source} has a stem {forms[theirs]} and the network one {forms[arch.stem]}: give it the file's "
            f"(--set stem={theirs}, or stem={theirs!r} in create_model)"
        )


def fit_stem(model: Backbone, weights: Weights, notes: list[str]) -> None:
    """Adapts the first convolution (C, in, p, p) to the model's channels and patch size."""
    name = next((n for n in STEMS if n in weights), None)
    if name is None or name not in (wanted := model.state_dict()):
        return
    theirs, ours = weights[name], wanted[name]
    if theirs.ndim != 4 or theirs.shape[0] != ours.shape[0]:
        return  # another width: reported as a mismatch
    if theirs.shape[1] != ours.shape[1]:
        notes.append(f"stem adapted from {theirs.shape[1]} to {ours.shape[1]} channels")
        theirs = adapt_channels(theirs, ours.shape[1])
    if theirs.shape[2:] != ours.shape[2:]:
        notes.append(
            f"stem resampled from {theirs.shape[2]} x {theirs.shape[3]} to {ours.shape[2]} x {ours.shape[3]} pixels"
        )
        theirs = resample_patch(theirs, ours.shape[2])
    weights[name] = theirs


def adapt_channels(kernel: Tensor, in_chans: int) -> Tensor:
    """(C, A, p, p) -> (C, in_chans, p, p), so that grey input gives the response it gave before."""
    have = kernel.shape[1]
    if in_chans == 1:
        return kernel.sum(1, keepdim=True)
    return kernel[:, [i % have for i in range(in_chans)]] * (have / in_chans)


def resample_patch(kernel: Tensor, patch: int) -> Tensor:
    """(C, A, p, p) -> (C, A, patch, patch) with the response to a flat image kept: areas down, bicubic up."""
    have = kernel.shape[-1]
    if patch < have:
        resized = F.interpolate(kernel.float(), size=patch, mode="area")
    else:
        resized = F.interpolate(kernel.float(), size=patch, mode="bicubic", align_corners=False)
    total, now = kernel.float().sum((-2, -1), keepdim=True), resized.sum((-2, -1), keepdim=True) * (have / patch) ** 2
    resized = resized * (have / patch) ** 2 + (total - now) / patch**2  # the remainder of uneven sizes, spread out
    return resized.to(kernel.dtype)


def some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
