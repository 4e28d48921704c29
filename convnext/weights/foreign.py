"""What another library's folder says of its network and of how pictures are shown to it: read, or refused by name.

timm writes config.json ("architecture", "model_args", "pretrained_cfg"); transformers config.json ("model_type") and
preprocessor_config.json. The weights alone show neither activation nor epsilon nor pooling, so a file that names
another one than this package's networks have would give other logits without a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from ..catalog.variants import CROP_FRACTION, WARP_FROM_SIZE, Arch
from ..data.normalise import IMAGENET_MEAN, IMAGENET_STD, real_number, shortened
from ..data.preprocess import FILTERS, Preprocess
from ..errors import UserError
from .class_names import names_in_config

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
RELEASED_SIZE = 224  # pixels, where timm's config does not say
HALF = (0.5, 0.5, 0.5)  # transformers' mean and deviation where its processor's file gives none
BYTE = 1 / 255

# Of timm's `model_args`: what this package's networks have, and what the weights' shapes say or inference never uses.
TIMM_SAME: dict[str, tuple[object, ...]] = {
    "act_layer": ("gelu",), "norm_eps": (1e-6,), "norm_layer": ("layernorm", "layernorm2d"),
    "global_pool": ("avg", "fast"), "output_stride": (32,), "kernel_sizes": (7, [7, 7, 7, 7]), "stem_type": ("patch",),
    "head_norm_first": (False,), "use_grn": (False,), "conv_bias": (True,), "head_hidden_size": (),
}  # fmt: skip
TIMM_SHOWN = {"in_chans", "num_classes", "depths", "dims", "patch_size", "ls_init_value", "conv_mlp", "head_init_scale",
              "drop_rate", "drop_path_rate", "features_only", "out_indices", "img_size", "device", "dtype"}  # fmt: skip
# Networks of timm that differ by their name alone: the arguments stand in timm's source.
TIMM_NAMED = (
    (r"convnext_xxlarge", "norm_eps 1e-05"),
    (r"test_convnext3?", "norm_eps 1e-05 and another activation than GELU"),
    (r"test_convnext2", "norm_eps 1e-05 and act_layer 'gelu_tanh'"),
)
TIMM_SHAPES: dict[
    tuple[tuple[int, ...], tuple[int, ...]], str
] = {  # (depths, dims) of the same, for files without a config.json
    ((3, 4, 30, 3), (384, 768, 1536, 3072)): "convnext_xxlarge",
    ((1, 2, 4, 2), (24, 32, 48, 64)): "test_convnext",
    ((1, 1, 1, 1), (32, 64, 96, 128)): "test_convnext2",
}
HF_EPS = (1e-12, 1e-6)  # of the final norm only: 1e-12 is transformers' default, and of no effect on trained features
HF_FILTERS: dict[object, str] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
# Short side before the centre crop of 224 pixels, of the classifiers that torchvision releases (bilinear).
TORCHVISION_SIDES = {"tiny": 236, "small": 230, "base": 232, "large": 232}


@dataclass(frozen=True)
class Foreign:
    """A folder's description; None where it does not say."""

    classes: list[str] | None = None
    preprocess: dict[str, object] | None = None
    out_indices: tuple[int, ...] | None = None  # of the maps, from 0; for networks without a head
    notes: tuple[str, ...] = ()
    described: bool = False  # by a config.json that names the network


def described_beside(path: Path, *, in_folder: bool) -> Foreign:
    """What the files beside the weights at `path` say, where these are called as in the libraries' folders; for others
    what their name says. Raises UserError for a network or protocol that is not ours.
    """
    config = _read(path.with_name(CONFIG)) if in_folder else None
    if config is None:
        return Foreign(preprocess=_torchvision(path))
    where, classes = str(path.with_name(CONFIG)), names_in_config(config)
    if "architecture" in config:
        return replace(_timm(config, where, classes), described=True)
    if "model_type" in config:
        return replace(_transformers(config, path, classes), described=True)
    return Foreign(classes)


def refuse_named_by_shape(arch: Arch, source: str) -> None:
    """UserError for a file in timm's naming whose shape is that of a network with another epsilon or activation."""
    if name := TIMM_SHAPES.get((arch.depths, arch.dims)):
        raise UserError(
            f"{source} has the shape of timm's {name}, which has {_by_name(name)}; this package's networks have "
            "GELU and 1e-06, so its answers would differ (a folder whose config.json says otherwise is loaded)"
        )


