"""ConvNeXt: the models, recipes and the everyday job around them. Names are imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .variants import VARIANTS

_HOME = {
    "create_model": "models", "list_models": "models", "load_weights": "models", "save_weights": "models",
    "from_pretrained": "models", "get_recipe": "recipes", "train": "api", "evaluate": "api", "predict": "api",
    "check": "api", "convert": "api", "RunResult": "api", "UserError": "errors",
    **dict.fromkeys(VARIANTS, "models"),
}  # fmt: skip
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'convnext' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
