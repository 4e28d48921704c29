"""Parameter names of checkpoints as tables: official <-> timm, torchvision, transformers, mmpretrain, mmdet, mmseg.

A row pairs an official name with the other library's, both without `.weight` / `.bias`. In a row, `{s}` is a stage
(0-3), `{s+1}`, `{2s}` and `{2s+1}` are numbers made from it, and `#` is a block's index. Rows were read from the
libraries' own parameter lists. Which naming a file has is decided by the first block's depthwise kernel, whose name
differs in each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from ..catalog.variants import VARIANTS, Arch
from ..errors import UserError

Weights = dict[str, Tensor]
Rows = tuple[tuple[str, str], ...]

BLOCK_PARTS = ("dwconv", "norm", "pwconv1", "pwconv2", "gamma")
STAGES = 4
STEMS = ("downsample_layers.0.0.weight", "stem.weight")  # the first convolution: hierarchical, isotropic


@dataclass(frozen=True)
class Naming:
    """One library's parameter names. `anchors` end with its name for the first depthwise kernel."""

    name: str
    rows: Rows
    anchors: tuple[str, ...]
    body: str = ""  # what every name of the backbone starts with
    scale_ndim: int = 1  # layer scale is (C,), or (C, 1, 1) in torchvision
    flexible_pointwise: bool = False  # timm stores 1x1 convolutions, (out, in, 1, 1), for its small sizes
    needs_scale: bool = False  # its blocks always have a layer scale


def _hierarchical(stem: tuple[str, str], down: str, block: str, parts: tuple[str, ...], *tail: tuple[str, str]) -> Rows:
    """The rows of a four-stage network; `down` and `block` are prefixes, `parts` follow BLOCK_PARTS."""
    return (
        ("downsample_layers.0.0", stem[0]),
        ("downsample_layers.0.1", stem[1]),
        ("downsample_layers.{s}.0", f"{down}.0"),
        ("downsample_layers.{s}.1", f"{down}.1"),
        *((f"stages.{{s}}.#.{ours}", f"{block}.{theirs}") for ours, theirs in zip(BLOCK_PARTS, parts, strict=True)),
        *tail,
    )


_OFFICIAL_STEM = ("downsample_layers.0.0", "downsample_layers.0.1")
_ISOTROPIC = (("stem", "stem"), *((f"blocks.#.{part}", f"blocks.#.{part}") for part in BLOCK_PARTS))
_TIMM_PARTS = ("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma")
_MM_PARTS = ("depthwise_conv", "norm", "pointwise_conv1", "pointwise_conv2", "gamma")
_HF_PARTS = ("dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter")

OFFICIAL = Naming(
    "official",
    _hierarchical(_OFFICIAL_STEM, "downsample_layers.{s}", "stages.{s}.#", BLOCK_PARTS, ("norm", "norm"),
                  ("norm{s}", "norm{s}"), ("head", "head")) + _ISOTROPIC,
    ("stages.0.0.dwconv.weight", "blocks.0.dwconv.weight"),
)  # fmt: skip
TIMM = Naming(
    "timm",
    _hierarchical(("stem.0", "stem.1"), "stages.{s}.downsample", "stages.{s}.blocks.#", _TIMM_PARTS,
                  ("norm", "head.norm"), ("head", "head.fc")),
    ("stages.0.blocks.0.conv_dw.weight",),
    flexible_pointwise=True,
)  # fmt: skip
TIMM_FEATURES = Naming(
    "timm",
    _hierarchical(("stem_0", "stem_1"), "stages_{s}.downsample", "stages_{s}.blocks.#", _TIMM_PARTS),
    ("stages_0.blocks.0.conv_dw.weight",),
    flexible_pointwise=True,
)
TORCHVISION = Naming(
    "torchvision",
    _hierarchical(("features.0.0", "features.0.1"), "features.{2s}", "features.{2s+1}.#",
                  ("block.0", "block.2", "block.3", "block.5", "layer_scale"),
                  ("norm", "classifier.0"), ("head", "classifier.2")),
    ("features.1.0.block.0.weight",),
    scale_ndim=3,
    needs_scale=True,
)  # fmt: skip


