"""What follows from how long a run is, and from its batch: warm-up, average, mixing, learning rate.

A length comes as epochs, minutes or steps, with a recipe's name, from a recipe.json or from Python. `asked` keeps the
one that counts, `settle` is called once the number of steps is known, for every recipe and task alike. A paper recipe
at its own length and batch stays as it was published. What the user set stays. All else is a `Choice` with its reason.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

from ..errors import UserError
from .dense import RECIPES as DENSE_RECIPES
from .everyday import GROWS_FROM, LEARNS_ALL, TINY_SIDE, Choice, Made, root_rule
from .everyday import RECIPES as FOLDER_RECIPES
from .recipe import Augment, Recipe, Settings, override

LENGTHS = ("epochs", "minutes", "steps")
SHARE = 0.1  # of the run, at most: the warm-up, and the horizon of the average
LONGEST_WARMUP = 5.0  # epochs, of a folder recipe
EMA_SHARE = 0.04  # horizon of a folder recipe's average over the run's steps: short enough to forget the start
EMA_STEPS = 10  # its shortest horizon, where a tenth of the run allows it
OWN_EMA_SHARE = 0.2  # of a recipe at its own length: the published horizons are up to 0.13 of their runs
PAPER = Augment()  # the augmentation of the paper's own runs
# What training from scratch is disturbed by, measured on 100 to 2,000 pictures (docs/LOG.md): CutMix on half of the
# batches made no difference in 12 epochs and helps from 30 on; the paper's whole augmentation cost 6 and 12 points in
# 100 epochs and gained 4 in 300, but not where those were of 100 pictures or of two classes: two that are mixed are
# hardly a signal.
MIXED_FROM_EPOCHS = 30
LEAST_PASSES = 12  # over the pictures, of a short run from scratch: below, smaller pictures are seen more often
SIDE_STEP = 16
LEAST_SIDE = 64  # pixels that they are not made smaller than
PAPERS_FROM_EPOCHS, PAPERS_FROM_PICTURES, PAPERS_FROM_CLASSES = 200, 100_000, 10  # pictures seen in the whole run


def require_one(settings: Settings) -> Settings:
    """The settings as they are. Raises UserError when they say more than once how long the run is."""
    given = [name for name in LENGTHS if _is_set(settings, name)]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} each say how long the run is; give one of them")
    return settings


def asked(recipe: Recipe, settings: Settings) -> Recipe:
    """The recipe with the one length that counts: the user's; with another batch, the epochs instead of the steps."""
    if _is_set(settings, "steps"):
        return replace(recipe, minutes=None)
    if _is_set(settings, "minutes"):
        return replace(recipe, steps=None)
    if {"epochs", "batch_size"} & settings.keys():
        return replace(recipe, steps=None, minutes=None)
    return recipe


def replayed(recipe: Recipe, settings: Settings, *, same_data: bool) -> tuple[Recipe, list[Choice]]:
    """A recipe.json as it counts here: the same steps on the same pictures, the same epochs on others."""
    if recipe.steps is None or same_data or any(_is_set(settings, name) for name in LENGTHS):
        return recipe, []
    why = f"these are not the pictures that the recipe's {recipe.steps:,} steps were counted on: its epochs hold"
    return replace(recipe, steps=None, minutes=None), [Choice("epochs", recipe.epochs, why)]


def settle(recipe: Recipe, given: Recipe, steps: int, per_epoch: int, fixed: Settings) -> tuple[Recipe, list[Choice]]:
    """`recipe` with its number of steps, and with what follows from it.

    `given` is the recipe before settings and data changed it, `fixed` are the user's settings, by dotted name.
    """
    recipe = replace(recipe, steps=steps)
    epochs = steps / per_epoch
    made: Made = {}
    if abs(recipe.epochs - epochs) * per_epoch > 0.5 + 0.005 * steps:
        source = "as set" if "steps" in fixed else "the recipe's own; --epochs or --minutes says otherwise"
        made["epochs"] = (round(epochs, 3), f"{steps:,} steps, {source}")
    own = _is_own(recipe, given, steps, per_epoch)
    made |= _rate(recipe, given) | _average(recipe, given, steps, own=own)
    made |= _warm_up(recipe, given, steps, per_epoch, own=own)
    if given.derive in LEARNS_ALL and recipe.image_size > TINY_SIDE and recipe.task == "classify":
        made |= _mixing(epochs, steps * recipe.batch_size, recipe.num_classes or 0)
    if given.derive in DENSE_RECIPES and recipe.minutes is not None:
        made["save_every"] = (recipe.eval_every, "saved when it is judged")
    made = {name: value for name, value in made.items() if name == "epochs" or name not in fixed}
    settled = override(recipe, {name: value for name, (value, _) in made.items()})
    return settled, [Choice(name, value, why) for name, (value, why) in made.items()]


def affordable_side(recipe: Recipe, given: Recipe, epochs: float, fixed: Settings) -> int | None:
    """The side of pictures that are seen LEAST_PASSES times where `epochs` passes over those of the recipe fit into its
    minutes; None where that is enough, the side was asked for, or pictures are small anyway.
    """
    if given.derive not in LEARNS_ALL or "image_size" in fixed or epochs >= LEAST_PASSES:
        return None
    side = int(recipe.image_size * sqrt(epochs / LEAST_PASSES)) // SIDE_STEP * SIDE_STEP
    side = max(LEAST_SIDE, side)
    return side if side < recipe.image_size else None


