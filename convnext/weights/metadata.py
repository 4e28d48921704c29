"""What a checkpoint says of itself, read once: every value of the right type and within limits, or one sentence.

The values are strings, mostly JSON, and may come from anywhere: a flipped bit, another program's entry of the same
name, a hand. Whoever uses a checkpoint asks `Described`, never the strings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, TypeVar

from ..catalog.variants import Arch
from ..data.keep_ratio import KeepRatio
from ..data.normalise import shortened, whole_number
from ..data.preprocess import Preprocess
from ..errors import UserError
from ..models.baselines import is_baseline
from ..models.convnext import NetworkSettings

SHAPE = ("depths", "dims", "patch_size", "isotropic", "layer_scale")
CODING_LISTS = ("classes", "values", "colours", "ignored", "ignored_colours")
WORDNET = 1000  # classes from which on names may be WordNet's, where two things share one: ImageNet has two cranes
# Beyond what any network of the family has; a number with a flipped bit would otherwise ask for terabytes.
MOST_BLOCKS, WIDEST, LARGEST_PATCH, MOST_CHANNELS, MOST_CLASSES = 1000, 1 << 16, 1024, 1024, 1_000_000

T = TypeVar("T")


@dataclass(frozen=True)
class Described:
    """What the metadata says; None or empty where it is silent."""

    variant: str = ""
    kind: str = ""  # "detector", "segmenter", or "" for what is neither
    arch: Arch | None = None
    settings: NetworkSettings = field(default_factory=NetworkSettings)
    classes: list[str] | None = None
    category_ids: list[int] | None = None
    mask_coding: dict[str, object] | None = None
    preprocess: dict[str, object] | None = None
    beside: tuple[str, ...] = ()  # entries that stand beside the network's, for the task that the file was made for


def described(metadata: Mapping[str, str], where: str) -> Described:
    """The metadata of the checkpoint `where`. Raises UserError for a value of another type or beyond the limits."""
    variant = metadata.get("variant", "")
    arch, settings = _network(metadata, where, baseline=is_baseline(variant))
    preprocess = _json(metadata, "preprocess", where, dict)
    if preprocess is not None:
        (KeepRatio if "longest" in preprocess else Preprocess).from_dict(preprocess)
    coding = _coding(metadata, where)
    _json(metadata, "data", where, dict)
    kind = next((kind for kind in ("detector", "segmenter") if kind in metadata), "")
    beside = tuple(map(str, _json(metadata, "beside", where, list) or ()))
    return Described(
        variant, kind, arch, settings, _names(metadata, where), _numbers(metadata, where), coding, preprocess, beside
    )


def _network(metadata: Mapping[str, str], where: str, *, baseline: bool) -> tuple[Arch | None, NetworkSettings]:
    shape: Any = _json(metadata, "arch", where, object)  # whatever it is: what it lacks is told below
    if shape is None:
        return None, {}
    try:
        sizes, maps = _sizes(shape), _maps(shape)
        return (None, sizes) if baseline else (_arch(shape), sizes | maps)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else shortened(error)
        raise UserError(f"{where} describes its network wrongly ({reason}); save it again with save_weights") from None


def _sizes(shape: Mapping[str, object]) -> NetworkSettings:
    found: NetworkSettings = {}
    if (classes := shape.get("num_classes")) is not None:
        found["num_classes"] = _whole_numbers([classes], MOST_CLASSES, least=0)[0]
    if (channels := shape.get("in_chans")) is not None:
        found["in_chans"] = _whole_numbers([channels], MOST_CHANNELS)[0]
    return found


def _maps(shape: Mapping[str, object]) -> NetworkSettings:
    found: NetworkSettings = {}
    if (norms := shape.get("out_norms")) is not None:
        found["out_norms"] = _truth("out_norms", norms)
    if (alone := shape.get("features_only")) is not None:
        found["features_only"] = _truth("features_only", alone)
    if (indices := shape.get("out_indices")) is not None:
        found["out_indices"] = _whole_numbers(indices, 3, least=0)
    return found


def _arch(shape: Mapping[str, Any]) -> Arch:
    given = {key: shape[key] for key in SHAPE}
    arch = Arch(
        _whole_numbers(given["depths"], MOST_BLOCKS),
        _whole_numbers(given["dims"], WIDEST),
        _whole_numbers([given["patch_size"]], LARGEST_PATCH)[0],
        given["isotropic"] is True,
        float(given["layer_scale"]),
        shape.get("stem", "patch"),
    )
    if not isfinite(arch.layer_scale) or arch.layer_scale < 0 or not isinstance(given["isotropic"], bool):
        raise ValueError("layer_scale and isotropic must be a number and a truth value")
    return arch


def _truth(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key} must be true or false")
    return value


def _whole_numbers(values: object, most: int, *, least: int = 1) -> tuple[int, ...]:
    if not isinstance(values, list | tuple):
        raise TypeError(f"{shortened(values)} is not a list of numbers")
    numbers = tuple(whole_number(value) for value in values)
    if numbers and not (least <= min(numbers) and max(numbers) <= most):
        raise ValueError(f"{shortened(numbers)} is not between {least} and {most}")
    return numbers


def _coding(metadata: Mapping[str, str], where: str) -> dict[str, object] | None:
    """What masks hold; whether its parts fit each other, the segmenter's own reader sees (segmentation/weights.py)."""
    coding = _json(metadata, "mask_coding", where, dict)
    if coding is not None and not (
        all(isinstance(coding.get(key), list | tuple) for key in CODING_LISTS)
        and all(isinstance(name, str) for name in coding["classes"])
        and all(isinstance(value, int) for key in ("values", "ignored") for value in coding[key])
    ):
        raise UserError("the stored mask coding cannot be used; save the model again")
    return coding


