"""A network whose outputs are numbers in the units of the table that it learned from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..models.convnext import Backbone
from ..models.task_model import TaskModel
from ..training.optim import NETWORK

MEAN, SPREAD = "target_mean", "target_std"


class Regressor(TaskModel):
    """A network learns standardised numbers; those that come out are theirs times `target_std`, plus `target_mean`.

    Both are (T,) buffers, in fp32, of the values that were learned from.
    """

    BODY = NETWORK
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer(MEAN, torch.as_tensor(mean, dtype=torch.float32).clone())
        self.register_buffer(SPREAD, torch.as_tensor(std, dtype=torch.float32).clone())
        self.num_classes = len(self.target_mean)
        self.targets: tuple[str, ...] | None = None  # their names, where they are known

    @property
    def in_chans(self) -> int:
        return int(getattr(self.network, "in_chans", 3))

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(getattr(self.network, "strides", (1,)))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, T) numbers, float32."""
        if not isinstance(self.network, Backbone):
            return self.network(x_nchw).float() * self.target_std + self.target_mean
        maps = self.network.forward_features(x_nchw).float()
        with torch.autocast(x_nchw.device.type, enabled=False):  # bf16 has eight bits: of years, steps of eight
            return self.network.forward_head(maps) * self.target_std + self.target_mean