def at_side(recipe: Recipe, side: int) -> Recipe:
    """The recipe for pictures of that many pixels a side; of small ones the first are not made smaller still."""
    return replace(recipe, image_size=side, progressive=recipe.progressive if side >= GROWS_FROM else 1.0)


def _is_set(settings: Settings, name: str) -> bool:
    return settings.get(name) is not None and str(settings[name]).lower() not in ("none", "null", "off")


def _is_own(recipe: Recipe, given: Recipe, steps: int, per_epoch: int) -> bool:
    """Whether a recipe that derives nothing runs as long as it says itself, in its steps or else in its epochs."""
    if given.derive != "none":
        return False
    if given.steps is not None and recipe.batch_size == given.batch_size:
        return steps == given.steps
    return recipe.minutes is None and steps == max(1, round(given.epochs * per_epoch))


def _rate(recipe: Recipe, given: Recipe) -> Made:
    """The rate of a finished recipe whose batch has changed, by the rule that it was made with."""
    if given.derive != "none" or recipe.batch_size == given.batch_size or recipe.optim.lr != given.optim.lr:
        return {}
    share = recipe.batch_size / given.batch_size
    rule = "in proportion to it"
    if given.name in FOLDER_RECIPES | DENSE_RECIPES:
        share, rule = root_rule(share), "with the square root of it"
    lr = float(f"{given.optim.lr * share:.3g}")
    why = f"{given.optim.lr:g} belongs to the recipe's batch of {given.batch_size:,}; {rule} for {recipe.batch_size:,}"
    return {"optim.lr": (lr, why)}


def makes_average(given: Recipe) -> bool:
    """Whether `settle` gives a run of this recipe an average where the user says nothing of it."""
    return given.derive not in ("none", "detect")  # of a detector, as judging it a second time takes long


def _average(recipe: Recipe, given: Recipe, steps: int, *, own: bool) -> Made:
    """The average's horizon, 1 / (1 - ema) steps: beyond a tenth of the run it would remember the start."""
    longest = int(SHARE * steps)
    if makes_average(given):
        horizon = min(longest, max(EMA_STEPS, round(EMA_SHARE * steps)))
        why = f"a horizon of {horizon:,} steps, {horizon / steps:.0%} of the run's {steps:,}"
    else:
        most = (OWN_EMA_SHARE if own else SHARE) * steps + 1e-6
        replay = own and given.steps is not None  # with its steps comes the average that was settled for them
        if given.derive != "none" or recipe.ema is None or replay or 1 / (1 - recipe.ema) <= most:
            return {}
        horizon = longest
        before = round(1 / (1 - recipe.ema))
        why = f"a horizon of {horizon:,} steps, a tenth of the run's {steps:,}; {before:,} would remember the start"
    if horizon < 2:
        return {"ema": (None, f"the run's {steps} steps are too few for an average")}
    return {"ema": (1 - 1 / horizon, why)}


def _warm_up(recipe: Recipe, given: Recipe, steps: int, per_epoch: int, *, own: bool) -> Made:
    longest = int(SHARE * steps)
    rules = recipe.schedule
    if rules.kind != "cosine":
        if rules.warmup_steps <= longest:
            return {}
        return {"schedule.warmup_steps": (longest, f"a tenth of the run's {steps:,} steps")}
    if given.derive != "none":
        epochs = min(LONGEST_WARMUP, _as_epochs(longest, per_epoch))
        return {"schedule.warmup_epochs": (epochs, f"a tenth of the run, at most {LONGEST_WARMUP:g}")}
    if own or round(rules.warmup_epochs * per_epoch) <= longest:
        return {}
    why = f"a tenth of the run's {steps / per_epoch:.4g} epochs; {rules.warmup_epochs:g} belong to a longer one"
    return {"schedule.warmup_epochs": (_as_epochs(longest, per_epoch), why)}


def _as_epochs(steps: int, per_epoch: int) -> float:
    """The shortest decimal number of epochs that is so many steps."""
    rounded = (round(steps / per_epoch, digits) for digits in range(3, 17))
    return next(epochs for epochs in rounded if round(epochs * per_epoch) == steps)


def _mixing(epochs: float, pictures: int, classes: int) -> Made:
    """How much training from scratch disturbs the pictures: by how often each is seen, how many are in all, and of how
    many classes.
    """
    long = epochs >= PAPERS_FROM_EPOCHS and pictures >= PAPERS_FROM_PICTURES
    if long and classes >= PAPERS_FROM_CLASSES:
        why = f"the paper's: each picture is seen {epochs:.0f} times, time enough to learn through it"
        return {f"augment.{name}": (getattr(PAPER, name), why) for name in ("randaugment", "erase", "mixup", "cutmix")}
    if epochs >= MIXED_FROM_EPOCHS:
        why = f"each picture is seen {epochs:.0f} times: half of the batches are mixed"
        return {"augment.cutmix": (1.0, why), "augment.mix_prob": (0.5, why)}
    return {}
