"""Baselines: networks of torchvision and timm, and the steps of the roadmap, through the same recipes and commands."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from ..errors import UserError
from .roadmap import build_named

BEFORE_COLON = ("torchvision", "timm", "roadmap")


class Baseline(nn.Module):
    """What is read of a baseline: for annotations, as the networks are of their libraries' own classes."""

    variant: str
    num_classes: int
    in_chans: int


def is_baseline(name: str) -> bool:
    """Whether `name` has the form "torchvision:resnet18", "timm:resnet18" or "roadmap:tiny/7"."""
    return name.partition(":")[0] in BEFORE_COLON and ":" in name


def build_baseline(
    name: str, *, num_classes: int = 1000, in_chans: int = 3, drop_path_rate: float = 0.0, drop_rate: float = 0.0
) -> nn.Module:
    """The named library's network with fresh weights: (N, in_chans, H, W) -> (N, num_classes).

    torchvision has no general drop path, so the rate is left to the network's own default there. Raises UserError when
    the library is not installed, has no such network, or the network cannot take one of the options.
    """
    library, _, network = name.partition(":")
    build = {"torchvision": _torchvision, "timm": _timm, "roadmap": _roadmap}[library]
    model = cast(Baseline, build(network, num_classes, in_chans, drop_path_rate, drop_rate))
    model.variant, model.num_classes, model.in_chans = name, num_classes, in_chans
    return model


def _torchvision(name: str, num_classes: int, in_chans: int, drop_path_rate: float, drop_rate: float) -> nn.Module:
    from torchvision import models

    if in_chans != 3:
        raise UserError(f"torchvision:{name} takes 3 channels, not {in_chans}; use a ConvNeXt or a timm network")
    if drop_rate:
        raise UserError(f"torchvision:{name} takes no dropout rate; set dropout=0")
    if name not in models.list_models(models):
        raise UserError(_unknown("torchvision", name, models.list_models(models)))
    return models.get_model(name, weights=None, num_classes=num_classes)


def _timm(name: str, num_classes: int, in_chans: int, drop_path_rate: float, drop_rate: float) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise UserError(f"timm:{name} needs timm: pip install convnext[timm]") from None
    if not timm.is_model(name):
        raise UserError(_unknown("timm", name, timm.list_models()))
    options: dict[str, Any] = {"drop_rate": drop_rate or None, "drop_path_rate": drop_path_rate or None}
    try:
        return timm.create_model(
            name, num_classes=num_classes, in_chans=in_chans, **{k: v for k, v in options.items() if v}
        )
    except TypeError as error:
        raise UserError(f"timm:{name} does not take these options ({error}); set drop_path=0 and dropout=0") from None


def _roadmap(name: str, num_classes: int, in_chans: int, drop_path_rate: float, drop_rate: float) -> nn.Module:
    if in_chans != 3:
        raise UserError(f"roadmap:{name} takes 3 channels, not {in_chans}; use a ConvNeXt")
    return build_named(name, num_classes=num_classes, drop_path_rate=drop_path_rate, drop_rate=drop_rate)


def _unknown(library: str, name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    return f"{library} has no network {name!r}; " + (
        f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known[:5])}, …"
    )