def _transformers(body: str, *tail: tuple[str, str]) -> Naming:
    stem = (f"{body}embeddings.patch_embeddings", f"{body}embeddings.layernorm")
    stage = f"{body}encoder.stages.{{s}}"
    rows = _hierarchical(
        stem, f"{stage}.downsampling_layer", f"{stage}.layers.#", _HF_PARTS, ("norm", f"{body}layernorm"), *tail
    )
    return Naming("transformers", rows, (f"{body}encoder.stages.0.layers.0.dwconv.weight",), body)


def _openmmlab(name: str, body: str, *tail: tuple[str, str]) -> Naming:
    stem = (f"{body}downsample_layers.0.0", f"{body}downsample_layers.0.1")
    rows = _hierarchical(stem, f"{body}downsample_layers.{{s}}", f"{body}stages.{{s}}.#", _MM_PARTS, *tail)
    return Naming(name, rows, (f"{body}stages.0.0.depthwise_conv.weight",), body)


TRANSFORMERS = _transformers("convnext.", ("head", "classifier"))
TRANSFORMERS_BACKBONE = _transformers(
    "", ("norm{s}", "hidden_states_norms.stage{s+1}")
)  # ConvNextModel and ConvNextBackbone
# mmpretrain calls the final norm norm3, the very name of the dense form's last output norm.
MMPRETRAIN = _openmmlab("mmpretrain", "backbone.", ("norm", "backbone.norm3"), ("head", "head.fc"))
MMDET = _openmmlab("mmdet/mmseg", "backbone.", ("norm{s}", "backbone.norm{s}"))

# Of several that fit, the one that explains the most keys is taken; the first of equals.
NAMINGS = (
    OFFICIAL, TIMM, TIMM_FEATURES, TORCHVISION, TRANSFORMERS, TRANSFORMERS_BACKBONE, MMPRETRAIN, MMDET,
    _openmmlab("mmpretrain", "", ("norm", "norm3")), _openmmlab("mmdet/mmseg", "", ("norm{s}", "norm{s}")),
)  # fmt: skip

# How each name that `save_weights` takes is written: (with a head, features only). None: that library has no such form.
WRITTEN: dict[str, tuple[Naming | None, Naming | None]] = {
    "official": (OFFICIAL, OFFICIAL),
    "timm": (TIMM, TIMM_FEATURES),
    "torchvision": (TORCHVISION, TORCHVISION),
    "transformers": (TRANSFORMERS, TRANSFORMERS_BACKBONE),
    "mmpretrain": (MMPRETRAIN, None),
    "mmdet": (None, MMDET),
    "mmseg": (None, MMDET),
}
TIMM_CONVOLUTIONAL = tuple(VARIANTS[f"convnext_{size}"].dims for size in ("atto", "femto", "pico", "nano"))

# What a key says about a network that is not ours; the first match is reported.
FOREIGN: tuple[tuple[str, str], ...] = (
    (r"(^|\.)grn\.", "ConvNeXt-V2 (it has global response normalisation)"),
    (r"(^|\.)norms\.\d+\.", "a DINOv3 or EUPE ConvNeXt (it has `norms.*` entries)"),
    (r"stages\.\d+\.layers\.\d+\.depthwise_conv\.", "a DINOv3 ConvNeXt in transformers' naming"),
    (r"(^|\.)stem[._]2\.weight$", "a timm ConvNeXt with an overlapping stem (`_ols`), another network"),
    (r"(^|\.)norm_pre\.", "a timm ConvNeXt that normalises before pooling (head_norm_first), another network"),
    (r"(^|\.)head\.pre_logits\.fc\.", "a timm ConvNeXt with a hidden layer in its head, another network"),
    (r"relative_position_bias_table$", "a Swin transformer"),
    (r"(^|\.)(cls_token|class_token|pos_embed|pos_embedding|position_embeddings)$", "a vision transformer"),
    (r"(^|\.)layer[1-4]\.\d+\.(conv1|bn1)\.", "a ResNet"),
    (r"(^|\.)(conv_stem\.weight|features\.\d+\.\d+\.block\.\d+\.\d+\.weight)$", "an EfficientNet"),
    (r"(^|\.)denseblock\d", "a DenseNet"),
)  # fmt: skip
BOOKKEEPING = ("n_averaged", "steps")  # counters of torch's and mmengine's averaging wrappers


