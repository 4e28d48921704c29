"""A training run as one frozen value: what `recipes/` is written in, what the command line overrides, what a run saves.

A recipe states the *total* batch; per-device batch and accumulation are derived by the engine and printed. Epochs count
passes over the data; the engine turns them into optimiser steps once and stores the number, so that a replay is exact.
"""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import reduce
from typing import Any, Literal, TypeVar, Union

from ..errors import UserError

TestMode = Literal["slide", "whole", "multiscale"]
TaskName = Literal["classify", "regress", "detect", "segment"]
T = TypeVar("T")
Settings = dict[str, object]  # what a user gives recipe fields, by dotted name; strings are parsed by type


def _check(part: object, prefix: str, low: float, high: float, *names: str) -> None:
    """UserError unless each named field of `part`, or each of its values, is None or in [low, high]."""
    for name in names:
        value = getattr(part, name)
        if not all(v is None or low <= v <= high for v in (value if isinstance(value, tuple) else [value])):
            demand = f"be at least {low}" if math.isinf(high) else f"lie between {low} and {high}"
            raise UserError(f"{prefix}{name} {value} must {demand}")


@dataclass(frozen=True)
class Augment:
    """Training-time picture changes, in the order they are applied (official code: datasets.py)."""

    crop: Literal["resized", "shift", "none"] = "resized"  # random resized crop | shift by an eighth | whole image
    scale: tuple[float, float] = (0.08, 1.0)  # area of the resized crop over the image's
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    randaugment: float = 9.0  # magnitude 0..10 of timm's "increasing" set; 0 = off
    randaugment_std: float = 0.5
    randaugment_ops: int = 2
    erase: float = 0.25  # probability; noise per pixel, 2-33 % of the area
    mixup: float = 0.8  # alpha of Beta(alpha, alpha); 0 = off
    cutmix: float = 1.0
    mix_prob: float = 1.0  # share of batches that are mixed at all
    switch_prob: float = 0.5  # share of mixed batches that use CutMix, when both are on
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        _check(self, "augment.", 0, 1, "scale", "hflip", "erase", "mix_prob", "switch_prob", "smoothing")
        _check(self, "augment.", 0, 10, "randaugment")
        _check(self, "augment.", 0, math.inf, "randaugment_std", "randaugment_ops", "mixup", "cutmix")
        for name, (low, high) in {"scale": self.scale, "ratio": self.ratio}.items():
            if not 0 < low <= high:
                raise UserError(f"augment.{name} {low}, {high} must be positive and rising")


