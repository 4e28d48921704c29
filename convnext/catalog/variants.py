"""The family as rows: sizes, closed-form parameters and multiply-adds.

Standard library only, so that `convnext models` answers without importing torch. Sizes: paper section 3 ("We construct
different ConvNeXt variants"), Table 2 for the isotropic models; atto to nano are the widths and depths timm published
under those names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

from ..errors import UserError

KERNEL_SIZE = 7  # depthwise kernel of every block
MLP_RATIO = 4  # hidden width of a block over its width
CLASSES_1K = 1000
CLASSES_22K = 21841
WARP_FROM_SIZE = 384  # the official evaluation warps to a square from this size on, and crops below it
CROP_FRACTION = 0.875  # resize the short side to size / 0.875, then crop: 224 <- 256
WHOLE_BELOW_SIZE = 128  # small images are used whole: a centre crop would throw away what little there is
POOL_STEM_KERNEL = 7
STARTER = "starter"  # the name of the weights that ship with the package (convnext/assets/starter.safetensors)

Stem = Literal["patch", "pool"]


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
    stem: Stem = "patch"

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


def custom(
    arch: Arch,
    *,
    depths: tuple[int, ...] | None = None,
    dims: tuple[int, ...] | None = None,
    patch_size: int | None = None,
    layer_scale: float | None = None,
    stem: str | None = None,
) -> Arch:
    """`arch` with the given parts replaced; None keeps the row's own."""
    return replace(
        arch,
        depths=arch.depths if depths is None else tuple(depths),
        dims=arch.dims if dims is None else tuple(dims),
        patch_size=arch.patch_size if patch_size is None else patch_size,
        layer_scale=arch.layer_scale if layer_scale is None else layer_scale,
        stem=arch.stem if stem is None else cast(Stem, stem),  # Arch refuses any other
    )
