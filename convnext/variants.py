"""The family as rows: sizes, closed-form parameters and multiply-adds, released weights, and the names a user may type.

Standard library only, so that `convnext models` answers without importing torch. Sizes: paper section 3 ("We construct
different ConvNeXt variants"), Table 2 for the isotropic models; atto to nano are the widths and depths timm published
under those names. Released files: official README.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

from .errors import UserError

KERNEL_SIZE = 7  # depthwise kernel of every block
MLP_RATIO = 4  # hidden width of a block over its width
CLASSES_1K = 1000
CLASSES_22K = 21841
WARP_FROM_SIZE = 384  # the official evaluation warps to a square from this size on, and crops below it
CROP_FRACTION = 0.875  # resize the short side to size / 0.875, then crop: 224 <- 256
WHOLE_BELOW_SIZE = 128  # small images are used whole: a centre crop would throw away what little there is


POOL_STEM_KERNEL = 7
STARTER = "starter"  # the name of the weights that ship with the package (convnext/assets/starter.safetensors)


@dataclass(frozen=True)
class Arch:
    """One network of the family; `isotropic` has a single stage behind a 16 x 16 stem without norm.

    `patch_size` is the stem's stride. Its form is the paper's patches, or "pool": ResNet's 7 x 7 convolution of half
    that stride and max-pooling of 3, with LayerNorm and GELU between (ours, for few pictures: docs/LOG.md).
    """

    depths: tuple[int, ...]
    dims: tuple[int, ...]
    patch_size: int = 4
    isotropic: bool = False
    layer_scale: float = 1e-6
    stem: Literal["patch", "pool"] = "patch"

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.dims) or len(self.depths) != (1 if self.isotropic else 4):
            raise UserError(
                f"depths {self.depths} and dims {self.dims} need "
                f"{'one entry' if self.isotropic else 'four entries'} each"
            )
        if min((*self.depths, *self.dims, self.patch_size)) < 1:
            raise UserError(f"depths {self.depths}, dims {self.dims} and patch_size {self.patch_size} must be positive")
        if self.stem not in ("patch", "pool"):
            raise UserError(f"stem {self.stem!r} must be patch or pool")
        if self.stem == "pool" and self.isotropic:
            raise UserError("an isotropic network has no stem that pools; leave out stem")
        if self.stem == "pool" and self.patch_size % 2:
            raise UserError(f"a stem that pools halves twice: patch_size {self.patch_size} must be even, as 2 or 4")

    @property
    def stem_kernel(self) -> int:
        """Side of the stem's convolution."""
        return POOL_STEM_KERNEL if self.stem == "pool" else self.patch_size

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels per map pixel, for each stage."""
        return tuple(self.patch_size * 2**i for i in range(len(self.depths)))

    def parameters(self, num_classes: int = CLASSES_1K, in_chans: int = 3) -> int:
        """Number of trainable values, biases, norms and layer scale included."""
        scale = 1 if self.layer_scale > 0 else 0
        block = sum(
            depth * (2 * MLP_RATIO * c * c + (KERNEL_SIZE**2 + 1 + 2 + MLP_RATIO + 1 + scale) * c)
            for depth, c in zip(self.depths, self.dims, strict=True)
        )
        stem = (self.stem_kernel**2 * in_chans + 1) * self.dims[0] + (0 if self.isotropic else 2 * self.dims[0])
        downs = sum(2 * a + (4 * a + 1) * b for a, b in zip(self.dims, self.dims[1:], strict=False))
        return stem + downs + block + 2 * self.dims[-1] + (self.dims[-1] + 1) * num_classes

    def multiply_adds(self, image_size: int, num_classes: int = CLASSES_1K, in_chans: int = 3) -> int:
        """Multiply-adds of convolutions and linear layers for one square image (the paper's convention)."""
        side = first = image_size // self.patch_size
        if self.stem == "pool":  # padded: a rest of the picture counts
            first = -(-image_size // (self.patch_size // 2))
            side = -(-first // 2)
        total = self.stem_kernel**2 * in_chans * self.dims[0] * first**2
        for i, (depth, c) in enumerate(zip(self.depths, self.dims, strict=True)):
            if i:
                side //= 2
                total += 4 * self.dims[i - 1] * c * side**2
            total += depth * (KERNEL_SIZE**2 * c + 2 * MLP_RATIO * c * c) * side**2
        return total + self.dims[-1] * num_classes


def _isotropic(depth: int, dim: int, layer_scale: float) -> Arch:
    return Arch((depth,), (dim,), patch_size=16, isotropic=True, layer_scale=layer_scale)


VARIANTS: dict[str, Arch] = {
    "convnext_atto": Arch((2, 2, 6, 2), (40, 80, 160, 320)),
    "convnext_femto": Arch((2, 2, 6, 2), (48, 96, 192, 384)),
    "convnext_pico": Arch((2, 2, 6, 2), (64, 128, 256, 512)),
    "convnext_nano": Arch((2, 2, 8, 2), (80, 160, 320, 640)),
    "convnext_tiny": Arch((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": Arch((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": Arch((3, 3, 27, 3), (128, 256, 512, 1024)),
    "convnext_large": Arch((3, 3, 27, 3), (192, 384, 768, 1536)),
    "convnext_xlarge": Arch((3, 3, 27, 3), (256, 512, 1024, 2048)),
    # TRAINING.md passes layer scale 0 (no parameter) for small and base; large keeps main.py's default.
    "convnext_isotropic_small": _isotropic(18, 384, 0.0),
    "convnext_isotropic_base": _isotropic(18, 768, 0.0),
    "convnext_isotropic_large": _isotropic(36, 1024, 1e-6),
}


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


def custom(arch: Arch, *, depths: tuple[int, ...] | None = None, dims: tuple[int, ...] | None = None,
           patch_size: int | None = None, layer_scale: float | None = None,
           stem: str | None = None) -> Arch:  # fmt: skip
    """`arch` with the given parts replaced; None keeps the row's own."""
    given = {"depths": depths, "dims": dims, "patch_size": patch_size, "layer_scale": layer_scale, "stem": stem}
    return replace(arch, **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
