"""The road from ResNet to ConvNeXt as data: every step is a base step and what it changes (paper section 2).

Two regimes, ResNet-50 to ConvNeXt-T ("tiny", Table 10) and ResNet-200 to ConvNeXt-B ("base", Table 11). Published
figures stand beside each step; multiply-adds are counted from the networks that models/roadmap.py builds.

    convnext roadmap show
    convnext train IMAGENET --recipe roadmap/tiny --model roadmap:tiny/7

Standard library only. A network is named "roadmap:REGIME/STEP", with `Reading`'s fields behind another colon:
"roadmap:tiny/7:width=0.25,layer_scale=1e-06".
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

from ..errors import UserError
from .imagenet import RECIPES as IMAGENET
from .recipe import AdamW, Augment, Recipe, Schedule, convert

PREFIX = "roadmap:"


@dataclass(frozen=True)
class Design:
    """What the steps change. `width` is stage 0's; each stage doubles it."""

    depths: tuple[int, ...]
    width: int = 64
    stem: Literal["resnet", "patchify"] = "resnet"  # 7x7 stride 2, norm, activation, max-pool | 4x4 stride 4
    block: Literal["bottleneck", "inverted", "moved_up"] = "bottleneck"
    depthwise: bool = False
    kernel: int = 3
    activation: Literal["relu", "gelu"] = "relu"
    activations: Literal["all", "one"] = "all"  # after every norm and after the addition | between the 1x1 layers
    norms: Literal["all", "one"] = "all"  # after every convolution | after the depthwise one
    norm: Literal["batch", "layer"] = "batch"
    downsampling: Literal["block", "separate"] = "block"  # a stage's first block strides | a layer between stages


@dataclass(frozen=True)
class Step:
    """One row of Table 10 or 11: `top1` in percent (mean of three seeds in the tiny regime), `gflops` as printed."""

    name: str
    base: int | None  # index of the step it continues from
    change: dict[str, Any]
    gflops: float
    top1: float
    std: float | None = None
    note: str = ""
    counts: float | None = None  # GFLOPs, where what is printed is not the network's


@dataclass(frozen=True)
class Reading:
    """What text and FLOPs leave open (DESIGN of each choice: docs/paper.md), and scaled-down copies for small machines.

    The defaults: the patchify stem is a bare convolution until LayerNorm is added behind it in the last step; shortcut
    convolutions keep their norm; a convolution has a bias exactly where no norm follows.
    """

    stem_norm: bool = False
    shortcut_norm: bool = True
    conv_bias: bool = True
    layer_scale: float = 0.0  # 0: no such parameter
    width: float = 1.0  # factor on every width, to multiples of 8
    depth: float = 1.0  # factor on every stage's depth, at least one block

    def __post_init__(self) -> None:
        if not (0 < self.width < math.inf and 0 < self.depth < math.inf and 0 <= self.layer_scale < math.inf):
            factors = f"width {self.width} and depth {self.depth} of a step must be positive"
            raise UserError(f"{factors}, and its layer scale {self.layer_scale} not negative")


_GELU_FROM = 9  # kernel 7; 9 and 11 are side steps
_KERNELS_FROM = 7
_MISPRINT_LN = "misprint: Figure 2 labels this bar 4.2, and a norm adds no multiply-adds; read 4.15"
_MISPRINT_LAST = (
    "another counter: the twin row of Table 11 agrees to 0.005, and this is the released ConvNeXt-T; read 4.46"
)