def _names(metadata: Mapping[str, str], where: str) -> list[str] | None:
    names = _json(metadata, "classes", where, list)
    if names is not None and not (names and all(isinstance(name, str) for name in names)):
        raise UserError(f"the class names of {where} are not names but {shortened(names)}; save it again with them")
    if names is not None and len(names) < WORDNET and (twins := len(names) - len(set(names))):
        first = next(name for name in names if names.count(name) > 1)
        raise UserError(
            f"{where} has {'two' if twins == 1 else 'several'} classes called {first!r}, which answers "
            "could not be told apart by; save it again with a name for each"
        )
    return names


def _numbers(metadata: Mapping[str, str], where: str) -> list[int] | None:
    numbers = _json(metadata, "category_ids", where, list)
    if numbers is not None and not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        raise UserError(
            f"the category ids of {where} are not numbers but {shortened(numbers)}; save it again with them"
        )
    return numbers


def groups_of(metadata: Mapping[str, str], classes: int, where: str) -> list[int]:
    """How many of the classes each question has, where several are asked; [] where none are.

    Raises UserError unless they make up all the classes.
    """
    groups = _json(metadata, "groups", where, list) or []
    whole = all(isinstance(size, int) and size > 0 for size in groups) and sum(groups) == classes
    if groups and not whole:
        raise UserError(f"{where}: its metadata 'groups' do not make up its {classes} classes; take another copy of it")
    return groups


def _json(metadata: Mapping[str, str], key: str, where: str, kind: type[T]) -> T | None:
    """The value of one entry; None where there is none."""
    if key not in metadata:
        return None
    try:
        value = json.loads(metadata[key])
    except (ValueError, RecursionError):  # RecursionError: JSON a thousand levels deep
        raise UserError(f"the metadata {key!r} of {where} is not JSON; save it again with save_weights") from None
    if value is not None and not isinstance(value, kind):
        raise UserError(
            f"the metadata {key!r} of {where} holds {shortened(value)}, not a {kind.__name__}; "
            "save it again with save_weights"
        )
    return value