@dataclass(frozen=True)
class Translated:
    """Weights under official names. `outside` are entries of another part of a larger network."""

    naming: Naming
    prefix: str
    weights: Weights
    outside: tuple[str, ...]
    notes: tuple[str, ...]


def detect(keys: Iterable[str], where: str) -> tuple[Naming, str]:
    """Which naming the keys have, and what stands before it (`module.`, `backbone.`, `encoder.model.`, …).

    Raises UserError when they belong to another architecture, saying which where the keys tell, or to several networks.
    """
    keys = list(keys)
    for pattern, what in FOREIGN:
        if any(re.search(pattern, key) for key in keys):
            raise UserError(f"{where} holds {what}; this package loads ConvNeXt (V1)")
    found = [
        (naming, key.removesuffix(anchor))
        for naming in NAMINGS
        for anchor in naming.anchors
        for key in keys
        if key == anchor or key.endswith("." + anchor)
    ]
    if not found:
        raise UserError(
            f"{where} holds no ConvNeXt (its first entries: {', '.join(keys[:3]) or 'none'}); pass another file"
        )
    explained = [
        sum(key.startswith(prefix) and _official(naming, key[len(prefix) :]) is not None for key in keys)
        for naming, prefix in found
    ]
    best, prefix = found[explained.index(max(explained))]
    if len({p for naming, p in found if naming is best}) > 1:
        several = ", ".join(repr(p) for naming, p in found if naming is best)
        raise UserError(f"{where} holds several networks, under {several}; pass the state dict of one of them")
    return best, prefix


def to_official(weights: Weights, where: str) -> Translated:
    """`weights` of any naming under official names and shapes; entries without an official name keep their own.

    Raises UserError as `detect` does.
    """
    naming, prefix = detect(weights, where)
    official: Weights = {}
    outside: list[str] = []
    notes: list[str] = []
    for key, value in weights.items():
        own = key.removeprefix(prefix)
        name = _official(naming, own) if key.startswith(prefix) else None
        if name is not None or key.startswith(prefix + naming.body):
            official[name or own] = _official_shape(name or own, value)
        elif key.split(".")[-1] in BOOKKEEPING:
            notes.append(f"{key} is a counter, not a weight")
        else:
            outside.append(key)
    for counter in [key for key in official if key in BOOKKEEPING]:
        del official[counter]
        notes.append(f"{counter} is a counter, not a weight")
    if prefix:
        notes.append(f"names were read behind the prefix {prefix!r}")
    return Translated(naming, prefix, official, tuple(outside), tuple(notes))


def from_official(weights: Weights, written: str, arch: Arch, dense: bool) -> Weights:
    """Official weights under the names and in the shapes of the library `written`.

    Raises UserError when that library has no such network, or no place for one of the entries.
    """
    if written not in WRITTEN:
        raise UserError(f"unknown naming {written!r}; known: {', '.join(WRITTEN)}")
    naming = WRITTEN[written][dense]
    if naming is None and dense:
        raise UserError(f"{written} is for classifiers, and this network returns maps; use mmdet or mmseg")
    if naming is None:
        raise UserError(
            f"{written} is for detectors and segmenters, and this network is a classifier; use mmpretrain, or build "
            "the model with out_norms=True"
        )
    if arch.stem == "pool" and written != "official":
        raise UserError(f"{written} has no ConvNeXt whose stem pools; use the official naming, which convnext reads")
    if arch.isotropic and naming is not OFFICIAL:
        raise UserError(f"{written} has no isotropic ConvNeXt; use the official naming")
    if naming.needs_scale and arch.layer_scale <= 0:
        raise UserError(f"{written}'s blocks always have a layer scale and this network has none; use another naming")
    convolutional = naming.flexible_pointwise and arch.dims in TIMM_CONVOLUTIONAL
    renamed: Weights = {}
    for name, value in weights.items():
        theirs = _theirs(naming, name)
        if theirs is None:
            raise UserError(f"{written} naming has no place for {name}; use the official naming")
        if name.endswith(".gamma"):
            value = value.reshape(-1, *(1,) * (naming.scale_ndim - 1))
        elif convolutional and re.search(r"pwconv[12]\.weight$", name):
            value = value[:, :, None, None]
        renamed[theirs] = value
    return renamed


