"""Tables 5 and 6 of the paper, and the variations of appendix A.1, read off the recipes. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..catalog.variants import VARIANTS
from ..errors import UserError
from ..recipes import RECIPES
from ..recipes.recipe import Recipe
from ..recipes.roadmap import parse

COLUMNS = {  # table -> column -> group of recipes
    "5": {
        "ImageNet-1K": "imagenet1k", "ImageNet-22K": "imagenet22k", "isotropic (A.1)": "isotropic",
        "roadmap (A.1)": "roadmap",
    },
    "6": {
        "1K to 384": "imagenet1k_ft384", "22K to 1K, 224": "imagenet22k_ft1k", "22K to 1K, 384": "imagenet22k_ft1k_384",
    },
}  # fmt: skip
LETTERS = {"tiny": "T", "small": "S", "base": "B", "large": "L", "xlarge": "XL"}
OURS = "roadmap/small"  # a recipe of a group of the paper's that is not the paper's


def settings_rows(table: str) -> list[dict[str, str]]:
    """Table 5 or 6: a row a setting, a column a group of recipes; values that differ by size stand as a/b/c.

    Raises UserError for another table.
    """
    if table not in COLUMNS:
        raise UserError(f"no table {table!r} of settings; there are {' and '.join(COLUMNS)}")
    groups = {column: _recipes(group) for column, group in COLUMNS[table].items()}
    rows = [{"setting": "models"} | {column: "/".join(sizes) for column, sizes in groups.items()}]
    for setting, value in SETTINGS.items():
        rows.append(
            {"setting": setting} | {column: _joined([value(r) for r in of.values()]) for column, of in groups.items()}
        )
    return rows


def _recipes(group: str) -> dict[str, Recipe]:
    """The group's recipes by the letter of their size."""
    names = [name for name in RECIPES if name.startswith(f"{group}/") and name != OURS]
    return {LETTERS[name.split("/")[1]]: RECIPES[name] for name in names}


def _joined(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else "/".join(values)


def _number(value: float | None) -> str:
    return "none" if not value else f"{value:g}"


def _layer_scale(recipe: Recipe) -> str:
    if recipe.weights is not None:
        return "pre-trained"
    if recipe.model in VARIANTS:
        return _number(VARIANTS[recipe.model].layer_scale if recipe.layer_scale is None else recipe.layer_scale)
    _, _, reading = parse(recipe.model)
    return _number(reading.layer_scale)


def _randaugment(recipe: Recipe) -> str:
    return f"({recipe.augment.randaugment:g}, {recipe.augment.randaugment_std:g})"


SETTINGS: dict[str, Callable[[Recipe], str]] = {
    "image size": lambda r: str(r.image_size),
    "start": lambda r: r.weights or {"paper": "truncated normal, std 0.02", "fan_in": "fan-in"}[r.init],
    "optimiser": lambda r: "AdamW",
    "learning rate": lambda r: _number(r.optim.lr),
    "weight decay": lambda r: _number(r.optim.weight_decay),
    "betas": lambda r: ", ".join(f"{beta:g}" for beta in r.optim.betas),
    "batch size": lambda r: f"{r.batch_size:,}",
    "epochs": lambda r: _number(r.epochs),
    "schedule": lambda r: "cosine",
    "lowest learning rate": lambda r: _number(r.schedule.min_lr),
    "warm-up epochs, linear": lambda r: _number(r.schedule.warmup_epochs),
    "layer-wise decay": lambda r: _number(r.optim.layer_decay),
    "RandAugment": _randaugment,
    "Mixup": lambda r: _number(r.augment.mixup),
    "CutMix": lambda r: _number(r.augment.cutmix),
    "random erasing": lambda r: _number(r.augment.erase),
    "label smoothing": lambda r: _number(r.augment.smoothing),
    "stochastic depth": lambda r: f"{r.drop_path:g}",
    "layer scale": _layer_scale,
    "head's initial scale": lambda r: _number(r.head_init_scale) if r.head_init_scale != 1 else "none",
    "gradient clipping": lambda r: _number(r.optim.clip_grad),
    "average (EMA)": lambda r: _number(r.ema),
}
