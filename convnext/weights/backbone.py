"""A row of `variants` becomes a network; weights of any naming go in, and out again in any naming."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, Unpack

import torch
from torch import nn

from ..catalog.releases import parse_name
from ..catalog.variants import CLASSES_1K, CLASSES_22K, VARIANTS, Arch, custom
from ..data.normalise import whole_number
from ..errors import UserError
from ..models.baselines import build_baseline, is_baseline
from ..models.convnext import Backbone, ConvNeXt, ConvNeXtIsotropic, NetworkSettings
from ..models.layers import init_fan_in
from ..recipes.recipe import Recipe, Settings
from .adapt import fit_baseline_head, fit_head, fit_norms, fit_stem, require_stem, some
from .checkpoint import HUB_FILES, Checkpoint, WeightsSource, open_checkpoint
from .info import ModelInfo, keep_info
from .keymaps import Weights, from_official, to_official
from .load_report import LoadReport, fill
from .shapes import as_described


class ArchParts(TypedDict):
    """Parts of an `Arch` that take the place of a size's own; None keeps these."""

    depths: tuple[int, ...] | None
    dims: tuple[int, ...] | None
    layer_scale: float | None
    patch_size: int | None
    stem: str | None


HeadRule = Literal["auto", "drop", "rows"]
M = TypeVar("M", bound=nn.Module)
DEFAULT_PATCH = 4  # the family's stem; asking for it keeps a row's own, so that isotropic models keep their 16


def list_models() -> list[str]:
    """Names of the family, small to large, then isotropic."""
    return list(VARIANTS)


def create_model(
    name: str,
    *,
    weights: WeightsSource | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_path_rate: float = 0.0,
    drop_rate: float = 0.0,
    layer_scale_init_value: float | None = None,
    head_init_scale: float = 1.0,
    patch_size: int = DEFAULT_PATCH,
    depths: Sequence[int] | None = None,
    dims: Sequence[int] | None = None,
    stem: str = Arch.stem,
    out_norms: bool = False,
    features_only: bool = False,
    out_indices: Iterable[int] = (0, 1, 2, 3),
) -> nn.Module:
    """A network by name, in training mode: (N, in_chans, H, W) -> (N, num_classes) logits, or maps (`Backbone`).

    `name` is a size in our, the official, timm's or the hub's spelling, which says the architecture only: `weights`
    says what to load (a released tag such as "in1k", a path, a hub id, a state dict). Or it is a checkpoint's path,
    whose weights are then loaded; or a baseline, "torchvision:resnet18" or "timm:resnet18". `num_classes` and
    `in_chans` are 1000 and 3, or the checkpoint's own. `layer_scale_init_value` None is the size's own start (1e-6;
    none for isotropic small and base, as for 0). `stem` is "patch" or "pool", `patch_size` its stride (`Arch`).
    `head_init_scale` means nothing to a baseline. What loading did is kept in `.info`. Raises UserError for an
    unknown name and for options or weights that do not fit.
    """
    opened = open_checkpoint(name) if _is_file(name) else None
    baseline = opened.described.variant if opened else name
    shape = _shape(depths, dims, layer_scale_init_value, patch_size, stem)
    given = _given(num_classes, in_chans, drop_path_rate, drop_rate)
    maps = NetworkSettings(out_norms=out_norms, features_only=features_only, out_indices=tuple(out_indices))
    model: nn.Module
    if is_baseline(baseline):
        _refuse_for_baseline(baseline, shape, maps)
        model = baseline_with(baseline, settings_in(opened) | given)
    else:
        arch, settings = as_described(opened) if opened else (VARIANTS[parse_name(name).variant], maps)
        own = "out_indices" in settings and not (out_norms or features_only)
        given |= {"head_init_scale": head_init_scale}
        model = build_backbone(custom(arch, **shape), settings | given if own else settings | given | maps)
    info = ModelInfo()
    if weights is not None:
        info.load_report = load_from(weights, model, load_backbone)
    elif opened:
        info.load_report = load_backbone(model, opened, "auto", None, True)
    keep_info(model, info)
    return model


class _Options(TypedDict, total=False):
    num_classes: int
    drop_rate: float
    head_init_scale: float
    out_norms: bool


def _shape(
    depths: Sequence[int] | None, dims: Sequence[int] | None, layer_scale: float | None, patch_size: int, stem: str
) -> ArchParts:
    """The parts of an `Arch` that `create_model` was asked for."""
    return ArchParts(
        depths=_tuple(depths),
        dims=_tuple(dims),
        layer_scale=layer_scale,
        patch_size=None if patch_size == DEFAULT_PATCH else patch_size,
        stem=None if stem == Arch.stem else stem,
    )


def _given(num_classes: int | None, in_chans: int | None, drop_path_rate: float, drop_rate: float) -> NetworkSettings:
    """What `create_model` was asked for; what it was not asked for is the checkpoint's, or the default."""
    given = NetworkSettings(drop_path_rate=drop_path_rate, drop_rate=drop_rate)
    if num_classes is not None:
        given["num_classes"] = num_classes
    if in_chans is not None:
        given["in_chans"] = in_chans
    return given