def arch_of(weights: Weights, where: str) -> Arch:
    """The network that official weights belong to, by their names and shapes; UserError when parts are missing."""
    depths: tuple[int, ...]
    dims: tuple[int, ...]
    try:
        if "stem.weight" in weights:
            stem = _kernel(weights, "stem.weight", where)
            depths, dims = (_depth(weights, "blocks"),), (stem.shape[0],)
        else:
            stem = _kernel(weights, "downsample_layers.0.0.weight", where)
            depths = tuple(_depth(weights, f"stages.{s}") for s in range(STAGES))
            downs = (_kernel(weights, f"downsample_layers.{s}.1.weight", where) for s in range(1, STAGES))
            dims = (stem.shape[0], *(kernel.shape[0] for kernel in downs))
    except KeyError as error:
        raise UserError(f"{where} lacks {error.args[0]}; it is not a whole ConvNeXt") from None
    scale = 1e-6 if any(name.endswith(".gamma") for name in weights) else 0.0
    return Arch(depths, dims, int(stem.shape[-1]), len(dims) == 1, scale)


def _kernel(weights: Weights, name: str, where: str) -> Tensor:
    """A square convolution's weights, (out, in, p, p)."""
    kernel = weights[name]
    if kernel.ndim != 4 or 0 in kernel.shape or kernel.shape[2] != kernel.shape[3]:
        raise UserError(
            f"{where} holds {name} of shape {list(kernel.shape)}, which is no convolution of this package's"
        )
    return kernel


def _depth(weights: Weights, stage: str) -> int:
    found = {int(m[1]) for name in weights if (m := re.match(rf"{re.escape(stage)}\.(\d{{1,4}})\.", name))}
    if not found:
        raise KeyError(stage)
    if len(found) != max(found) + 1:  # a number far beyond the others would make a network of that many blocks
        raise KeyError(f"{stage}.{min(set(range(max(found))) - found)}")
    return len(found)


def _official_shape(name: str, value: Tensor) -> Tensor:
    if name.endswith(".gamma") and value.ndim == 3:
        return value.flatten()
    if re.search(r"pwconv[12]\.weight$", name) and value.ndim == 4 and value.shape[2:] == (1, 1):
        return value.flatten(1)
    return value


def _official(naming: Naming, name: str) -> str | None:
    return _rename(_compiled(naming, True), name)


def _theirs(naming: Naming, name: str) -> str | None:
    return _rename(_compiled(naming, False), name)


def _rename(rows: tuple[tuple[re.Pattern[str], str], ...], name: str) -> str | None:
    for pattern, target in rows:
        if found := pattern.fullmatch(name):
            return target.replace("#", found.groupdict().get("block") or "") + found["end"]
    return None


@cache
def _compiled(naming: Naming, reverse: bool) -> tuple[tuple[re.Pattern[str], str], ...]:
    rows = [row for pair in naming.rows for row in _stages(*pair)]
    if reverse:
        rows = [(theirs, ours) for ours, theirs in rows]
    return tuple((_pattern(source), target) for source, target in rows)


def _stages(ours: str, theirs: str) -> list[tuple[str, str]]:
    if "{s}" not in ours:
        return [(ours, theirs)]
    first = 1 if ours.startswith("downsample_layers") else 0  # the stem has rows of its own
    return [(_at(ours, s), _at(theirs, s)) for s in range(first, STAGES)]


def _at(template: str, s: int) -> str:
    for field, number in (("{s}", s), ("{s+1}", s + 1), ("{2s}", 2 * s), ("{2s+1}", 2 * s + 1)):
        template = template.replace(field, str(number))
    return template


def _pattern(source: str) -> re.Pattern[str]:
    return re.compile(re.escape(source).replace(r"\#", r"(?P<block>\d+)") + r"(?P<end>|\.weight|\.bias)")
