"""Segmentation on ADE20K: UPerNet, 160,000 steps of batch 16 (paper A.3; official segmentation configs).

Cost: the released models took eight GPUs. Expected: mIoU as in `variants.SEGMENTERS`. On other data:
`convnext train DATA --recipe ade20k/upernet/tiny --weights in1k_noema --epochs 60`.
"""

from __future__ import annotations

from dataclasses import replace

from .recipe import AdamW, Recipe, Schedule

BASE = Recipe(
    task="segment", steps=160_000, epochs=126.7, batch_size=16, micro_batch=2, image_size=512, layer_scale=1.0,
    # layer scale starts at 1 (official configs); weights that are loaded bring their own
    schedule=Schedule(kind="poly", warmup_steps=1500, min_lr=0), weights="in1k_noema",
    eval_every=12.67, save_every=12.67,  # 16,000 steps of ADE20K
    optim=AdamW(lr=1e-4, weight_decay=0.05, layer_decay=0.9, layer_rule="stage"),
)  # fmt: skip

# size and pre-training -> learning rate, drop path (official code: semantic_segmentation/configs/convnext/)
SIZES = {
    "tiny": (1e-4, 0.4), "small": (1e-4, 0.3), "base": (1e-4, 0.4),
    "base_22k": (1e-4, 0.4), "large_22k": (1e-4, 0.4), "xlarge_22k": (8e-5, 0.4),
}  # fmt: skip
FP32 = ("large_22k", "xlarge_22k")  # the others were trained in mixed precision


def _upernet(name: str) -> Recipe:
    lr, drop_path = SIZES[name]
    large = name.endswith("_22k")
    return replace(
        BASE,
        name=f"ade20k/upernet/{name}",
        model=f"convnext_{name.removesuffix('_22k')}",
        weights="in22k" if large else "in1k_noema",
        image_size=640 if large else 512,
        optim=replace(BASE.optim, lr=lr),
        drop_path=drop_path,
        precision="fp32" if name in FP32 else "auto",
    )


RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in map(_upernet, SIZES)}
