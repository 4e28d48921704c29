"""A row of `variants` becomes a model; weights of any naming go in, and out again in any naming.

A file of ours is .safetensors with string metadata: "format", "variant", "arch" (JSON), and what the writer adds:
"classes" and "preprocess" (JSON), "metric", "which" ("raw" or "ema"), "licence".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from ..data import detection, masks
from ..data.kept_shape import KeptShape
from ..data.transforms import Preprocess
from ..errors import UserError
from ..variants import CLASSES_22K, VARIANTS, AnyRelease, Arch, DetectorRelease, SegmenterRelease, custom, parse_name
from .checkpoint import FORMAT, HUB_FILES, Checkpoint, Source, open_checkpoint, write
from .class_names import fitting_names
from .convnext import Backbone, ConvNeXt, ConvNeXtIsotropic
from .detectors import detector_of, detector_weights, load_detector
from .fitting import fit_baseline_head, fit_head, fit_norms, fit_stem, require_stem, some
from .keymaps import Weights, from_official, to_official
from .labels import ade20k, coco, names_for
from .loading import LoadReport, fill, require_whole
from .peers import build_baseline, is_baseline
from .rcnn import Detector
from .segmenters import load_segmenter, segmenter_of, segmenter_weights
from .shapes import as_described, by_shapes
from .upernet import Segmenter

HeadRule = Literal["auto", "drop", "rows"]
DEFAULT_SIZE = 224  # pixels that a classifier is shown where nothing is known of it
DEFAULT_PATCH = 4  # the family's stem; asking for it keeps a row's own, so that isotropic models keep their 16


DESCRIBED = ("classes", "category_ids", "mask_coding", "preprocess")  # attributes that `from_pretrained` gives a model
CARRIED = (
    "classes", "category_ids", "mask_coding", "preprocess", "task",
    "groups", "metric", "which", "precision", "licence", "data"
)  # fmt: skip


def list_models() -> list[str]:
    """Names of the family, small to large, then isotropic."""
    return list(VARIANTS)


def create_model(
    name: str, *, weights: Source | None = None, num_classes: int | None = None, in_chans: int | None = None,
    drop_path_rate: float = 0.0, drop_rate: float = 0.0, layer_scale_init_value: float | None = None,
    head_init_scale: float = 1.0, patch_size: int = DEFAULT_PATCH, depths: Sequence[int] | None = None,
    dims: Sequence[int] | None = None, stem: str = Arch.stem, out_norms: bool = False, features_only: bool = False,
    out_indices: Iterable[int] = (0, 1, 2, 3),
) -> nn.Module:  # fmt: skip
    """A network by name, in training mode: (N, in_chans, H, W) -> (N, num_classes) logits, or maps (`Backbone`).

    `name` is a size in our, the official, timm's or the hub's spelling, which says the architecture only: `weights`
    says what to load (a released tag such as "in1k", a path, a hub id, a state dict). Or it is a checkpoint's path,
    whose weights are then loaded; or a baseline, "torchvision:resnet18" or "timm:resnet18". `num_classes` and
    `in_chans` are 1000 and 3, or the checkpoint's own. `layer_scale_init_value` None is the size's own start (1e-6;
    none for isotropic small and base, as for 0). `stem` is "patch" or "pool", `patch_size` its stride (`Arch`).
    `head_init_scale` means nothing to a baseline. What loading did is kept as `.load_report`. Raises UserError for an
    unknown name and for options or weights that do not fit.
    """
    opened = open_checkpoint(name) if _is_file(name) else None
    baseline = opened.described.variant if opened else name
    shape: dict[str, Any] = {
        "depths": _tuple(depths),
        "dims": _tuple(dims),
        "layer_scale": layer_scale_init_value,
        "patch_size": None if patch_size == DEFAULT_PATCH else patch_size,
        "stem": None if stem == Arch.stem else stem,
    }
    maps = {"out_norms": out_norms, "features_only": features_only, "out_indices": tuple(out_indices)}
    given: dict[str, Any] = {"drop_path_rate": drop_path_rate, "drop_rate": drop_rate}
    given |= {k: v for k, v in (("num_classes", num_classes), ("in_chans", in_chans)) if v is not None}
    if is_baseline(baseline):
        _refuse_for_baseline(baseline, shape | {"out_norms": out_norms or None, "features_only": features_only or None})
        model = build_baseline(baseline, **(_baseline_settings(opened) | given))
    else:
        arch, settings = as_described(opened) if opened else (VARIANTS[parse_name(name).variant], {})
        if out_norms or features_only or "out_indices" not in settings:
            settings |= maps
        model = _build(custom(arch, **shape), settings | given | {"head_init_scale": head_init_scale})
    if weights is not None:
        model.load_report = load_weights(model, weights)  # type: ignore[assignment]
    elif opened:
        model.load_report = _load(model, opened, "auto", None, True)  # type: ignore[assignment]
    return model


def load_weights(model: nn.Module, source: Source, *, head: HeadRule = "auto", rows: Sequence[int] | None = None,
                 ema: bool | None = None, strict: bool = True) -> LoadReport:  # fmt: skip
    """Loads a checkpoint of any known naming and container into `model`, and says what became of every entry.

    `head`: "auto" loads it where the class counts agree and otherwise leaves the model's head as it was created; "drop"
    always leaves it; "rows" (implied by `rows`) keeps the given rows of a larger head, one for each class. `ema`: see
    `open_checkpoint`. A stem for other channels or another patch size is adapted. Raises UserError, with the model
    unchanged, when the source cannot be used or, unless `strict` is False, when any entry is left over.
    """
    opened = open_checkpoint(source, variant=getattr(model, "variant", None), ema=ema)
    report = _load(model, opened, "rows" if rows is not None else head, rows, strict)
    return replace(report, metadata=opened.metadata)


def save_weights(
    model: nn.Module, path: str | Path, *, naming: str = "official", metadata: Mapping[str, str] | None = None
) -> Path:
    """Writes the model's weights to a .safetensors or .pth file, whole or not at all, under another library's names.

    `metadata` (strings) joins what describes the network, from which `from_pretrained` builds it again; a .pth file
    carries it in the official and mm* namings only. Raises UserError when that library has no such network.
    """
    path = Path(path)
    weights = dict(model.state_dict())
    if isinstance(model, Backbone):
        weights = from_official(weights, naming, model.arch, model.dense)
    elif isinstance(model, Detector):
        weights = detector_weights(model, naming)
    elif isinstance(model, Segmenter):
        weights = segmenter_weights(model, naming)
    elif naming != "official":
        raise UserError(f"a baseline keeps its own library's names; leave out naming={naming!r}")
    kind = FORMAT if naming == "official" else "pt"  # transformers refuses a file whose "format" it does not know
    written = {"format": kind} | _metadata(model) | dict(metadata or {})
    write(weights, path, naming=naming, metadata=written)
    return path


def from_pretrained(source: str | Path) -> Any:
    """A model in evaluation mode from a checkpoint's path, a released name or a hub id, ready to predict.

    It carries `.classes` (names, also as another library's file or its folder's config.json gives them; where there
    are none ImageNet's for 1,000 classes, else None),
    `.preprocess` (the evaluation protocol as a dict), `.metadata`, `.release` (the record of released weights, else
    None) and `.load_report`; a detector's names are COCO's where it has 80 and says nothing, and it carries
    `.category_ids`; a segmenter's are ADE20K's where it has 150, and it carries `.mask_coding` (a dict of what masks
    hold). Raises UserError as `load_weights` does, and where anything in the model would be freshly made.
    """
    opened = open_checkpoint(source)
    model = cast(Any, _model_of(opened))
    model.load_report = require_whole(_load(model, opened, "auto", None, True))
    model.metadata, model.release = opened.metadata, opened.release
    said = opened.described
    if said.classes and len(said.classes) != model.num_classes:
        raise UserError(
            f"{opened.source} names {len(said.classes)} classes and its network has {model.num_classes}; "
            "save it again with a name for each"
        )
    own = said.classes or fitting_names(opened.foreign.classes, model.num_classes)
    model.classes = own or names_for(model.num_classes)
    if isinstance(model, Detector):
        model = cast(Any, model)
        model.category_ids = said.category_ids
        numbers, names = (list(column) for column in zip(*coco(), strict=True))
        if model.category_ids is None and model.num_classes == len(names) and own in (None, names):
            model.category_ids, model.classes = numbers, names
    if isinstance(model, Segmenter):
        model = cast(Any, model)
        model.mask_coding = said.mask_coding
        names = [name for name, _ in ade20k()]
        if model.mask_coding is None and model.num_classes == len(names) and own in (None, names):
            model.mask_coding, model.classes = masks.ade20k_coding().to_dict(), names
    model.preprocess = _stored_protocol(opened) or _protocol(model, opened.release).to_dict()
    if isinstance(model, Backbone) and (size := model.preprocess["size"]) < (stride := model.arch.strides[-1]):
        raise UserError(
            f"the network of {opened.source} is shown pictures of {size} pixels and sees nothing below {stride}; "
            "save it again with the size it was trained at"
        )
    return model.eval()


def model_for(source: Source, *, name: str | None = None, ema: bool | None = None) -> nn.Module:
    """A fresh network of the shape of a checkpoint: described in its metadata, or read from its names and shapes.

    Raises UserError when the checkpoint is not of the size that `name` says.
    """
    variant = None if name is None or is_baseline(name) else parse_name(name).variant
    model = _model_of(open_checkpoint(source, variant=variant, ema=ema))
    if variant is not None and model.variant != variant:
        raise UserError(f"{source} holds a {model.variant} network, not {variant}; leave the name out")
    return model


@dataclass(frozen=True)
class StartingPoint:
    """What a recipe has to know of weights to start from."""

    settings: dict[str, Any]  # model, depths, dims, patch_size and image_size, as far as they follow from the file
    pictures: (
        int | None
    )  # that they have learned from, 0 where those were drawn; None: it does not say, as released ones


def starting_point(source: Source, variant: str | None = None) -> StartingPoint:
    """Reads it from a checkpoint, once; own depths and dims are left out where they are the variant's.

    Raises UserError as `load_weights` does.
    """
    opened = open_checkpoint(source, variant=variant)
    size = opened.release.eval_size if opened.release else None
    size = (_stored_protocol(opened) or {}).get("size", size)
    found: dict[str, Any] = {} if size is None else {"image_size": size}
    return StartingPoint(found | _network_of(opened), _pictures_behind(opened))


def _network_of(opened: Checkpoint) -> dict[str, Any]:
    if is_baseline(name := opened.described.variant):
        return {"model": name}
    arch, _ = as_described(opened)
    stem = {"patch_size": arch.patch_size} | ({} if arch.stem == Arch.stem else {"stem": arch.stem})
    for name, row in VARIANTS.items():
        if (row.depths, row.dims) == (arch.depths, arch.dims):
            return {"model": name} | ({} if row.isotropic else stem)
    stand_in = "convnext_isotropic_small" if arch.isotropic else "convnext_atto"
    return {"model": stand_in, "depths": arch.depths, "dims": arch.dims} | stem


def _pictures_behind(opened: Checkpoint) -> int | None:
    try:
        pictures = json.loads(opened.metadata.get("data", "{}")).get("pictures")
        return None if pictures is None else int(pictures["count"])
    except (json.JSONDecodeError, AttributeError, TypeError, KeyError, ValueError):
        return None  # whoever reads the record for what it is says that it is damaged


def carried(source: Source, variant: str | None = None) -> dict[str, str]:
    """What a checkpoint says of itself beside its weights, for a copy of it: classes, protocol, task, licence."""
    opened = open_checkpoint(source, variant=variant)
    kept = {key: opened.metadata[key] for key in CARRIED if key in opened.metadata}
    if opened.foreign.classes is not None and "classes" not in kept:
        with torch.device("meta"):
            count = cast(Any, _model_of(opened)).num_classes
        if names := fitting_names(opened.foreign.classes, count):
            kept["classes"] = json.dumps(names)
    if opened.foreign.preprocess is not None:
        kept = {"preprocess": json.dumps(opened.foreign.preprocess)} | kept
    if opened.release is not None:
        protocol = json.dumps(_protocol(None, opened.release).to_dict())
        kept = {"preprocess": protocol, "licence": opened.release.licence, "which": opened.release.which} | kept
    return kept


def official_function(name: str) -> Callable[..., nn.Module]:
    """`convnext_tiny(pretrained=False, in_22k=False, **kwargs)` and the like, as the official repository has them."""

    def build(pretrained: bool = False, in_22k: bool = False, **kwargs: Any) -> nn.Module:
        if in_22k:
            kwargs.setdefault("num_classes", CLASSES_22K)
        tag = "in22k" if in_22k else "in1k"
        return create_model(name, weights=tag if pretrained else None, **kwargs)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = (
        f"`create_model({name!r}, **kwargs)`; `pretrained` loads the released weights (with `in_22k`: 21,841 classes)."
    )
    return build


def _build(arch: Arch, settings: dict[str, Any]) -> Backbone:
    kind = ConvNeXtIsotropic if arch.isotropic else ConvNeXt
    model = kind(arch, **settings)
    shape = (arch.depths, arch.dims, arch.isotropic)
    model.variant = next((n for n, row in VARIANTS.items() if (row.depths, row.dims, row.isotropic) == shape), "custom")  # type: ignore[assignment]
    return model


def _load(model: nn.Module, opened: Checkpoint, head: str, rows: Sequence[int] | None, strict: bool) -> LoadReport:
    if isinstance(model, Detector | Segmenter):
        if rows is not None:
            raise UserError(f"a {type(model).__name__.lower()}'s heads cannot be cut to rows; leave out rows")

        def load_backbone(backbone: nn.Module) -> LoadReport:
            return _load(backbone, opened, "auto", None, strict)

        if isinstance(model, Detector):
            return load_detector(model, opened, head, strict, load_backbone)
        return load_segmenter(model, opened, head, strict, load_backbone)
    if not isinstance(model, Backbone):
        if rows is not None:
            raise UserError(f"the head of {opened.source} cannot be cut to rows: only a ConvNeXt's can; leave out rows")
        weights, notes = _unprefixed(opened.weights), [*opened.notes]
        fate, fresh = fit_baseline_head(model, weights, notes)
        named = str(getattr(model, "variant", "its own"))
        report = LoadReport(opened.source, named, opened.entry, head=fate, notes=tuple(notes))
        return fill(model, weights, report, fresh=fresh, strict=strict)
    translated = to_official(opened.weights, opened.source)
    require_stem(model.arch, opened, translated.weights)
    weights, notes = dict(translated.weights), [*opened.notes, *translated.notes]
    if opened.release:
        notes.append(f"licence {opened.release.licence}, from {opened.release.url}")
    outside = translated.outside
    if model.dense and outside:
        notes.append(f"{len(outside)} entries beyond the backbone left out: {some(outside)}")
        outside = ()
    fate, fresh = fit_head(model, weights, head, rows, notes, opened.source)
    fresh |= fit_norms(model, weights, notes)
    fit_stem(model, weights, notes)
    report = LoadReport(opened.source, translated.naming.name, opened.entry, head=fate, notes=tuple(notes))
    return fill(model, weights, report, fresh=fresh, outside=outside, strict=strict)


def _protocol(model: nn.Module | None, release: AnyRelease | None) -> Preprocess | KeptShape:
    """How a model, or what a release holds, is shown pictures, where its file does not say."""
    if isinstance(model, Detector) or isinstance(release, DetectorRelease):
        return detection.protocol(detection.PAPER_SIDE)
    if isinstance(model, Segmenter) or isinstance(release, SegmenterRelease):
        return masks.protocol(release.eval_size if release else masks.PAPER_SIDE)
    return Preprocess.for_size(release.eval_size if release else DEFAULT_SIZE)


def _unprefixed(weights: Weights) -> Weights:
    """Without the prefix that data-parallel or compiled wrappers put before every name."""
    for prefix in ("module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _stored_protocol(opened: Checkpoint) -> dict[str, Any] | None:
    """How pictures are shown, as the checkpoint or the folder of another library says; None where neither does."""
    return opened.described.preprocess or opened.foreign.preprocess


def _model_of(opened: Checkpoint) -> nn.Module:
    """A fresh network to be filled whole. Raises UserError where the file has no head, or not the one it describes."""
    variant = opened.described.variant
    if is_baseline(variant):
        return build_baseline(variant, **_baseline_settings(opened))
    arch, settings = as_described(opened)
    held = by_shapes(opened)[1]["num_classes"]
    maps = settings.get("features_only") or settings.get("out_norms")
    if not maps and (said := settings.get("num_classes", held)) != held:
        holds = f"a head for {held}" if held else "no head"
        raise UserError(
            f"{opened.source} says that it knows {said} classes and holds {holds}, so it would answer at random; "
            f"train from it with --weights {opened.source}, which makes a head"
        )
    network = _build(arch, settings)
    whole = detector_of(opened.weights, network) or segmenter_of(opened.weights, network)
    if whole is None and opened.described.kind:
        raise UserError(
            f"{opened.source} says that it is a {opened.described.kind} and lacks what tells the classes, so it would "
            f"answer nothing; train from it with --weights {opened.source}, which makes heads"
        )
    return whole or network


def _baseline_settings(opened: Checkpoint | None) -> dict[str, Any]:
    return dict(opened.described.settings) if opened else {}


def _metadata(model: nn.Module) -> dict[str, str]:
    described = _shape(model.backbone if isinstance(model, Detector | Segmenter) else model)
    if isinstance(model, Detector):
        described["detector"] = model.kind
    if isinstance(model, Segmenter):
        described["segmenter"] = "upernet"
    own = {name: getattr(model, name, None) for name in DESCRIBED}
    return described | {name: json.dumps(value) for name, value in own.items() if value is not None}


def _shape(model: nn.Module) -> dict[str, str]:
    """What a network has to be built with to be this one."""
    values: dict[str, Any] = {
        "num_classes": getattr(model, "num_classes", None),
        "in_chans": getattr(model, "in_chans", None),
    }
    if isinstance(model, Backbone):
        values = asdict(model.arch) | values
        if model.dense:
            values |= {
                "out_norms": model.out_norms,
                "features_only": not model.out_norms,
                "out_indices": model.out_indices,
            }
    return {"variant": str(getattr(model, "variant", "custom")), "arch": json.dumps(values)}


def _refuse_for_baseline(name: str, options: dict[str, Any]) -> None:
    if given := [key for key, value in options.items() if value is not None]:
        raise UserError(f"{name} is a baseline with its own shape; leave out {', '.join(given)}")


def _is_file(name: str) -> bool:
    path = Path(name).expanduser()
    return name not in VARIANTS and (path.is_file() or any((path / inside).is_file() for inside in HUB_FILES))


def _tuple(values: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)
