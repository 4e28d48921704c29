"""The start that ships: ConvNeXt-atto on pictures drawn by formula (convnext/formulas), for the data set `formulas`."""

from __future__ import annotations

from .everyday import MUON, SCRATCH_LAYER_SCALE
from .recipe import AdamW, Augment, Recipe, Schedule

RECIPES: dict[str, Recipe] = {
    "pretrain": Recipe(
        name="pretrain", model="convnext_atto", image_size=64, batch_size=256, epochs=4,
        optim=AdamW(lr=5.6e-3, betas=(0.9, 0.99), clip_grad=1.0, muon=MUON), schedule=Schedule(warmup_epochs=0.3),
        # Colours, sides and positions are among what is asked, so pictures are only cut and scaled.
        augment=Augment(scale=(0.35, 1.0), hflip=0.0, randaugment=0.0, erase=0.0, mixup=0.0, cutmix=0.0, smoothing=0.0),
        drop_path=0.0, init="fan_in", layer_scale=SCRATCH_LAYER_SCALE, eval_every=0.5, save_every=0.5,
    ),
}  # fmt: skip