def _steps(
    ratio: Step,
    width: int,
    rows: tuple[tuple[float, float, float | None], ...],
    first: tuple[Step, Step],
    misprints: dict[int, tuple[str, float]],
) -> tuple[Step, ...]:
    """The steps that both regimes share, with their published (GFLOPs, top-1, std)."""
    shared: tuple[tuple[str, int, dict[str, Any]], ...] = (
        ("patchify stem", 2, {"stem": "patchify"}),
        ("depthwise conv", 3, {"depthwise": True}),
        ("increase width", 4, {"width": width}),
        ("inverting dimensions", 5, {"block": "inverted"}),
        ("move up depthwise conv", 6, {"block": "moved_up"}),
        ("kernel size 5", _KERNELS_FROM, {"kernel": 5}),
        ("kernel size 7", _KERNELS_FROM, {"kernel": 7}),
        ("kernel size 9", _KERNELS_FROM, {"kernel": 9}),
        ("kernel size 11", _KERNELS_FROM, {"kernel": 11}),
        ("ReLU to GELU", _GELU_FROM, {"activation": "gelu"}),
        ("fewer activations", 12, {"activations": "one"}),
        ("fewer norms", 13, {"norms": "one"}),
        ("BN to LN", 14, {"norm": "layer"}),
        ("separate downsampling conv", 15, {"downsampling": "separate"}),
    )
    rest = (
        Step(name, base, change, *row, *misprints.get(i, ()))
        for i, ((name, base, change), row) in enumerate(zip(shared, rows, strict=True), start=3)
    )
    return (*first, ratio, *rest)


# Tables 10 and 11.
_TINY = ((4.42, 79.51, 0.18), (2.35, 78.28, 0.08), (5.27, 80.50, 0.02), (4.64, 80.64, 0.03), (4.07, 79.92, 0.08),
         (4.10, 80.35, 0.08), (4.15, 80.57, 0.14), (4.21, 80.57, 0.06), (4.29, 80.47, 0.11), (4.15, 80.62, 0.14),
         (4.15, 81.27, 0.06), (4.15, 81.41, 0.09), (4.46, 81.47, 0.09), (4.49, 81.97, 0.06))  # fmt: skip
_BASE = ((14.38, 81.59, None), (7.23, 80.54, None), (16.76, 81.85, None), (15.68, 82.64, None), (14.63, 82.04, None),
         (14.70, 82.32, None), (14.81, 82.30, None), (14.95, 82.27, None), (15.13, 82.18, None), (14.81, 82.19, None),
         (14.81, 82.71, None), (14.81, 83.17, None), (14.81, 83.35, None), (15.35, 83.60, None))  # fmt: skip

STEPS: dict[str, tuple[Step, ...]] = {
    "tiny": _steps(
        Step("stage ratio", 1, {"depths": (3, 3, 9, 3)}, 4.53, 79.36, 0.07), 96, _TINY,
        (Step("ResNet-50", None, {}, 4.09, 76.13, note="PyTorch's own weights"),
         Step("enhanced recipe", 0, {}, 4.09, 78.82, 0.07)),
        {15: (_MISPRINT_LN, 4.15), 16: (_MISPRINT_LAST, 4.46)}),
    "base": _steps(
        Step("stage ratio", 1, {"depths": (3, 3, 27, 3), "width": 84}, 14.52, 81.33, note="and width 84"), 128, _BASE,
        (Step("ResNet-200", None, {}, 15.01, 78.20, note="quoted from the pre-activation ResNet paper"),
         Step("enhanced recipe", 0, {}, 15.01, 81.14)),
        {}),
}  # fmt: skip
START = {"tiny": Design(depths=(3, 4, 6, 3)), "base": Design(depths=(3, 24, 36, 3))}
SWIN = {"tiny": ("Swin-T", 4.50, 81.30), "base": ("Swin-B", 15.43, 83.50)}  # printed below each table

