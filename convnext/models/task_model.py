"""What is more than a network: models of other tasks than classification have one inside."""

from __future__ import annotations

from typing import ClassVar, cast

from torch import nn

from .convnext import Backbone


class TaskModel(nn.Module):
    """A network with what a task needs around it; its size and its depth groups are the network's."""

    BODY: ClassVar[str]  # the attribute that is the network, with a dot: the prefix of its parameters' names
    num_classes: int

    @property
    def body(self) -> Backbone:
        """The network; a baseline has no more than `forward`."""
        return cast(Backbone, getattr(self, self.BODY.removesuffix(".")))

    @property
    def variant(self) -> str:
        """The network's size: what a bare name of released weights is for."""
        return str(self.body.variant)

    @property
    def num_layer_ids(self) -> int:
        return int(self.body.num_layer_ids)

    def layer_id(self, name: str, rule: str = "layer") -> int:
        """Depth group of a parameter: the network's own; what is around it belongs to the last."""
        inside = name.removeprefix(self.BODY)
        return int(self.body.layer_id(inside if inside != name else "head", rule))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the network's blocks in the backward pass: less memory, more time."""
        self.body.set_grad_checkpointing(enable)
