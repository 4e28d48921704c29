"""The paper and the everyday job as data: name -> Recipe, in one plain dict. A duplicate name is an error."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from ..catalog.variants import STARTER
from ..errors import UserError
from . import ade20k, coco, dense, everyday, imagenet, pretrain, roadmap
from .recipe import Recipe, Settings, TaskName, differing, from_json, override

FROM_WEIGHTS: dict[TaskName, str] = {"classify": "finetune"}  # where that is another one
RECIPE_FILE = "recipe.json"  # what a run folder keeps


def everyday_name(task: TaskName, weights: object) -> str:
    """The recipe for a task where the user names none; `weights` are what the user wants to start from."""
    own = str("none" if weights is None else weights).lower() not in ("none", "null", "off", STARTER)
    return FROM_WEIGHTS.get(task, EVERYDAY[task]) if own else EVERYDAY[task]


def _joined(parts: Iterable[dict[str, Recipe]]) -> dict[str, Recipe]:
    joined: dict[str, Recipe] = {}
    for part in parts:
        if twice := joined.keys() & part.keys():
            raise ValueError(f"recipe names used twice: {', '.join(sorted(twice))}")
        joined |= part
    return joined


RECIPES: dict[str, Recipe] = _joined(
    (everyday.RECIPES, pretrain.RECIPES, dense.RECIPES, imagenet.RECIPES, roadmap.RECIPES, coco.RECIPES, ade20k.RECIPES)
)


# The recipe for a task where the user names none: the first that is fitted to the data.
EVERYDAY: dict[TaskName, str] = {
    recipe.task: name for name, recipe in reversed(RECIPES.items()) if recipe.derive != "none"
}


def list_recipes() -> list[str]:
    """Every recipe name, the everyday ones first."""
    return list(RECIPES)


def get_recipe(name: str | Path, /, **overrides: object) -> Recipe:
    """A recipe by name, or from a recipe.json or the run folder that holds one, with fields replaced.

    Nested fields are written `optim__lr=1e-3` or `**{"optim.lr": 1e-3}`. Raises UserError for an unknown name or field,
    naming the nearest, and for a file that is no recipe.
    """
    recipe = RECIPES.get(str(name)) or _read(Path(name))
    return override(recipe, {field.replace("__", "."): value for field, value in overrides.items()})


def apart(recipe: Recipe, settings: Settings) -> tuple[Recipe, Settings]:
    """A recipe value as the one of its name and what differs from it, `settings` included; others as they are."""
    named = RECIPES.get(recipe.name)
    if named is None or recipe.derive != "none" or named.derive != "none":
        return recipe, settings
    return named, differing(recipe, named) | settings


def folder_of(recipe: str | Path) -> Path:
    """The folder of a run, named by itself or by its recipe.json."""
    return Path(recipe) if Path(recipe).is_dir() else Path(recipe).parent


def _read(path: Path) -> Recipe:
    file = path / RECIPE_FILE if path.is_dir() else path
    if not file.is_file():
        raise UserError(_unknown(path))
    try:
        return from_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read a recipe from {file}: {error}") from None
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def _unknown(path: Path) -> str:
    known = ", ".join(dict.fromkeys(name.replace("/", "/… ").split()[0] for name in RECIPES))
    if path.suffix == ".json" or path.exists():
        return f"no recipe at {path}; give a {RECIPE_FILE}, the folder of a run, or one of: {known}"
    near = get_close_matches(str(path), RECIPES, n=1, cutoff=0.5)
    return f"unknown recipe {str(path)!r}; " + (f"did you mean {near[0]!r}?" if near else f"known: {known}")
