"""Narrower types for what is declared widely: a model of `create_model`, a module's attribute, an answer, a cell."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from convnext.models.convnext import Backbone

T = TypeVar("T")


def instance_of(kind: type[T], value: object) -> T:
    """The value, which must be of this class."""
    assert isinstance(value, kind), type(value)
    return value


def number(value: object) -> float:
    """The value of a table's cell, which must be a number."""
    assert isinstance(value, int | float), type(value)
    return value


def backbone_of(model: nn.Module) -> Backbone:
    """The model, which must be of the family."""
    assert isinstance(model, Backbone), type(model)
    return model


def not_none(value: T | None) -> T:
    """The value, which must be there."""
    assert value is not None
    return value
