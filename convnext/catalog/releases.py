"""Records of released weights (official README), and the names that a user may type for a size or its weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from ..errors import UserError
from .variants import CLASSES_1K, CLASSES_22K, VARIANTS


@dataclass(frozen=True)
class Release:
    """One released file, the protocol its published accuracy was measured with, and its licence."""

    variant: str
    tag: str
    url: str
    num_classes: int
    eval_size: int
    top1: float | None  # published ImageNet-1K accuracy in percent; None for 22K heads and files without one
    which: str  # "ema" | "raw"
    licence: str = "MIT"
    sha256: str | None = None  # none is published for these files; safetensors written by us carry theirs

    @property
    def filename(self) -> str:
        return self.url.rsplit("/", 1)[-1]


OFFICIAL_URL = "https://dl.fbaipublicfiles.com/convnext/"


def _release(variant: str, tag: str, filename: str, top1: float | None, size: int = 224) -> Release:
    classes = CLASSES_22K if tag == "in22k" else CLASSES_1K
    which = "ema" if filename.endswith("_ema.pth") else "raw"
    return Release(variant, tag, OFFICIAL_URL + filename, classes, size, top1, which)


def _hierarchical(size: str, top1: dict[str, float], *, xlarge: bool = False) -> list[Release]:
    name, ema = f"convnext_{size}", "_ema" if xlarge else ""
    rows = [_release(name, "in22k", f"{name}_22k_224.pth", None)]
    if not xlarge:
        rows.append(_release(name, "in1k", f"{name}_1k_224_ema.pth", top1["in1k"]))
    if size in ("tiny", "small", "base"):
        rows.append(_release(name, "in1k_noema", f"{name}_1k_224.pth", None))
    if "in1k_384" in top1:
        rows.append(_release(name, "in1k_384", f"{name}_1k_384.pth", top1["in1k_384"], 384))
    rows.append(_release(name, "in22k_ft_in1k", f"{name}_22k_1k_224{ema}.pth", top1["in22k_ft_in1k"]))
    rows.append(_release(name, "in22k_ft_in1k_384", f"{name}_22k_1k_384{ema}.pth", top1["in22k_ft_in1k_384"], 384))
    return rows


RELEASES: tuple[Release, ...] = (
    *_hierarchical("tiny", {"in1k": 82.1, "in22k_ft_in1k": 82.9, "in22k_ft_in1k_384": 84.1}),
    *_hierarchical("small", {"in1k": 83.1, "in22k_ft_in1k": 84.6, "in22k_ft_in1k_384": 85.8}),
    *_hierarchical("base", {"in1k": 83.8, "in1k_384": 85.1, "in22k_ft_in1k": 85.8, "in22k_ft_in1k_384": 86.8}),
    *_hierarchical("large", {"in1k": 84.3, "in1k_384": 85.5, "in22k_ft_in1k": 86.6, "in22k_ft_in1k_384": 87.5}),
    *_hierarchical("xlarge", {"in22k_ft_in1k": 87.0, "in22k_ft_in1k_384": 87.8}, xlarge=True),
    # The README prints 78.7 for isotropic small; the paper's Table 2 says 79.7, and its text agrees.
    _release("convnext_isotropic_small", "in1k", "convnext_iso_small_1k_224_ema.pth", 79.7),
    _release("convnext_isotropic_base", "in1k", "convnext_iso_base_1k_224_ema.pth", 82.0),
    _release("convnext_isotropic_large", "in1k", "convnext_iso_large_1k_224_ema.pth", 82.6),
)


@dataclass(frozen=True)
class DenseRelease:
    """A released detector or segmenter."""

    name: str  # that of the recipe it was trained with
    variant: str
    url: str
    eval_size: int
    licence: str = "MIT"
    sha256: str | None = None
    which: str = "raw"
    tag: str = "dense"

    @property
    def filename(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        """What the release is called where a name is asked for."""
        return self.filename.removesuffix(".pth")


@dataclass(frozen=True)
class DetectorRelease(DenseRelease):
    """One released detector, with the COCO val2017 figures published for it (official detection README)."""

    box_ap: float = 0.0
    mask_ap: float = 0.0


@dataclass(frozen=True)
class SegmenterRelease(DenseRelease):
    """One released segmenter, with the ADE20K figures published for it (official segmentation README)."""

    miou: float = 0.0  # sliding window, one scale
    miou_ms: float = 0.0  # six scales and their mirror images


def _detector(kind: str, size: str, box_ap: float, mask_ap: float, pretrained: str = "1k") -> DetectorRelease:
    name = f"coco/{kind}/{size}" + ("_22k" if pretrained == "22k" else "")
    url = f"{OFFICIAL_URL}coco/{kind}_convnext_{size}_{pretrained}_3x.pth"
    return DetectorRelease(name, f"convnext_{size}", url, 800, tag="coco", box_ap=box_ap, mask_ap=mask_ap)


DETECTORS: tuple[DetectorRelease, ...] = (
    _detector("mask_rcnn", "tiny", 46.2, 41.7),
    _detector("cascade_mask_rcnn", "tiny", 50.4, 43.7),
    _detector("cascade_mask_rcnn", "small", 51.9, 45.0),
    _detector("cascade_mask_rcnn", "base", 52.7, 45.6),
    _detector("cascade_mask_rcnn", "base", 54.0, 46.9, "22k"),
    _detector("cascade_mask_rcnn", "large", 54.8, 47.6, "22k"),
    _detector("cascade_mask_rcnn", "xlarge", 55.2, 47.7, "22k"),
)


def _segmenter(size: str, miou: float, miou_ms: float, pretrained: str = "1k") -> SegmenterRelease:
    side = 640 if pretrained == "22k" else 512
    name = f"ade20k/upernet/{size}" + ("_22k" if pretrained == "22k" else "")
    url = f"{OFFICIAL_URL}ade20k/upernet_convnext_{size}_{pretrained}_{side}x{side}.pth"
    return SegmenterRelease(name, f"convnext_{size}", url, side, tag="ade20k", miou=miou, miou_ms=miou_ms)


SEGMENTERS: tuple[SegmenterRelease, ...] = (
    _segmenter("tiny", 46.0, 46.7),
    _segmenter("small", 48.7, 49.6),
    _segmenter("base", 49.1, 49.9),
    _segmenter("base", 52.6, 53.1, "22k"),
    _segmenter("large", 53.2, 53.7, "22k"),
    _segmenter("xlarge", 53.6, 54.0, "22k"),
)


AnyRelease = Release | DenseRelease


def find_dense(text: str) -> DenseRelease | None:
    """The released detector or segmenter that `text` names, by its recipe or its file; None when it names none."""
    rows = {key: row for row in (*DETECTORS, *SEGMENTERS) for key in (row.name, row.filename, row.stem)}
    return rows.get(text)


@dataclass(frozen=True)
class ModelName:
    """What a user's model string means: a size of ours, and the released weights the spelling implies, if any."""

    variant: str
    tag: str | None = None


