"""What detectors and segmenters have in common as networks: a backbone under them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn

BODY = "backbone."


class DenseBackbone(Protocol):
    """What a detector or segmenter needs of its backbone."""

    @property
    def channels(self) -> Sequence[int]: ...

    @property
    def strides(self) -> Sequence[int]: ...

    def features(self, x_nchw: Tensor) -> Sequence[Tensor]: ...


class DenseModel(nn.Module):
    """A network on a backbone; its depth groups and its size are the backbone's."""

    backbone: Any
    num_classes: int

    @property
    def variant(self) -> str:
        """The backbone's size: what a bare name of released weights is for."""
        return str(self.backbone.variant)

    @property
    def num_layer_ids(self) -> int:
        return int(self.backbone.num_layer_ids)

    def layer_id(self, name: str, rule: str = "layer") -> int:
        """Depth group of a parameter: the backbone's own; output norms and heads are the last."""
        inside = name.removeprefix(BODY)
        return int(self.backbone.layer_id(inside if inside != name else "head", rule))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the backbone's blocks in the backward pass: less memory, more time."""
        self.backbone.set_grad_checkpointing(enable)
