"""What detectors and segmenters have in common as networks: a backbone under them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from ..models.convnext import Backbone
from ..models.task_model import TaskModel

BODY = "backbone."


class DenseBackbone(Protocol):
    """What a detector or segmenter needs of its backbone."""

    @property
    def channels(self) -> Sequence[int]: ...

    @property
    def strides(self) -> Sequence[int]: ...

    def features(self, x_nchw: Tensor) -> Sequence[Tensor]: ...


class DenseModel(TaskModel):
    """A network for places on a backbone."""

    BODY = BODY
    backbone: Backbone  # or another network with its maps
