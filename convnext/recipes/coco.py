"""Detection on COCO: Mask R-CNN and Cascade Mask R-CNN, 36 epochs of batch 16 (paper A.3; official detection configs).

Cost: the released models took eight GPUs. Expected: box / mask AP as in `variants.DETECTORS`. On other data:
`convnext train DATA --recipe coco/mask_rcnn/tiny --weights in1k_noema --epochs 12`.
"""

from __future__ import annotations

from dataclasses import replace

from .recipe import AdamW, Detection, Recipe, Schedule

BASE = Recipe(
    task="detect", epochs=36, batch_size=16, micro_batch=2, image_size=800, drop_path=0.4, layer_scale=1.0,
    # layer scale starts at 1 (official configs); weights that are loaded bring their own
    schedule=Schedule(kind="steps"), detection=Detection("mask_rcnn"), weights="in1k_noema",
    optim=AdamW(lr=2e-4, weight_decay=0.05, layer_decay=0.7, layer_rule="layer"),
)  # fmt: skip

# size and pre-training -> learning rate, layer decay, drop path (official code: object_detection/configs/convnext/)
CASCADE = {
    "tiny": (2e-4, 0.7, 0.4), "small": (2e-4, 0.7, 0.6), "base": (2e-4, 0.8, 0.7),
    "base_22k": (1e-4, 0.8, 0.6), "large_22k": (1e-4, 0.7, 0.7), "xlarge_22k": (1e-4, 0.7, 0.8),
}  # fmt: skip
FP32 = ("large_22k", "xlarge_22k")  # the others were trained in mixed precision


def _cascade(name: str) -> Recipe:
    lr, decay, drop_path = CASCADE[name]
    return replace(
        BASE,
        name=f"coco/cascade_mask_rcnn/{name}",
        model=f"convnext_{name.removesuffix('_22k')}",
        weights="in22k" if name.endswith("_22k") else "in1k_noema",
        optim=replace(BASE.optim, lr=lr, layer_decay=decay),
        drop_path=drop_path,
        detection=Detection("cascade_mask_rcnn"),
        precision="fp32" if name in FP32 else "auto",
    )


MASK_RCNN = replace(
    BASE, name="coco/mask_rcnn/tiny", model="convnext_tiny", optim=replace(BASE.optim, lr=1e-4, layer_decay=0.95)
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (MASK_RCNN, *map(_cascade, CASCADE))}
