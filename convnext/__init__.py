"""ConvNeXt: the models, recipes and the everyday job around them. Names are imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .catalog.variants import VARIANTS

if TYPE_CHECKING:  # for tools; below they are imported when they are first used
    from collections.abc import Callable

    from torch import nn

    from .api import RunResult as RunResult
    from .api import check as check
    from .api import convert as convert
    from .api import evaluate as evaluate
    from .api import predict as predict
    from .api import train as train
    from .errors import UserError as UserError
    from .pretrained import from_pretrained as from_pretrained
    from .pretrained import load_weights as load_weights
    from .pretrained import save_weights as save_weights
    from .recipes import get_recipe as get_recipe
    from .weights.backbone import create_model as create_model
    from .weights.backbone import list_models as list_models

    _Function = Callable[..., nn.Module]  # of the official repository (weights/backbone.py, official_function)
    convnext_atto: _Function
    convnext_femto: _Function
    convnext_pico: _Function
    convnext_nano: _Function
    convnext_tiny: _Function
    convnext_small: _Function
    convnext_base: _Function
    convnext_large: _Function
    convnext_xlarge: _Function
    convnext_isotropic_small: _Function
    convnext_isotropic_base: _Function
    convnext_isotropic_large: _Function

_HOME = {
    "create_model": "weights.backbone", "list_models": "weights.backbone", "load_weights": "pretrained",
    "save_weights": "pretrained", "from_pretrained": "pretrained", "get_recipe": "recipes", "train": "api",
    "evaluate": "api", "predict": "api", "check": "api", "convert": "api", "RunResult": "api", "UserError": "errors",
}  # fmt: skip
__all__ = sorted([*_HOME, *VARIANTS])


if not TYPE_CHECKING:  # so that tools know an unknown name

    def __getattr__(name: str) -> object:
        if name in VARIANTS:  # convnext_tiny and its sisters, for those who know the official functions
            found: object = import_module(".weights.backbone", __name__).official_function(name)
        elif name in _HOME:
            found = getattr(import_module(f".{_HOME[name]}", __name__), name)
        else:
            raise AttributeError(f"module 'convnext' has no attribute {name!r}")
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return __all__
