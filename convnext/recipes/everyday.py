"""The everyday recipes: classify, scratch, finetune, probe; what they derive from the data set, and why.

`convnext train DATA` uses `classify`, or `finetune` when `--weights` is given. `classify` is `scratch` from the weights
that ship with the package, where these help. A template here states what does not depend on the data; `derive` fills in
the rest once the folder is known, length.py what follows from the number of steps. Each choice is a `Choice` with its
reason, printed before training and kept in recipe.json. What the user set stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

from ..catalog.releases import parse_name
from ..catalog.variants import STARTER
from ..errors import UserError
from .recipe import AdamW, Augment, Recipe, Settings, differing, override

REFERENCE_BATCH = 128
SCRATCH_LR = 4e-3  # at the reference batch; docs/LOG.md compares rates on imagenette at 64 pixels
MUON = 4.0  # the rate of the blocks' matrices over that
BASELINE_LR = 2e-3  # of a network from another library, whose kernels are all AdamW's
TINY_LR = 5.7e-3  # the same, for images of up to TINY_SIDE pixels; docs/LOG.md compares rates on the digits
SCRATCH_LAYER_SCALE = 1.0
FINETUNE_LR = 2e-4
PROBE_LR = 2e-3
STARTER_MODEL = "convnext_atto"
KNOWS_FROM = 500_000  # pictures that weights have learned from, from which on fine-tuning keeps them
STARTS_UP_TO = 5_000  # images that are learned from; of 9,469 nothing was measured
POOLS_UP_TO = 10_000  # images; of 50,000 patches were ahead of ResNet, and pooling was not measured
POOLS_BY_4_FROM, PATCHES_OF_4_FROM = 32, 65  # pixels; the last stage keeps one position
STARTER_SIDE = 64  # pixels that it has learned at; smaller images are enlarged to that
FEW_IMAGES = 5000  # below, fine-tuning is held back more and disturbed less
GROWS_FROM = 96  # pixels from which a run without an accelerator starts on smaller pictures
GROWTH = 0.57  # side of the first pictures over the full one
TINY_SIDE = 16  # pixels up to which an image counts as tiny


@dataclass(frozen=True)
class Facts:
    """What the recipes ask of a data set."""

    images: int  # in the training split
    classes: int
    size: int  # typical short side in pixels
    smallest_class: int
    largest_class: int
    multi_label: bool = False
    no_accelerator: bool = False
    mirror: str = ""  # the reason why pictures are not mirrored, for people


@dataclass(frozen=True)
class Choice:
    """One derived field, for people."""

    field: str
    value: object
    why: str

    def __str__(self) -> str:
        return f"  {self.field} = {self.value}: {self.why}"


SCRATCH = Recipe(
    name="scratch", derive="scratch", model="auto",
    optim=AdamW(lr=SCRATCH_LR, betas=(0.9, 0.99), clip_grad=1.0, muon=MUON),
    augment=Augment(scale=(0.35, 1.0), randaugment=0.0, erase=0.0, mixup=0.2, cutmix=0.0),
)  # fmt: skip
RECIPES: dict[str, Recipe] = {
    "classify": replace(SCRATCH, name="classify", derive="classify", weights=STARTER),
    "scratch": SCRATCH,
    "finetune": Recipe(
        name="finetune", derive="finetune", model="convnext_tiny",
        optim=AdamW(lr=FINETUNE_LR, weight_decay=0.05, layer_decay=0.8, clip_grad=1.0), head_init_scale=0.001,
        augment=Augment(scale=(0.35, 1.0), mixup=0.0, cutmix=0.0),
    ),
    "probe": Recipe(
        name="probe", derive="probe", model="convnext_tiny", freeze_backbone=True, drop_path=0.0,
        optim=AdamW(lr=PROBE_LR, weight_decay=1e-4),
        augment=Augment(scale=(0.5, 1.0), randaugment=0.0, erase=0.0, mixup=0.0, cutmix=0.0, smoothing=0.0),
    ),
    # A number may depend on all of a picture: a count on its border, an angle on its sides, a share on its colours. So
    # pictures stay as they are; who knows that a mirror changes nothing sets augment.hflip=0.5.
    "regress": replace(
        SCRATCH, name="regress", task="regress", derive="regress", weights=STARTER,
        augment=Augment(crop="none", hflip=0.0, randaugment=0.0, erase=0.0, mixup=0.0, cutmix=0.0, smoothing=0.0),
    ),
}  # fmt: skip


LEARNS_ALL = ("classify", "scratch", "regress")  # the recipes for networks that are still to learn to see


def suited(given: Recipe, pictures: int | None) -> tuple[Recipe, list[Choice]]:
    """The recipe that goes on from weights that have learned from so many pictures; None: not known, as of released.

    `finetune` goes on from those of few as `classify` does, and `regress` from those of many as `finetune`: weights of
    a million photographs know more than a folder can teach them, and are kept near to where they are. Those of a few
    hundred pictures do not: held back as much they stayed at 20.8 %, free they reached 100 (docs/LOG.md).
    """
    many = pictures is None or pictures >= KNOWS_FROM
    if given.derive == "regress" and many:
        why = "the weights have learned from many pictures, and are kept near to where they are"
        held = replace(RECIPES["finetune"], name=given.name, task=given.task, weights=given.weights)
        held = replace(held, augment=given.augment, regression=given.regression)
        return held, [Choice("recipe", "as finetune", why)]
    if given.derive != "finetune" or many:
        return given, []
    why = f"the weights have learned from {pictures:,} pictures: all of the network goes on learning, at full rates"
    free = replace(RECIPES["classify"], name=given.name, weights=given.weights)
    return free, [Choice("recipe", "as classify", why)]


def own_settings(recipe: Recipe) -> Settings:
    """What a user has changed of a folder recipe before the run, by dotted name; {} for one that derives nothing."""
    return {} if recipe.derive == "none" else differing(recipe, RECIPES[recipe.derive])


def derive(recipe: Recipe, facts: Facts, fixed: Settings) -> tuple[Recipe, list[Choice]]:
    """Fills in what follows from the data; `fixed` are the user's own settings (see `own_settings`), which win.

    Raises UserError when `finetune` or `probe` has no weights to start from, and for settings that exclude each other.
    """
    recipe = override(recipe, fixed)
    if {"class_weights", "sampling"} <= fixed.keys() and recipe.class_weights == recipe.sampling == "balanced":
        raise UserError(
            "class_weights=balanced and sampling=balanced each make up for the same imbalance, and together turn it "
            "round: set one of them"
        )
    if recipe.derive == "none":
        return recipe, []
    if recipe.derive not in LEARNS_ALL and recipe.weights is None:
        raise UserError(
            f"{recipe.name} starts from trained weights: add --weights (a checkpoint, or a released name like in22k, "
            "which downloads them), or use --recipe scratch"
        )
    made: dict[str, tuple[object, str]] = {}
    rules = (_start, _size, _stem, _model, _patch, _batch, _length, _rate, _mirror, _augment, _regularise, _loss)
    for rule in rules:
        for name, (value, why) in rule(recipe, facts).items():
            if name not in fixed:
                recipe = override(recipe, {name: value})
                made[name] = (value, why)
    return replace(recipe, derive="none"), [Choice(name, value, why) for name, (value, why) in made.items()]


Made = dict[str, tuple[object, str]]


def _start(recipe: Recipe, facts: Facts) -> Made:
    """Whether to start from the weights that ship, or from nothing: then as `scratch` says."""
    if recipe.derive not in LEARNS_ALL or recipe.weights != STARTER:
        return {}
    if recipe.model != "auto" or recipe.depths is not None or recipe.dims is not None or recipe.stem != "patch":
        return {"weights": (None, "the weights that ship are of another network")}
    if facts.size // 8 * 8 <= TINY_SIDE:
        return {"weights": (None, "the images are tiny")}
    if facts.images > STARTS_UP_TO:
        return {"weights": (None, f"{facts.images:,} images are enough to learn to see from")}
    return {
        "weights": (
            STARTER,
            f"{facts.images:,} images are few to learn to see from: it has learned from drawn "
            "pictures (--weights none starts from nothing)",
        )
    }


def _size(recipe: Recipe, facts: Facts) -> Made:
    if recipe.derive not in LEARNS_ALL:
        return {"image_size": (224, "the resolution of most released weights")}
    side = facts.size
    if side < 128:
        rounded = max(8, side // 8 * 8)
        if recipe.weights == STARTER and rounded <= STARTER_SIDE:
            return {"image_size": (STARTER_SIDE, f"the images are about {side} pixels; the start has learned at this")}
        return {"image_size": (rounded, f"the images are about {side} pixels")}
    return {
        "image_size": (min(224, side // 32 * 32), f"the images are about {side} pixels; larger than 224 rarely pays")
    }


def _model(recipe: Recipe, facts: Facts) -> Made:
    if recipe.model != "auto":
        return {}
    if recipe.weights == STARTER:
        return {"model": (STARTER_MODEL, "the network of the weights that ship")}
    if recipe.image_size <= TINY_SIDE:
        return {
            "model": ("convnext_atto", "the images are tiny"),
            "depths": ((1, 1, 4, 1), "1.1 M parameters are plenty for images of this size"),
            "dims": ((32, 64, 128, 208), "as above"),
        }
    if facts.no_accelerator:
        why = "no accelerator: as good as the whole of atto at 1.3 times its speed (docs/LOG.md)"
        return {"model": ("convnext_atto", why), "depths": ((1, 1, 3, 1), why), "dims": ((48, 96, 192, 384), why)}
    if facts.images < 30_000:
        return {"model": ("convnext_atto", f"{facts.images:,} images")}
    if facts.images < 200_000:
        return {"model": ("convnext_pico", f"{facts.images:,} images")}
    return {"model": ("convnext_tiny", f"{facts.images:,} images")}


def _stem(recipe: Recipe, facts: Facts) -> Made:
    """Of a network that nobody has named: who asks for a ConvNeXt by name gets that one."""
    tiny, odd = recipe.image_size <= TINY_SIDE, recipe.patch_size % 2  # patches of single pixels; the user's own
    if recipe.model != "auto" or recipe.weights is not None or tiny or odd or facts.images > POOLS_UP_TO:
        return {}
    why = f"{facts.images:,} images: patches learn outlines from many more, a stem that pools from these (docs/LOG.md)"
    return {"stem": ("pool", why)}


def _patch(recipe: Recipe, facts: Facts) -> Made:
    if recipe.derive not in LEARNS_ALL or ":" in recipe.model or "isotropic" in parse_name(recipe.model).variant:
        return {}
    if recipe.weights == STARTER:
        return {}
    large = POOLS_BY_4_FROM if recipe.stem == "pool" else PATCHES_OF_4_FROM
    least = 2 if recipe.stem == "pool" else 1
    patch = least if recipe.image_size <= TINY_SIDE else 4 if recipe.image_size >= large else 2
    return {"patch_size": (patch, f"keeps maps of {recipe.image_size // patch} positions a side after the stem")}


def _batch(recipe: Recipe, facts: Facts) -> Made:
    if recipe.derive == "finetune":
        size = 64 if facts.images >= 2000 else 32
    else:
        size = 128 if facts.images >= 4000 else 64 if facts.images >= 800 else 32
    size = max(2, min(size, facts.images // 4))
    return {"batch_size": (size, f"at least {facts.images // size} steps in an epoch of {facts.images:,} images")}


def _length(recipe: Recipe, facts: Facts) -> Made:
    open_length = recipe.minutes is None and recipe.steps is None
    if recipe.derive in LEARNS_ALL and recipe.image_size <= TINY_SIDE:
        made: Made = {"workers": (0, "such pictures are prepared faster than they are handed over")}
        if open_length:
            epochs = int(min(300, max(30, 46_000 // facts.images)))
            made["epochs"] = (epochs, f"about {epochs * facts.images:,} images in all: a minute on two cores")
        if recipe.minutes is None:
            made["eval_every"] = (2, "an epoch takes a second")
        return made
    if not open_length:
        return {}
    if recipe.derive in LEARNS_ALL:
        epochs = int(min(300, max(30, 1_000_000 // facts.images)))
    else:
        epochs = int(min(50, max(10, 150_000 // facts.images)))
    return {"epochs": (epochs, f"about {epochs * facts.images:,} images in all")}


def root_rule(share: float) -> float:
    """How the rate follows the batch, both over those it was chosen at: with the square root (Adam's rule)."""
    return sqrt(share)


def _rate(recipe: Recipe, facts: Facts) -> Made:
    scratch = BASELINE_LR if ":" in recipe.model else TINY_LR if recipe.image_size <= TINY_SIDE else SCRATCH_LR
    base = {"finetune": FINETUNE_LR, "probe": PROBE_LR}.get(recipe.derive, scratch)
    lr = float(f"{base * root_rule(recipe.batch_size / REFERENCE_BATCH):.3g}")
    return {
        "optim.lr": (lr, f"{base:g} at a batch of {REFERENCE_BATCH}, with the square root of the batch (Adam's rule)")
    }


def _mirror(recipe: Recipe, facts: Facts) -> Made:
    return {"augment.hflip": (0.0, facts.mirror)} if facts.mirror else {}


def _augment(recipe: Recipe, facts: Facts) -> Made:
    if recipe.derive == "finetune" and facts.images < FEW_IMAGES and recipe.task == "classify":
        why = f"{facts.images:,} images: the weights have seen enough variety, gentle changes keep what they know"
        return {"augment.randaugment": (5.0, why), "augment.erase": (0.0, why)}
    if recipe.derive not in LEARNS_ALL:
        return {}
    made: Made = {}
    if recipe.image_size >= GROWS_FROM and facts.no_accelerator:
        made["progressive"] = (GROWTH, "early epochs see smaller pictures: more of them in the same time")
    moves = recipe.augment.crop != "none"  # of a recipe whose answers do not depend on where a thing is
    if recipe.image_size <= TINY_SIDE:
        if moves:
            made["augment.crop"] = ("shift", "the images are tiny: a cut would leave nothing")
        made["optim.weight_decay"] = (0.2, "few pixels are soon learned by heart")
        made["augment.hflip"] = (0.0, "images this small are signs and digits, which a mirror makes into others")
    elif recipe.image_size <= 64 and moves:
        made["augment.crop"] = ("shift", "small images are shifted, not cut")
    return made


def _regularise(recipe: Recipe, facts: Facts) -> Made:
    if ":" in recipe.model:
        return {"drop_path": (0.0, "a baseline has none")}
    if recipe.derive == "finetune":
        rate, few = (0.2, "small set: it") if facts.images < FEW_IMAGES else (0.1, "larger set: a little")
        return {"drop_path": (rate, f"a {few} keeps the network from learning the pictures by heart")}
    if recipe.derive not in LEARNS_ALL:
        return {}
    seen = facts.images * recipe.epochs if recipe.steps is None else recipe.batch_size * recipe.steps
    seen = seen if recipe.minutes is None else 0
    rate = 0.1 if seen >= 3_000_000 else 0.05
    why = "a long run can afford it" if rate == 0.1 else "short runs underfit before they overfit: a little"
    return {
        "drop_path": (rate, why),
        "init": ("fan_in", "blocks that start at full strength: short runs have no time to grow them (docs/LOG.md)"),
        "layer_scale": (SCRATCH_LAYER_SCALE, "as above; the paper's 1e-6 is for 300 epochs"),
    }


def _loss(recipe: Recipe, facts: Facts) -> Made:
    made: Made = {}
    if facts.multi_label:
        made["loss"] = ("bce", "several labels an image")
        made["augment.smoothing"] = (0.0, "several labels an image")
    elif facts.largest_class > 10 * max(facts.smallest_class, 1) and recipe.class_weights != "balanced":
        # Drawn as often, not weighted: a rare picture comes in every batch. Weights left 1000 : 15 images at the
        # majority after ten epochs, and were never better (docs/LOG.md).
        why = f"classes are drawn as often: the largest has {facts.largest_class} images, the smallest "
        made["sampling"] = ("balanced", why + str(facts.smallest_class))
    return made