def network_of(recipe: Recipe, **options: Unpack[_Options]) -> nn.Module:
    """The seeded network of a recipe, without its weights; `options` are `create_model`'s beside the recipe."""
    torch.manual_seed(recipe.seed)
    model = create_model(
        recipe.model,
        drop_path_rate=recipe.drop_path,
        layer_scale_init_value=recipe.layer_scale,
        depths=recipe.depths,
        dims=recipe.dims,
        patch_size=recipe.patch_size,
        stem=recipe.stem,
        **options,
    )
    if recipe.init == "fan_in":
        init_fan_in(model)
    return model


Load = Callable[[M, Checkpoint, str, Sequence[int] | None, bool], LoadReport]  # as `load_backbone`


def open_for(model: nn.Module, source: WeightsSource, ema: bool | None = None) -> Checkpoint:
    """A checkpoint for a model, whose size a bare tag such as "in1k" is of; `ema` as `open_checkpoint` has it."""
    variant = getattr(model, "variant", None)
    return open_checkpoint(source, variant=None if variant == "custom" else variant, ema=ema)


def load_from(source: WeightsSource, model: M, load: Load[M]) -> LoadReport:
    """Opens a checkpoint and loads it into `model` by its kind's `load`, a head of as many classes included."""
    opened = open_for(model, source)
    return replace(load(model, opened, "auto", None, True), metadata=opened.metadata)


def backbone_weights(model: nn.Module, naming: str) -> Weights:
    """The weights of a network under a library's names. Raises UserError where that library has no such network."""
    if isinstance(model, Backbone):
        return from_official(dict(model.state_dict()), naming, model.arch, model.dense)
    if naming != "official":
        raise UserError(f"a baseline keeps its own library's names; leave out naming={naming!r}")
    return dict(model.state_dict())


@dataclass(frozen=True)
class StartingPoint:
    """What a recipe has to know of weights to start from."""

    settings: Settings  # model, depths, dims, patch_size and image_size, as far as they follow from the file
    pictures: (
        int | None
    )  # that they have learned from, 0 where those were drawn; None: it does not say, as released ones


def starting_point(source: WeightsSource, variant: str | None = None) -> StartingPoint:
    """Reads it from a checkpoint, once; own depths and dims are left out where they are the variant's.

    Raises UserError as `load_weights` does.
    """
    opened = open_checkpoint(source, variant=variant)
    size = opened.release.eval_size if opened.release else None
    if protocol := stored_protocol(opened):
        size = whole_number(protocol["size"])
    found: Settings = {} if size is None else {"image_size": size}
    return StartingPoint(found | _network_of(opened), _pictures_behind(opened))


def _network_of(opened: Checkpoint) -> Settings:
    if is_baseline(name := opened.described.variant):
        return {"model": name}
    arch, _ = as_described(opened)
    stem: Settings = {"patch_size": arch.patch_size} | ({} if arch.stem == Arch.stem else {"stem": arch.stem})
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


def build_backbone(arch: Arch, settings: NetworkSettings) -> Backbone:
    kind = ConvNeXtIsotropic if arch.isotropic else ConvNeXt
    model = kind(arch, **settings)
    shape = (arch.depths, arch.dims, arch.isotropic)
    model.variant = next((n for n, row in VARIANTS.items() if (row.depths, row.dims, row.isotropic) == shape), "custom")
    return model


def load_backbone(
    model: nn.Module, opened: Checkpoint, head: str, rows: Sequence[int] | None, strict: bool
) -> LoadReport:
    """Loads a checkpoint into a network of ours or a baseline: its weights, adapted where they need not agree."""
    if beside := [name for name in opened.described.beside if name in opened.weights]:
        rest = {name: value for name, value in opened.weights.items() if name not in beside}
        note = f"{some(beside)} left out: for the task that the file was made for"
        opened = replace(opened, weights=rest, notes=(*opened.notes, note))
        head = "drop" if head == "auto" else head  # it answers what another task asks
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


def _unprefixed(weights: Weights) -> Weights:
    """Without the prefix that data-parallel or compiled wrappers put before every name."""
    for prefix in ("module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def stored_protocol(opened: Checkpoint) -> dict[str, object] | None:
    """How pictures are shown, as the checkpoint or the folder of another library says; None where neither does."""
    return opened.described.preprocess or opened.foreign.preprocess


def baseline_with(name: str, settings: NetworkSettings) -> nn.Module:
    """The fresh network of a library."""
    return build_baseline(
        name,
        num_classes=settings.get("num_classes", CLASSES_1K),
        in_chans=settings.get("in_chans", 3),
        drop_path_rate=settings.get("drop_path_rate", 0.0),
        drop_rate=settings.get("drop_rate", 0.0),
    )


def settings_in(opened: Checkpoint | None) -> NetworkSettings:
    """What a checkpoint says that its network was built with."""
    return opened.described.settings if opened else NetworkSettings()


def shape_of(model: nn.Module) -> dict[str, str]:
    """What a network has to be built with to be this one."""
    values: dict[str, object] = {
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


def _refuse_for_baseline(name: str, shape: ArchParts, maps: NetworkSettings) -> None:
    asked = {"out_norms": maps["out_norms"] or None, "features_only": maps["features_only"] or None}
    if given := [key for key, value in (*shape.items(), *asked.items()) if value is not None]:
        raise UserError(f"{name} is a baseline with its own shape; leave out {', '.join(given)}")


def _is_file(name: str) -> bool:
    path = Path(name).expanduser()
    return name not in VARIANTS and (path.is_file() or any((path / inside).is_file() for inside in HUB_FILES))


def _tuple(values: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)
