"""The networks: make one by name, load and save its weights in any library's naming."""

from __future__ import annotations

from ..variants import VARIANTS
from .checkpoint import load_checkpoint_metadata
from .zoo import LoadReport, create_model, from_pretrained, list_models, load_weights, official_function, save_weights

__all__ = [
    "LoadReport",
    "create_model",
    "from_pretrained",
    "list_models",
    "load_checkpoint_metadata",
    "load_weights",
    "save_weights",
]

# convnext_tiny and its sisters, for those who know the official functions.
globals().update({name: official_function(name) for name in VARIANTS})
