"""The everyday recipes for boxes and masks, `detect` and `segment`: what they derive from the pictures and the machine.

`convnext train DATA` uses them where DATA holds objects or masks. As in everyday.py a template states what does not
depend on the data, each derived field is a `Choice` with its reason, and what the user set stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

from ..catalog.variants import STARTER, Arch
from .everyday import STARTER_MODEL, Choice, Made
from .recipe import AdamW, Detection, Recipe, Schedule, Segmentation, override

PAPER_LR, PAPER_BATCH = 1e-4, 16  # onto trained weights
MUON = 4.0  # the rate of the blocks' matrices over that of all else; docs/LOG.md S1
STEP = 32  # pixels: sides are multiples of the network's stride
SEEN = 48  # pixels that a typical object should have for the detector, whose smallest anchors have 32
EVALUATIONS = 10


@dataclass(frozen=True)
class Rules:
    """What differs by task. Sides in pixels; "seen" are pictures learned from in all."""

    lr: float  # from scratch, at `batch`
    batch: int
    muon: float | None
    cpu_side: int
    gpu_side: int
    least_side: int
    cpu_seen: int  # about an hour of two cores
    gpu_seen: int
    epochs: tuple[int, int]  # at least, at most
    gpu_picture: float  # bytes that learning from one takes at `gpu_side`, roughly
    layers: tuple[float, str]  # decay of trained weights by depth, and how depth is counted
    small: tuple[str, int]  # the field of the heads that is made smaller without an accelerator


RULES: dict[str, Rules] = {
    "detect": Rules(
        lr=4e-4, batch=4, muon=None, cpu_side=256, gpu_side=800, least_side=160, cpu_seen=6_000, gpu_seen=150_000,
        epochs=(12, 100), gpu_picture=5e9, layers=(0.95, "layer"), small=("detection.regions", 128),
    ),
    "segment": Rules(
        lr=1e-3, batch=8, muon=MUON, cpu_side=256, gpu_side=512, least_side=64, cpu_seen=15_000, gpu_seen=300_000,
        epochs=(20, 200), gpu_picture=3e9, layers=(0.9, "stage"), small=("segmentation.channels", 128),
    ),
}  # fmt: skip  # rates and batches: docs/LOG.md D3 and S1


@dataclass(frozen=True)
class DenseFacts:
    """What the recipes ask of annotated pictures and of the machine; lengths are medians in pixels."""

    images: int  # in the training split
    classes: int
    short: int  # sides of a picture
    object_side: float = 0.0  # square root of an object's box; of masks, 0
    memory: int | None = None  # bytes of the accelerator; None: there is none

    @property
    def cpu(self) -> bool:
        return self.memory is None


RECIPES: dict[str, Recipe] = {
    "detect": Recipe(
        name="detect", task="detect", derive="detect", model="auto", weights=STARTER, drop_path=0.0,
        schedule=Schedule(kind="steps"), detection=Detection(), optim=AdamW(lr=RULES["detect"].lr),
    ),
    "segment": Recipe(
        name="segment", task="segment", derive="segment", model="auto", weights=STARTER, drop_path=0.1,
        schedule=Schedule(kind="poly", warmup_steps=1500, min_lr=0), segmentation=Segmentation(),
        optim=AdamW(lr=RULES["segment"].lr),
    ),
}  # fmt: skip


def derive(recipe: Recipe, facts: DenseFacts, fixed: dict[str, object]) -> tuple[Recipe, list[Choice]]:
    """Fills in what follows from the data and the machine; `fixed` are the user's own settings, which win."""
    recipe = override(recipe, fixed)
    if recipe.derive not in RECIPES:
        return recipe, []
    made: Made = {}
    for rule in (_network, _weights, _side, _batch, _micro_batch, _start, _rate, _length, _intervals):
        for name, (value, why) in rule(recipe, facts).items():
            if name not in fixed:
                recipe = override(recipe, {name: value})
                made[name] = (value, why)
    return replace(recipe, derive="none"), [Choice(name, value, why) for name, (value, why) in made.items()]


def _network(recipe: Recipe, facts: DenseFacts) -> Made:
    made: Made = {}
    if recipe.model == "auto":
        if facts.cpu:
            made["model"] = ("convnext_atto", "no accelerator: the smallest network")
        else:
            made["model"] = ("convnext_tiny", "the paper's smallest, which an accelerator carries")
    if facts.cpu:
        field, value = RULES[recipe.task].small
        made[field] = (value, "no accelerator: the heads would take most of the time")
    return made