def _by_name(architecture: str) -> str | None:
    return next((what for pattern, what in TIMM_NAMED if re.fullmatch(pattern, architecture)), None)


def _timm(config: Mapping[str, object], where: str, classes: list[str] | None) -> Foreign:
    args = _object(config, "model_args", where)
    protocol = _object(config, "pretrained_cfg", where) if "pretrained_cfg" in config else config
    named = _by_name(str(config["architecture"]).partition(".")[0])
    if named and not {"norm_eps", "act_layer"} <= args.keys():
        raise UserError(f"{where} names timm's {config['architecture']}, which has {named}; {_other()}")
    pools = {key: place[key] for place in (config, protocol) for key in ("global_pool",) if place.get(key)}
    for key, value in (pools | dict(args)).items():
        if key in TIMM_SHOWN or value is None:
            continue
        if value not in TIMM_SAME.get(key, ()):
            raise UserError(f"{where} says {key} {value!r}; {_other()}")
    indices = args.get("out_indices")
    return Foreign(classes, _timm_protocol(protocol, where), None if indices is None else _indices(indices, where, 0))


def _timm_protocol(said: Mapping[str, object], where: str) -> dict[str, object] | None:
    """As `timm.data.create_transform(**resolve_data_config(pretrained_cfg))` shows pictures."""
    size = said.get("input_size") or [3, RELEASED_SIZE, RELEASED_SIZE]
    if not (isinstance(size, list) and len(size) == 3):
        raise UserError(f"{where} says input_size {shortened(size)}; it needs channels, height and width")
    if size[0] != 3:
        return None  # pictures have three channels, so it cannot be shown any
    if size[1] != size[2]:
        raise UserError(f"{where} says input_size {size}; this package shows square pictures")
    mode, crop = said.get("crop_mode") or "center", said.get("crop_pct") or CROP_FRACTION
    if mode not in ("center", "squash"):
        raise UserError(f"{where} says crop_mode {mode!r}; this package knows center and squash")
    return _protocol(
        where,
        size=size[1],
        mode="crop" if mode == "center" else "warp" if crop == 1 else "squash",
        crop=crop,
        interpolation=said.get("interpolation") or "bicubic",
        mean=said.get("mean") or IMAGENET_MEAN,
        std=said.get("std") or IMAGENET_STD,
    )


def _transformers(config: Mapping[str, object], path: Path, classes: list[str] | None) -> Foreign:
    where = str(path.with_name(CONFIG))
    body, nested = config, config.get("backbone_config")
    if isinstance(nested, Mapping) and nested.get("model_type") == "convnext":
        body = nested
    if body.get("model_type") != "convnext":
        return Foreign(classes)  # the names of its weights say what it is
    if (act := body.get("hidden_act", "gelu")) != "gelu":
        raise UserError(f"{where} says hidden_act {act!r}; {_other()}")
    if (eps := body.get("layer_norm_eps", 1e-12)) not in HF_EPS:
        raise UserError(f"{where} says layer_norm_eps {eps!r}; {_other()}")
    indices = body.get("out_indices")
    found = None if indices is None else _indices(indices, where, 1)
    said = _read(path.with_name(PROCESSOR))
    if body is nested:  # a segmenter, which is shown pictures by another protocol
        return Foreign(classes, None, found)
    if said is None:
        return Foreign(classes, None, found, (f"there is no {PROCESSOR}: pictures are shown as released models are",))
    return Foreign(classes, _transformers_protocol(said, str(path.with_name(PROCESSOR))), found)