# Hub suffixes: "facebook/convnext-tiny-224-22k-1k" and the like. XL has no 1K-only weights.
_HUB_TAGS = {"224": "in1k", "384": "in1k_384", "224-22k": "in22k", "224-22k-1k": "in22k_ft_in1k",
             "384-22k-1k": "in22k_ft_in1k_384"}  # fmt: skip


_OLD_TIMM_TAGS = {"in22k": "in22k", "in22ft1k": "in22k_ft_in1k"}


def find_release(variant: str, tag: str) -> Release:
    """The record of `variant` with `tag`; UserError names the tags that exist."""
    rows = {row.tag: row for row in RELEASES if row.variant == variant}
    if tag not in rows:
        known = ", ".join(rows) or "none (train it, or pass a checkpoint or a hub id)"
        raise UserError(f"no released weights {tag!r} for {variant}; released: {known}")
    return rows[tag]


def parse_name(name: str) -> ModelName:
    """Read a model name in our, the official, timm's or the hub's spelling.

    Raises UserError, naming the nearest size, when it is none of them.
    """
    text = name.removesuffix(".pth")
    for row in RELEASES:
        if text == row.filename.removesuffix(".pth"):
            return ModelName(row.variant, row.tag)
    text = text.removeprefix("timm/")
    if hub := re.fullmatch(r"facebook/convnext-(\w+?)-(\d{3}(?:-22k)?(?:-1k)?)", text):
        return _known(name, f"convnext_{hub[1]}", _HUB_TAGS.get(hub[2]))
    if old := re.fullmatch(r"(convnext_\w+?)(_384)?_(in22k|in22ft1k)", text):
        return _known(name, old[1], _OLD_TIMM_TAGS[old[3]] + (old[2] or ""))
    base, dot, tag = text.partition(".")
    base = base.replace("-", "_").replace("convnext_iso_", "convnext_isotropic_")
    if not base.startswith("convnext"):
        base = f"convnext_{base}"
    return _known(name, base, tag.removeprefix("fb_") if dot else None)


def _known(name: str, variant: str, tag: str | None) -> ModelName:
    if family := next((word for word in ("dinov3", "eupe") if word in name.lower()), None):
        raise UserError(f"{name!r} names weights of {family}, another family; this package builds ConvNeXt (V1)")
    if variant not in VARIANTS:
        if "convnextv2" in name or "convnext_v2" in name:
            raise UserError(f"{name!r} is ConvNeXt-V2, another architecture; this package builds ConvNeXt (V1)")
        near = get_close_matches(variant, VARIANTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(VARIANTS)}"
        raise UserError(f"unknown model {name!r}; {hint}")
    return ModelName(variant, tag)