def _weights(recipe: Recipe, facts: DenseFacts) -> Made:
    """Without an accelerator, the weights that ship; nothing is downloaded that was not asked for."""
    if recipe.weights != STARTER:
        return {}
    named = (recipe.model, recipe.depths, recipe.dims, recipe.stem)
    if named == (STARTER_MODEL, None, None, Arch.stem):
        return {"weights": (STARTER, "it has learned from drawn pictures (--weights none starts from nothing)")}
    return {"weights": (None, "the weights that ship are of another network")}


def _side(recipe: Recipe, facts: DenseFacts) -> Made:
    """As large as typical objects need, and never larger than the pictures or what the machine carries."""
    rules = RULES[recipe.task]
    most = rules.cpu_side if facts.cpu else rules.gpu_side
    machine = "more would take long without an accelerator" if facts.cpu else "as in the paper"
    wanted, why = float(most), machine
    if facts.object_side:
        wanted = facts.short * SEEN / facts.object_side
        why = f"a typical object of {facts.object_side:.0f} pixels, in pictures of {facts.short}, is seen with {SEEN}"
        if wanted > most:
            wanted, why = most, machine
    if wanted > facts.short:
        wanted, why = facts.short, f"the pictures' short side is {facts.short}"
    side, least = int(wanted / STEP + 0.5) * STEP, rules.least_side
    if side < least:
        side, why = least, f"{why}; below {least} too few positions would be left"
    return {"image_size": (side, why)}


def _batch(recipe: Recipe, facts: DenseFacts) -> Made:
    size = RULES[recipe.task].batch if facts.cpu else PAPER_BATCH
    fits = max(2, min(size, facts.images // 4))
    why = (
        f"{facts.images:,} training images: several steps in an epoch"
        if fits < size
        else ("small batches learn more from each picture" if facts.cpu else "as in the paper")
    )
    return {"batch_size": (fits, why)}


def _micro_batch(recipe: Recipe, facts: DenseFacts) -> Made:
    if facts.memory is None:
        return {}
    rules = RULES[recipe.task]
    share = (recipe.image_size / rules.gpu_side) ** 2
    room = max(2, int(facts.memory / (rules.gpu_picture * share)))
    return {"micro_batch": (min(recipe.batch_size, room), f"what {facts.memory / 1e9:.0f} GB should hold")}


def _start(recipe: Recipe, facts: DenseFacts) -> Made:
    """What becomes of the network before it learns: trained weights are kept near to where they are."""
    if recipe.weights == STARTER:
        return {}
    if recipe.weights is not None:
        layers = RULES[recipe.task].layers
        why = "trained weights move less, the deeper the less"
        return {"optim.layer_decay": (layers[0], why), "optim.layer_rule": (layers[1], why)}
    why = "no --weights: blocks start at full strength, as short runs from scratch need it (docs/LOG.md)"
    return {"init": ("fan_in", why), "layer_scale": (0.1, why)}


def _rate(recipe: Recipe, facts: DenseFacts) -> Made:
    rules, trained = RULES[recipe.task], recipe.weights not in (None, STARTER)
    base, at = (PAPER_LR, PAPER_BATCH) if trained else (rules.lr, rules.batch)
    rate = float(f"{base * sqrt(recipe.batch_size / at):.3g}")
    made: Made = {"optim.lr": (rate, f"{base:g} at a batch of {at}, with the square root of the batch (Adam's rule)")}
    if rules.muon is not None and not trained:
        made["optim.muon"] = (rules.muon, "from scratch Muon moves the blocks' matrices further (docs/LOG.md)")
    return made


def _length(recipe: Recipe, facts: DenseFacts) -> Made:
    if recipe.minutes is not None or recipe.steps is not None:
        return {}
    rules = RULES[recipe.task]
    seen = rules.cpu_seen if facts.cpu else rules.gpu_seen
    least, most = rules.epochs
    epochs = min(most, max(least, seen // facts.images))
    return {"epochs": (epochs, f"about {epochs * facts.images:,} images in all")}


def _intervals(recipe: Recipe, facts: DenseFacts) -> Made:
    """By the run's length, derived or the user's; of minutes the budget decides (recipes/length.py)."""
    if recipe.minutes is not None and recipe.steps is None:
        return {}
    return every_tenth(epochs_of(recipe, facts.images))


def every_tenth(epochs: float) -> Made:
    """How often a run is judged and saved; a detector's checkpoint is too large for more."""
    often = max(1.0, epochs // EVALUATIONS)
    why = f"about {EVALUATIONS} evaluations in {epochs:g} epochs" if epochs >= EVALUATIONS else "after each epoch"
    return {"eval_every": (often, why), "save_every": (often, why)}


def epochs_of(recipe: Recipe, images: int) -> float:
    """The length of a run on so many images, whether the recipe says it in steps or in epochs."""
    if recipe.steps is None:
        return recipe.epochs
    return round(recipe.steps / max(1, images // recipe.batch_size), 2)
