"""Classifiers as checkpoints: any network that has no heads for places."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..catalog.releases import AnyRelease
from ..data.preprocess import Preprocess
from ..models.task_model import TaskModel
from ..weights.backbone import backbone_weights, load_backbone, shape_of
from ..weights.checkpoint import Checkpoint
from ..weights.info import ModelInfo

DEFAULT_SIZE = 224  # pixels that a classifier is shown where nothing is known of it

load, weights_as, describe = load_backbone, backbone_weights, shape_of


def holds(model: nn.Module) -> bool:
    """Whether a model is a classifier or a bare network."""
    return not isinstance(model, TaskModel)


def recognise(opened: Checkpoint, network: nn.Module) -> nn.Module | None:
    """The network itself is the model, so there is none around it."""
    return None


def shown(release: AnyRelease | None) -> Preprocess:
    """How a classifier is shown pictures where its file does not say."""
    return Preprocess.for_size(release.eval_size if release else DEFAULT_SIZE)


def complete(model: nn.Module, info: ModelInfo, opened: Checkpoint, named: Sequence[str] | None) -> None:
    """A classifier's names are all there is to say of its answers."""
