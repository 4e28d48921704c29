"""Released weights that lie anywhere: recognised by their file's name, believed by their shapes; names nearby."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from ..catalog.class_lists import ade20k, coco
from ..catalog.releases import DETECTORS, RELEASES, SEGMENTERS, AnyRelease, Release
from ..catalog.variants import VARIANTS
from ..errors import UserError
from .keymaps import Weights, arch_of, to_official

ALIKE = 0.8  # of 1: how much a mistyped name has in common with the one that was meant
FOLDERS = ("coco/", "ade20k/")  # what names of released detectors and segmenters begin with, where they hold a slash


def named_as(path: Path) -> AnyRelease | None:
    """The release whose file is called so, whatever the suffix; None when there is none."""
    rows: tuple[AnyRelease, ...] = (*RELEASES, *DETECTORS, *SEGMENTERS)
    return next((row for row in rows if Path(row.filename).stem == path.stem), None)


def holds(weights: Weights, release: AnyRelease) -> bool:
    """Whether weights are of the release's size and have its head: a name alone proves nothing."""
    try:
        official = to_official(weights, release.filename).weights
        found, row = arch_of(official, release.filename), VARIANTS[release.variant]
    except UserError:
        return False
    if (found.depths, found.dims, found.patch_size) != (row.depths, row.dims, row.patch_size):
        return False
    if isinstance(release, Release):
        head = official.get("head.bias")
        return head is not None and len(head) == release.num_classes
    ending, rows = _head(release.name)
    return any(name.endswith(ending) and len(value) == rows for name, value in weights.items())


def nearest(text: str) -> list[str]:
    """Released detectors and segmenters whose names are like a mistyped one, the likeliest first."""
    if "/" in text and not text.startswith(FOLDERS):
        return []
    names = [name for row in (*DETECTORS, *SEGMENTERS) for name in (row.stem, row.name)]
    return get_close_matches(text.removesuffix(".pth"), names, n=3, cutoff=ALIKE)


def _head(recipe: str) -> tuple[str, int]:
    """How the classifier's bias of a released detector or segmenter is called, and its length."""
    if recipe.startswith("ade20k/"):
        return "decode_head.conv_seg.bias", len(ade20k())
    stage = ".0" if "cascade" in recipe else ""
    return f"roi_head.bbox_head{stage}.fc_cls.bias", len(coco()) + 1  # the last row is the background's
