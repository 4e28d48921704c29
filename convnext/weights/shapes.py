"""Which network a checkpoint holds: as it describes itself, held against the names and shapes of its weights."""

from __future__ import annotations

from ..catalog.variants import POOL_STEM_KERNEL, Arch
from ..errors import UserError
from ..models.convnext import NetworkSettings
from .checkpoint import Checkpoint
from .foreign import refuse_named_by_shape
from .keymaps import STEMS, TIMM, arch_of, to_official


def as_described(opened: Checkpoint) -> tuple[Arch, NetworkSettings]:
    """Arch and settings of a checkpoint's network: as its metadata says, held against the shapes, or from these."""
    found, settings = by_shapes(opened)
    said = opened.described
    if said.arch is None:
        if found.patch_size == POOL_STEM_KERNEL and not found.isotropic:
            raise UserError(
                f"{opened.source} has a stem of {found.patch_size} x {found.patch_size} and does not say whether it "
                "pools; take the model.safetensors that the run has published"
            )
        return found, settings
    rows = [(getattr(said.arch, key), getattr(found, key)) for key in ("depths", "dims", "stem_kernel", "isotropic")]
    rows.append((said.settings.get("in_chans", settings["in_chans"]), settings["in_chans"]))
    if wrong := next(((says, holds) for says, holds in rows if says != holds), None):
        raise UserError(
            f"{opened.source} does not fit its own description ({wrong[0]} there, {wrong[1]} by its weights); "
            "save it again with save_weights"
        )
    return said.arch, said.settings.copy()


def by_shapes(opened: Checkpoint) -> tuple[Arch, NetworkSettings]:
    """The same without a description; 0 classes where there is no head. Raises UserError for no network of ours."""
    translated = to_official(opened.weights, opened.source)
    weights = translated.weights
    arch = arch_of(weights, opened.source)
    if translated.naming is TIMM and opened.described.arch is None and not opened.foreign.described:
        refuse_named_by_shape(arch, opened.source)
    head, stem = weights.get("head.weight"), next(weights[name] for name in STEMS if name in weights)
    norms = [s for s in range(len(arch.dims)) if f"norm{s}.weight" in weights]
    settings: NetworkSettings = {"num_classes": 0 if head is None else len(head), "in_chans": int(stem.shape[1])}
    if norms or "norm.weight" not in weights:
        settings |= NetworkSettings(
            out_norms=bool(norms),
            features_only=True,
            out_indices=tuple(norms or opened.foreign.out_indices or range(len(arch.dims))),
        )
    return arch, settings
