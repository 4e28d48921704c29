"""Regressors as checkpoints: a network's weights with two vectors beside them, or, for other libraries, folded in."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..catalog.releases import AnyRelease
from ..catalog.variants import WHOLE_BELOW_SIZE
from ..data.preprocess import Preprocess
from ..errors import UserError
from ..models.convnext import Backbone
from ..training.optim import NETWORK
from ..weights.backbone import backbone_weights, load_backbone, shape_of
from ..weights.checkpoint import Checkpoint
from ..weights.info import ModelInfo
from ..weights.keymaps import Weights
from ..weights.load_report import LoadReport
from .model import MEAN, SPREAD, Regressor

TASK = "regress"  # in a file's metadata
DEFAULT_SIZE = 224  # pixels, where nothing is known


def holds(model: nn.Module) -> bool:
    """Whether a model is a regressor."""
    return isinstance(model, Regressor)


def recognise(opened: Checkpoint, network: nn.Module) -> Regressor | None:
    """A fresh regressor around a network; None where the checkpoint is another task's.

    A file under another library's names has its scale folded into the head, and says that it is a regressor's.
    """
    outputs = int(getattr(network, "num_classes", 0) or 0)
    if {MEAN, SPREAD} <= opened.weights.keys():
        mean, std = opened.weights[MEAN], opened.weights[SPREAD]
        if not (mean.shape == std.shape == (outputs,)):
            raise UserError(
                f"{opened.source} holds {MEAN} and {SPREAD} of {list(mean.shape)} and {list(std.shape)} for a head of "
                f"{outputs} outputs; it is damaged: take another copy"
            )
        return Regressor(network, mean, std)
    if opened.metadata.get("task") == TASK:
        return Regressor(network, torch.zeros(outputs), torch.ones(outputs))
    return None


def load(model: Regressor, opened: Checkpoint, head: str, rows: Sequence[int] | None, strict: bool) -> LoadReport:
    """Loads a regressor's checkpoint, or any network's below the head.

    The head of a regressor of the same targets goes on: its numbers stay what they were, in the scale of the model.
    """
    weights = dict(opened.weights)
    mean, std = weights.pop(MEAN, None), weights.pop(SPREAD, None)
    theirs = opened.described.classes
    same = model.targets is None or theirs is None or tuple(theirs) == model.targets
    is_regressor = mean is not None or opened.metadata.get("task") == TASK
    if not is_regressor or not same:
        head = "drop"
    report = load_backbone(model.network, replace(opened, weights=weights), head, rows, strict)
    if report.head == "loaded" and is_regressor:
        outputs = len(model.target_mean)
        _rescale(
            _head_of(model.network),
            torch.zeros(outputs) if mean is None else mean.float(),
            torch.ones(outputs) if std is None else std.float(),
            model,
        )
    notes = [note for note in report.notes if not note.startswith("head for ")]
    if report.head == "reinitialised":
        why = "the file's is of other numbers" if is_regressor else "the file's is no regressor's"
        notes.append(f"the head starts fresh: {why}")
    return replace(report, notes=tuple(notes), fresh=tuple(NETWORK + name for name in report.fresh))


def weights_as(model: Regressor, naming: str) -> Weights:
    """The weights under our names, with the targets' scale beside them, or under a library's with it in the head."""
    if naming == "official":
        return {**backbone_weights(model.network, naming), MEAN: model.target_mean, SPREAD: model.target_std}
    folded = copy.deepcopy(model.network)
    plain = Regressor(folded, torch.zeros_like(model.target_mean), torch.ones_like(model.target_std))
    _rescale(_head_of(folded), model.target_mean, model.target_std, plain)
    return backbone_weights(folded, naming)


def describe(model: Regressor) -> dict[str, str]:
    """What a file's metadata says of the network."""
    return shape_of(model.network) | {"task": TASK, "beside": json.dumps([MEAN, SPREAD])}


def protocol(size: int) -> Preprocess:
    """A regressor is shown the whole picture at every size, as in training: what a centre crop leaves out may count."""
    return Preprocess(size, "whole" if size < WHOLE_BELOW_SIZE else "warp")


def shown(release: AnyRelease | None) -> Preprocess:
    """How a regressor is shown pictures where its file does not say."""
    return protocol(release.eval_size if release else DEFAULT_SIZE)


def complete(model: Regressor, info: ModelInfo, opened: Checkpoint, named: Sequence[str] | None) -> None:
    """Gives a model of `from_pretrained` the names of its targets: numbers where its file does not say."""
    info.classes = list(named) if named else [f"target {k}" for k in range(1, model.num_classes + 1)]
    model.targets = tuple(info.classes)


def _head_of(network: nn.Module) -> nn.Linear:
    """The last layer, whose outputs are the numbers."""
    if isinstance(network, Backbone):
        head = network.head
    else:
        head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    assert isinstance(head, nn.Linear)
    return head


def _rescale(head: nn.Linear, mean: Tensor, std: Tensor, model: Regressor) -> None:
    """Makes a head that was learned in one scale say the same in the scale of `model`."""
    own_mean, own_std = model.target_mean.cpu(), model.target_std.cpu()
    if torch.equal(mean.cpu(), own_mean) and torch.equal(std.cpu(), own_std):
        return
    with torch.no_grad():
        ratio = (std.cpu().double() / own_std.double()).to(head.weight)
        shift = ((mean.cpu().double() - own_mean.double()) / own_std.double()).to(head.weight)
        head.weight.mul_(ratio[:, None])
        if head.bias is not None:
            head.bias.mul_(ratio).add_(shift)
