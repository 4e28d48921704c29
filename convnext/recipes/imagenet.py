"""The paper's ImageNet recipes: Table 5 (training from scratch), Table 6 (fine-tuning), section 3.3 (isotropic).

    torchrun --nproc-per-node 8 -m convnext train IMAGENET --recipe imagenet1k/tiny

where IMAGENET holds train/ and val/ with a folder a class; `--set micro_batch=128` when the total batch does not fit at
once. Learning rates belong to the total batch stated here. Published ImageNet-1K top-1 in percent, of the averaged
weights where the recipe keeps an average:

    recipe                       tiny   small  base   large  xlarge
    imagenet1k                   82.1   83.1   83.8   84.3          300 epochs at 224
    imagenet1k_ft384                           85.1   85.5          30 epochs at 384, from imagenet1k
    imagenet22k_ft1k             82.9   84.6   85.8   86.6   87.0   30 epochs at 224, from imagenet22k
    imagenet22k_ft1k_384         84.1   85.8   86.8   87.5   87.8   30 epochs at 384, from imagenet22k
    isotropic                           79.7   82.0   82.6          300 epochs at 224

imagenet22k has no published accuracy. No command was published for fine-tuning tiny and small from 22K; their rows
follow Table 6.
"""

from __future__ import annotations

from dataclasses import replace

from ..catalog.variants import CLASSES_22K
from .recipe import AdamW, Augment, Recipe, Schedule

# Table 5, ImageNet-1K. What the table leaves out (min_lr, eps, crop and flip) are the official code's values, which are
# the defaults of Recipe's parts.
_FROM_SCRATCH = Recipe(
    image_size=224,
    batch_size=4096,
    epochs=300,
    optim=AdamW(lr=4e-3, weight_decay=0.05),
    schedule=Schedule(warmup_epochs=20),
    augment=Augment(randaugment=9, randaugment_std=0.5, erase=0.25, mixup=0.8, cutmix=1.0, smoothing=0.1),
    ema=0.9999,
)
_22K = replace(  # Table 5, ImageNet-22K; there is no standard validation split, so only the last step is evaluated
    _FROM_SCRATCH, num_classes=CLASSES_22K, epochs=90, schedule=Schedule(warmup_epochs=5), ema=None, eval_every=90
)
_22K_TO_1K = replace(  # Table 6
    _FROM_SCRATCH,
    weights="in22k",
    batch_size=512,
    epochs=30,
    optim=AdamW(lr=5e-5, weight_decay=1e-8, layer_decay=0.8),
    schedule=Schedule(warmup_epochs=0),
    augment=replace(_FROM_SCRATCH.augment, mixup=0.0, cutmix=0.0),
    head_init_scale=0.001,
    ema=None,
)
# Table 6. The classes stay, so the trained head is loaded and head_init_scale has no effect, as in the official code.
_1K_TO_384 = replace(_22K_TO_1K, image_size=384, optim=replace(_22K_TO_1K.optim, layer_decay=0.7))
_ISOTROPIC = replace(_FROM_SCRATCH, schedule=Schedule(warmup_epochs=50))  # appendix A.1

# Stochastic depth of each size: Tables 5 and 6.
_DROP_PATH_1K = {"tiny": 0.1, "small": 0.4, "base": 0.5, "large": 0.5}
_DROP_PATH_22K = {"tiny": 0.0, "small": 0.0, "base": 0.1, "large": 0.1, "xlarge": 0.2}
_DROP_PATH_22K_TO_1K = {"tiny": 0.0, "small": 0.1, "base": 0.2, "large": 0.3, "xlarge": 0.4}
_DROP_PATH_1K_TO_384 = {"base": 0.8, "large": 0.95}
_DROP_PATH_ISOTROPIC = {"small": 0.1, "base": 0.2, "large": 0.5}

_START_1K_TO_384 = {"base": "in1k_noema", "large": "in1k"}  # large alone starts from its averaged weights
_EMA_22K_TO_1K = {"xlarge": 0.9999}  # xlarge alone keeps an average


def _sizes(group: str, shared: Recipe, drop_path: dict[str, float], prefix: str = "convnext") -> dict[str, Recipe]:
    return {
        f"{group}/{size}": replace(shared, name=f"{group}/{size}", model=f"{prefix}_{size}", drop_path=rate)
        for size, rate in drop_path.items()
    }


def _fine_tuning_22k(group: str, image_size: int) -> dict[str, Recipe]:
    rows = _sizes(group, replace(_22K_TO_1K, image_size=image_size), _DROP_PATH_22K_TO_1K)
    return {name: replace(row, ema=_EMA_22K_TO_1K.get(name.split("/")[1])) for name, row in rows.items()}


def _fine_tuning_384(group: str) -> dict[str, Recipe]:
    rows = _sizes(group, _1K_TO_384, _DROP_PATH_1K_TO_384)
    return {name: replace(row, weights=_START_1K_TO_384[name.split("/")[1]]) for name, row in rows.items()}


RECIPES: dict[str, Recipe] = {
    **_sizes("imagenet1k", _FROM_SCRATCH, _DROP_PATH_1K),
    **_sizes("imagenet22k", _22K, _DROP_PATH_22K),
    **_fine_tuning_22k("imagenet22k_ft1k", 224),
    **_fine_tuning_22k("imagenet22k_ft1k_384", 384),
    **_fine_tuning_384("imagenet1k_ft384"),
    **_sizes("isotropic", _ISOTROPIC, _DROP_PATH_ISOTROPIC, prefix="convnext_isotropic"),
}