def _transformers_protocol(said: Mapping[str, object], where: str) -> dict[str, object]:
    """As ConvNextImageProcessor shows pictures, or ViTImageProcessor, which some training scripts leave there."""
    kind = str(said.get("image_processor_type") or said.get("feature_extractor_type") or "ConvNextImageProcessor")
    family = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", kind)
    if family not in ("ConvNext", "ViT"):
        raise UserError(f"{where} says image_processor_type {kind!r}; this package knows ConvNext's and ViT's")
    if not said.get("do_resize", True):
        raise UserError(f"{where} says do_resize false; this package shows every picture at one size")
    size = said.get("size", {"shortest_edge": 384} if family == "ConvNext" else 224)
    if isinstance(size, Mapping):
        sides = [size[key] for key in ("shortest_edge", "height", "width") if size.get(key) is not None]
        unknown = size.keys() - {"shortest_edge", "height", "width"}
        if not sides or any(side != sides[0] for side in sides) or any(size[key] is not None for key in unknown):
            raise UserError(f"{where} says size {dict(size)}; this package shows square pictures of one size")
        size = sides[0]
    if not isinstance(size, int):
        raise UserError(f"{where} says size {shortened(size)}; it needs a number of pixels")
    cut = said.get("crop_size") if said.get("do_center_crop") else None
    cuts = list(cut.values()) if isinstance(cut, Mapping) else [cut]
    if cut is not None and (not cuts or any(side != size for side in cuts)):
        raise UserError(f"{where} says crop_size {cut} after size {size}; this package cuts once")
    mean, std = _folded(said, where)
    resample = said.get("resample", 3 if family == "ConvNext" else 2)
    return _protocol(
        where,
        size=size,
        mode="crop" if family == "ConvNext" and size < WARP_FROM_SIZE else "warp",
        crop=said.get("crop_pct") or CROP_FRACTION,
        halves="first",
        mean=mean,
        std=std,
        interpolation=HF_FILTERS.get(resample, "?") if isinstance(resample, int | float) else "?",
    )


def _folded(said: Mapping[str, object], where: str) -> tuple[list[float], list[float]]:
    """Mean and deviation for values between 0 and 1, with another rescaling, or none of either, worked in."""
    mean, std = said.get("image_mean") or HALF, said.get("image_std") or HALF
    if not said.get("do_normalize", True):
        mean, std = [0.0] * 3, [1.0] * 3
    factor = said.get("rescale_factor", BYTE) if said.get("do_rescale", True) else 1.0
    try:
        relative = real_number(factor) / BYTE
        if abs(relative - 1) < 1e-6:  # the file's decimals of 1 / 255
            relative = 1.0
        if not isinstance(mean, Iterable) or not isinstance(std, Iterable):
            raise TypeError
        return [value / relative for value in mean], [value / relative for value in std]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        said_so = f"rescale_factor {shortened(factor)}, image_mean {shortened(mean)}, image_std {shortened(std)}"
        raise UserError(f"{where} says {said_so}; they must be numbers") from None


def _torchvision(path: Path) -> dict[str, object] | None:
    """How torchvision's released files, recognised by their names, are shown pictures."""
    if not (found := re.fullmatch(r"convnext_(tiny|small|base|large)-[0-9a-f]{8}\.pth", path.name)):
        return None
    crop = RELEASED_SIZE / TORCHVISION_SIDES[found[1]]
    return Preprocess(RELEASED_SIZE, "crop", interpolation="bilinear", crop=crop).to_dict()


def _protocol(where: str, **values: object) -> dict[str, object]:
    if not isinstance(named := values["interpolation"], str) or named not in FILTERS:
        raise UserError(f"{where} asks for another interpolation than this package knows ({', '.join(FILTERS)})")
    try:
        return Preprocess.from_dict(values).to_dict()
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _indices(values: object, where: str, first: int) -> tuple[int, ...]:
    """Which maps are returned, counted from 0; `first` is the number that the library gives the first stage."""
    given = values if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    numbers = cast(Iterable[float], given)  # what is no number raises TypeError where it is compared
    try:
        return tuple(int(value) - first if value >= 0 else int(value) + 4 for value in numbers)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{where} says out_indices {shortened(values)}; they must be numbers of stages") from None


def _object(config: Mapping[str, object], key: str, where: str) -> Mapping[str, object]:
    value = config.get(key) or {}
    if not isinstance(value, Mapping):
        raise UserError(f"{where} holds no object under {key!r}; save the folder again")
    return value


def _other() -> str:
    ours = "GELU, an epsilon of 1e-06 and average pooling at stride 32"
    return f"this package's networks have {ours}, so it would answer differently; use the library that wrote it"


def _read(path: Path) -> Mapping[str, object] | None:
    """A JSON object; None where there is no such file."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, Mapping):
        raise UserError(
            f"{path} is damaged: it describes the network beside it and holds no JSON object; mend it or take it away"
        )
    return found