@dataclass(frozen=True)
class AdamW:
    """Absolute learning rate for the total batch; no decay on vectors. On request, Muon for the matrices."""

    lr: float = 4e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    layer_decay: float | None = None  # lr factor per depth group, from the head down; None = off
    layer_rule: Literal["layer", "stage", "stage_clean"] = "layer"
    clip_grad: float | None = None  # largest total gradient norm; None = no clipping
    muon: float | None = None  # matrices but the classifier's are Muon's, at this many times `lr`; None = all AdamW's

    def __post_init__(self) -> None:
        _check(self, "optim.", 0, math.inf, "lr", "weight_decay", "eps")
        _check(self, "optim.", 0, 1, "betas", "layer_decay")
        if max(self.betas) == 1:
            raise UserError(f"optim.betas {self.betas} must be below 1: an average that forgets nothing never moves")
        if self.muon is not None and self.muon <= 0:
            raise UserError(f"optim.muon {self.muon} would leave the matrices as they are; none means AdamW for all")
        if self.clip_grad is not None and self.clip_grad <= 0:
            raise UserError(f"optim.clip_grad {self.clip_grad} would stop all learning; none means no clipping")


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up including both ends, then cosine to `min_lr`, per optimiser step (official code).

    "steps": warm-up from a thousandth over `warmup_steps`, then a tenth of the rate from each milestone on.
    "poly": warm-up from a millionth over `warmup_steps`, on a line that falls from the start to `min_lr` at the end.
    """

    kind: Literal["cosine", "steps", "poly"] = "cosine"
    warmup_epochs: float = 20
    min_lr: float = 1e-6
    warmup_steps: int = 500  # of "steps" and "poly"
    milestones: tuple[float, ...] = (27 / 36, 33 / 36)  # of "steps", as shares of the run

    def __post_init__(self) -> None:
        _check(self, "schedule.", 0, math.inf, "warmup_epochs", "min_lr", "warmup_steps")
        _check(self, "schedule.", 0, 1, "milestones")


@dataclass(frozen=True)
class Detection:
    """What a detector is and learns from; lengths are in pixels for a test image of short side 800 (`image_size`)."""

    detector: Literal["mask_rcnn", "cascade_mask_rcnn", "faster_rcnn", "cascade_rcnn"] = "mask_rcnn"
    short_sides: tuple[int, ...] = tuple(range(480, 801, 32))  # one is drawn for each training image
    crop: bool = True  # half of the images are cropped before that
    hflip: float = 0.5
    keep_empty: bool = False  # learn from images without objects, too
    regions: int = 512  # of an image that each stage of the heads learns from; fewer are faster

    def __post_init__(self) -> None:
        _check(self, "detection.", 1, math.inf, "short_sides", "regions")
        _check(self, "detection.", 0, 1, "hflip")


@dataclass(frozen=True)
class Segmentation:
    """What a segmenter is and learns from; crops and the short side of test images are `image_size`."""

    channels: int = 512  # of the decode head
    auxiliary: float = 0.4  # weight of the auxiliary head's loss; 0 leaves it out
    scale: tuple[float, float] = (0.5, 2.0)  # of a training image, over a short side of `image_size`
    most_of_one_class: float = 0.75  # share of a crop; of up to ten crops the first below it is taken
    hflip: float = 0.5
    photometric: bool = True
    ignore: tuple[int, ...] = ()  # values of index masks that count for nothing, beside 255
    test: TestMode = "slide"  # how the validation images are judged

    def __post_init__(self) -> None:
        _check(self, "segmentation.", 1, math.inf, "channels")
        _check(self, "segmentation.", 0, math.inf, "auxiliary", "ignore")
        _check(self, "segmentation.", 0, 1, "most_of_one_class", "hflip")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"segmentation.scale {self.scale} must be positive and rising")


@dataclass(frozen=True)
class Regression:
    """Which columns of a table of numbers a regressor learns, and by which distance, in units of their spread."""

    targets: tuple[str, ...] = ()  # none: all that hold numbers alone
    loss: Literal["huber", "l1", "mse"] = "huber"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the numbers of a run, but for the data and the machine."""

    name: str = "custom"
    task: TaskName = "classify"
    # which everyday rule still has to fill it in (recipes/everyday.py, recipes/dense.py)
    derive: Literal["none", "classify", "finetune", "scratch", "probe", "regress", "detect", "segment"] = "none"
    model: str = "convnext_tiny"
    weights: str | None = None
    depths: tuple[int, ...] | None = None
    dims: tuple[int, ...] | None = None
    patch_size: int = 4
    stem: Literal["patch", "pool"] = "patch"  # the paper's | ResNet's, of the same stride (variants.py: Arch)
    num_classes: int | None = None  # None: what the data has
    # black and white of pictures of more than 8 bits, measured on the data; None: as their type says
    levels: tuple[float, float] | None = None
    image_size: int = 224
    progressive: float = 1.0  # side of the first training images over image_size; grows until three quarters of the run
    batch_size: int = 4096
    micro_batch: int | None = None  # largest batch on one device; None: the share of the total batch
    eval_batch: int | None = None  # of an evaluation on one device; None: twice the micro-batch, from 32 to 256
    auto_batch: bool = False  # measure the largest micro-batch that fits before the run
    epochs: float = 300
    minutes: float | None = None  # budget of training time; replaces `epochs` once speed is measured
    steps: int | None = None  # optimiser steps, fixed once per run; written by the engine
    optim: AdamW = field(default_factory=AdamW)
    schedule: Schedule = field(default_factory=Schedule)
    augment: Augment = field(default_factory=Augment)
    detection: Detection = field(default_factory=Detection)
    segmentation: Segmentation = field(default_factory=Segmentation)
    regression: Regression = field(default_factory=Regression)
    drop_path: float = 0.1
    dropout: float = 0.0
    layer_scale: float | None = None  # None: the variant's own start (1e-6; none for isotropic small and base)
    init: Literal["paper", "fan_in"] = "paper"  # std 0.02 | models/layers.py: init_fan_in, for short runs
    head_init_scale: float = 1.0
    ema: float | None = None
    loss: Literal["softmax", "bce"] = "softmax"
    class_weights: Literal["none", "balanced"] = "none"
    sampling: Literal["shuffle", "balanced"] = "shuffle"
    freeze_backbone: bool = False
    eval_every: float = 1  # epochs between evaluations; the last step is always evaluated
    patience: int | None = None  # evaluations without a better metric before stopping early; None: never
    save_every: float = 1  # epochs between checkpoints
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    channels_last: bool = True
    compile: bool = False
    grad_checkpointing: bool = False
    workers: int | None = None  # loader processes; None: what the machine has
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "minutes", "eval_every", "save_every"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise UserError(f"{name} {value:g} must be positive")
        if self.levels is not None and not self.levels[0] < self.levels[1]:
            raise UserError(f"levels {self.levels} are black and white: the first must be smaller than the second")
        if not 0 < self.progressive <= 1:
            raise UserError(f"progressive {self.progressive} must lie in (0, 1]")
        if not 0 <= self.drop_path < 1 or not 0 <= self.dropout < 1:
            raise UserError(f"drop_path {self.drop_path} and dropout {self.dropout} must lie in [0, 1)")
        if self.ema is not None and not 0 < self.ema < 1:
            raise UserError(f"ema {self.ema} must lie between 0 and 1; leave it out to train without an average")
        _check(
            self,
            "",
            1,
            math.inf,
            "batch_size",
            "micro_batch",
            "image_size",
            "eval_batch",
            "num_classes",
            "steps",
            "patience",
            "patch_size",
        )
        _check(self, "", 0, math.inf, "workers", "layer_scale")
        _check(self, "", 0, 2**63 - 1, "seed")