# Appendix A.1: one recipe for every step, Table 5 without the average. Stochastic depth of the sizes they lead to.
RECIPES: dict[str, Recipe] = {
    f"roadmap/{regime}": replace(
        IMAGENET[f"imagenet1k/{regime}"],
        name=f"roadmap/{regime}",
        ema=None,
        model=f"{PREFIX}{regime}/16:layer_scale=1e-06",
    )
    for regime in STEPS
} | {
    # Ours, for an evening on two cores: a quarter of the widths, a third of the depths, pictures of 64 pixels. AdamW
    # alone, as in the paper: Muon would favour the steps whose weights are matrices.
    "roadmap/small": Recipe(
        name="roadmap/small",
        model=f"{PREFIX}tiny/16:width=0.25,depth=0.34",
        image_size=64,
        batch_size=128,
        epochs=5,
        optim=AdamW(lr=2e-3, weight_decay=0.05, clip_grad=1.0),
        schedule=Schedule(warmup_epochs=0.5),
        augment=Augment(scale=(0.35, 1.0), randaugment=0.0, erase=0.0, mixup=0.0, cutmix=0.0),
        drop_path=0.0,
        init="fan_in",
        eval_every=5,
        save_every=1,
    )
}


def find_step(regime: str, step: int | str) -> int:
    """Index of a step given by index, its digits or its name; UserError, naming the nearest, for another."""
    if regime not in STEPS:
        raise UserError(f"the roadmap has no regime {regime!r}; it has {' and '.join(STEPS)}")
    names = [row.name for row in STEPS[regime]]
    if isinstance(step, str) and step in names:
        return names.index(step)
    try:
        index = int(step)
    except ValueError:
        near = get_close_matches(str(step), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"steps: {', '.join(names)}"
        raise UserError(f"the roadmap has no step {step!r}; {hint}") from None
    if not 0 <= index < len(names):
        raise UserError(f"the roadmap has no step {index}; its steps are 0 to {len(names) - 1}")
    return index


def design(regime: str, step: int | str) -> Design:
    """The network of a step: its base's with its own change."""
    row = STEPS[regime][find_step(regime, step)]
    return START[regime] if row.base is None else replace(design(regime, row.base), **row.change)


def name_of(regime: str, step: int | str, reading: Reading | None = None) -> str:
    """The model name of a step under a reading; fields at their defaults are left out."""
    reading = reading or Reading()
    fields = [(f.name, getattr(reading, f.name), f.default) for f in dataclasses.fields(Reading)]
    given = ",".join(f"{name}={value}" for name, value, default in fields if value != default)
    return f"{PREFIX}{regime}/{find_step(regime, step)}" + (f":{given}" if given else "")


def parse(name: str) -> tuple[str, int, Reading]:
    """Regime, step and reading of "roadmap:tiny/7:width=0.25"; UserError where it is not of that form."""
    place, _, given = name.removeprefix(PREFIX).partition(":")
    regime, slash, step = place.partition("/")
    if not slash:
        raise UserError(f"{name!r} names no step; write it as {PREFIX}tiny/7 or '{PREFIX}tiny/move up depthwise conv'")
    kinds = {f.name: type(f.default) for f in dataclasses.fields(Reading)}
    values = {}
    for pair in filter(None, given.split(",")):
        field, _, value = pair.partition("=")
        if field not in kinds:
            raise UserError(f"the roadmap leaves no {field!r} open; open are {', '.join(kinds)}")
        values[field] = convert(kinds[field], value, field)
    return regime, find_step(regime, step), Reading(**values)


def jobs(recipe: Recipe, steps: Iterable[int], seeds: Iterable[int]) -> dict[str, Recipe]:
    """Runs by name, "step-07-seed-0": `recipe` for each step under the reading its model names, seed after seed.

    Step 0 is the network of step 1 under the recipe of its time: no smoothing, mixing, erasing, RandAugment or
    stochastic depth, and a weight decay of 1e-4 (the optimiser stays AdamW).
    """
    regime, _, reading = parse(recipe.model)
    plain = replace(recipe.augment, smoothing=0.0, mixup=0.0, cutmix=0.0, erase=0.0, randaugment=0.0)
    before = replace(recipe, augment=plain, drop_path=0.0, optim=replace(recipe.optim, weight_decay=1e-4))
    return {
        f"step-{step:02}-seed-{seed}": replace(
            recipe if step else before, model=name_of(regime, step, reading), seed=seed, ema=None
        )
        for seed in seeds
        for step in steps
    }