# Fields that only classification reads; "x." stands for all fields of x.
CLASSIFIERS_OWN = ("augment.", "eval_batch", "progressive", "dropout", "head_init_scale", "loss", "class_weights",
                   "sampling")  # fmt: skip


def micro_batches(batch_size: int, world: int, micro_batch: int) -> int:
    """Micro-batches of a step on each of `world` processes: as many as the largest share of the batch needs, on all."""
    return -(-batch_size // (world * micro_batch))


def to_dict(recipe: Recipe) -> dict[str, object]:
    """Plain nested values, ready for JSON."""
    return dataclasses.asdict(recipe)


def to_json(recipe: Recipe) -> str:
    return json.dumps(to_dict(recipe), indent=2) + "\n"


def from_dict(values: Mapping[str, object]) -> Recipe:
    """The recipe that `to_dict` wrote. Raises UserError for a field or value that does not belong."""
    return _build(Recipe, values, "")


def from_json(text: str) -> Recipe:
    """The recipe that `to_json` wrote. Raises UserError when the text is not such a JSON object."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"not a recipe: {error}") from None
    if not isinstance(values, dict):
        raise UserError("not a recipe: expected a JSON object")
    return from_dict(values)


def override(recipe: Recipe, settings: Mapping[str, object]) -> Recipe:
    """`recipe` with dotted fields replaced: {"optim.lr": 1e-3, "augment.mixup": "0.2"}; strings are parsed by type.

    Raises UserError for an unknown field (naming the nearest) or a value of the wrong kind.
    """
    for path, value in settings.items():
        recipe = _override_one(recipe, path.split("."), value, path)
    return recipe


def parse_settings(pairs: list[str]) -> dict[str, str]:
    """["a.b=c"] -> {"a.b": "c"}; UserError when there is no '='."""
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"--set {pair!r} is not of the form field=value, such as --set optim.lr=1e-3")
        settings[key.strip()] = value.strip()
    return settings


def field_names(kind: type = Recipe, prefix: str = "") -> list[str]:
    """Every field that can be overridden, dotted."""
    names: list[str] = []
    for name, hint in typing.get_type_hints(kind).items():
        nested = isinstance(hint, type) and dataclasses.is_dataclass(hint)
        names += field_names(hint, f"{prefix}{name}.") if nested else [prefix + name]
    return names


def differing(recipe: Recipe, base: Recipe) -> Settings:
    """The fields in which two recipes differ, dotted, as the first one has them."""
    names = [name for name in field_names() if name not in ("name", "derive")]
    pairs = {name: tuple(reduce(getattr, name.split("."), one) for one in (recipe, base)) for name in names}
    return {name: value for name, (value, other) in pairs.items() if value != other}


def check_field(path: str) -> None:
    """UserError, naming the nearest, unless `path` is a field that can be overridden."""
    if path not in field_names():
        raise UserError(_unknown(path))


def _override_one(value: T, path: list[str], new: object, full: str) -> T:
    hints = typing.get_type_hints(type(value))
    head, *rest = path
    if head not in hints or (bool(rest) != dataclasses.is_dataclass(hints[head])):
        raise UserError(_unknown(full))
    changed = _override_one(getattr(value, head), rest, new, full) if rest else convert(hints[head], new, full)
    return replace(value, **{head: changed})  # type: ignore[type-var]


def _unknown(path: str) -> str:
    names = field_names()
    by_leaf = {name.split(".")[-1]: name for name in names}
    leaf = path.split(".")[-1]
    near = [by_leaf[leaf]] if leaf in by_leaf else get_close_matches(path, names, n=1, cutoff=0.5)
    near = near or [by_leaf[name] for name in get_close_matches(leaf, by_leaf, n=1)]
    hint = f"did you mean {near[0]!r}?" if near else f"fields: {', '.join(names)}"
    return f"a recipe has no field {path!r}; {hint}"


def _build(kind: type[T], values: Mapping[str, object], prefix: str) -> T:
    hints = typing.get_type_hints(kind)
    built: dict[str, object] = {}
    for name, value in values.items():
        if name not in hints:
            raise UserError(_unknown(prefix + name))
        hint = hints[name]
        if dataclasses.is_dataclass(hint) and isinstance(value, dict):
            built[name] = _build(typing.cast(type, hint), value, f"{prefix}{name}.")
        else:
            built[name] = convert(hint, value, prefix + name)
    return kind(**built)


def convert(hint: Any, value: Any, name: str) -> Any:
    """`value` (perhaps the text of one) as the type `hint` says; UserError says what was expected."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null", "off")):
            return None
        return convert(next(a for a in args if a is not type(None)), value, name)
    if origin is Literal:
        if value not in args:
            raise UserError(f"{name}={value!r} is not one of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        if not isinstance(value, str | list | tuple):
            raise UserError(f"{name}={value!r} needs several values, separated by commas")
        items = value.strip("()[] ").split(",") if isinstance(value, str) else list(value)
        kinds = [args[0]] * len(items) if args[-1] is Ellipsis else list(args)
        if len(items) != len(kinds):
            raise UserError(f"{name}={value!r} needs {len(kinds)} values, separated by commas")
        return tuple(convert(k, v, name) for k, v in zip(kinds, items, strict=True))
    return _scalar(hint, value, name)


_WORDS = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}


def _scalar(hint: Any, value: Any, name: str) -> Any:
    try:
        if hint is bool:
            return value if isinstance(value, bool) else _WORDS[str(value).lower()]
        if not isinstance(value, str | numbers.Real) or isinstance(value, bool) or dataclasses.is_dataclass(hint):
            raise ValueError
        if hint is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        converted = hint(value)
    except (KeyError, ValueError, TypeError):
        kind = "set of fields" if dataclasses.is_dataclass(hint) else hint.__name__
        raise UserError(f"{name}={value!r} is not a valid {kind}") from None
    if hint is float and not math.isfinite(converted):
        raise UserError(f"{name}={value!r} must be finite")
    return converted
