"""Several runs as one resumable whole: the roadmap's ablation, what its steps are worth, and its table.

    FOLDER/sweep.json               what was asked for: the data and the recipe of every run
    FOLDER/runs/step-07-seed-0/     a run folder each
    FOLDER/claims/step-07-seed-0/   the lock of the process that works on it

The same command in several terminals shares the work. Killed and started again, it goes on where it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import TypedDict, cast

from .. import files
from ..data.request import DataRequest
from ..errors import UserError
from ..models.roadmap import build
from ..paper import costs
from ..paper.figures import Bar
from ..recipes import recipe as recipes_io
from ..recipes.recipe import Recipe
from ..recipes.roadmap import STEPS, parse
from ..training import run_folder

Execute = Callable[[Recipe, Path, bool], object]  # recipe, run folder, whether to resume
_Measured = TypedDict(
    "_Measured",
    {
        "regime": str,
        "base": int | None,
        "seeds": int,
        "over base": float | None,
        "pairs": int,
        "std of pairs": float | None,
        "over base (paper)": float | None,
        "parameters": int,
    },
)


class StepRow(Bar, _Measured):
    """A row of `table`, which Figure 2 is drawn from, too."""


class Sweep(TypedDict):
    """What sweep.json holds: the request, and the recipe of each run by its name, as plain values."""

    request: dict[str, object]
    jobs: dict[str, dict[str, object]]


def run(
    folder: Path, request: DataRequest, jobs: dict[str, Recipe], execute: Execute, say: Callable[[str], None]
) -> None:
    """Finishes every job that is not finished and that no other process works on.

    Raises UserError when `folder` holds another sweep or anything else, before anything runs.
    """
    _open(folder, request, jobs)
    for number, (name, recipe) in enumerate(jobs.items(), 1):
        path, claim = folder / "runs" / name, folder / "claims" / name
        claim.mkdir(parents=True, exist_ok=True)
        try:
            with files.locked(claim):
                if not _finished(path):
                    say(f"[{number}/{len(jobs)}] {name}: {recipe.model}")
                    execute(recipe, path, (path / "recipe.json").exists())
        except UserError:
            if not _claimed(claim):
                raise


def table(folder: Path) -> list[StepRow]:
    """A row for each step that has a finished run: top-1 of its last evaluation, and what it adds to its base step.

    The difference is paired: the mean over the seeds that both have, with the standard deviation of the pairs.
    """
    recipes = {name: recipes_io.from_dict(values) for name, values in _read(folder)["jobs"].items()}
    scores: dict[int, dict[int, float]] = {}
    models: dict[int, Recipe] = {}
    regime = "tiny"
    for name, recipe in recipes.items():
        if _finished(folder / "runs" / name):
            regime, step, _ = parse(recipe.model)
            scores.setdefault(step, {})[recipe.seed] = _last_top1(folder / "runs" / name)
            models[step] = recipe
    return [_row(regime, step, scores, models[step]) for step in sorted(scores)]


def smallest_difference(rows: Sequence[StepRow]) -> float | None:
    """How far from 0 an "over base" of `table` has to be to be more than chance: 95 %, two-sided; None without pairs.

    Seeds are few, so the spread of pairs is pooled over the steps; of steps with fewer pairs the fewest count.
    """
    from scipy.stats import t  # takes half a second to import

    several = [(row["pairs"], spread) for row in rows if (spread := row["std of pairs"]) is not None]
    if not several:
        return None
    freedom = sum(pairs - 1 for pairs, _ in several)
    pooled = sum((pairs - 1) * spread**2 for pairs, spread in several) / freedom
    return float(t.ppf(0.975, freedom)) * math.sqrt(pooled / min(pairs for pairs, _ in several))


def unfinished(folder: Path) -> list[str]:
    """Names of the runs that are still to be made."""
    return [name for name in _read(folder)["jobs"] if not _finished(folder / "runs" / name)]


def _row(regime: str, step: int, scores: dict[int, dict[int, float]], recipe: Recipe) -> StepRow:
    row, mine = STEPS[regime][step], scores[step]
    _, _, reading = parse(recipe.model)
    cost = costs.count(lambda: build(regime, step, reading=reading), recipe.image_size)
    base = scores.get(row.base, {}) if row.base is not None else {}
    pairs = [mine[seed] - base[seed] for seed in sorted(mine.keys() & base.keys())]
    return {
        "regime": regime,
        "step": step,
        "change": row.name,
        "base": row.base,
        "seeds": len(mine),
        "top-1": mean(mine.values()),
        "std": _spread(list(mine.values())),
        "over base": mean(pairs) if pairs else None,
        "pairs": len(pairs),
        "std of pairs": _spread(pairs),
        "over base (paper)": row.top1 - STEPS[regime][row.base].top1 if row.base is not None else None,
        "MMACs": cost.multiply_adds / 1e6,
        "parameters": cost.parameters,
    }


def _spread(values: list[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def _last_top1(path: Path) -> float:
    """Of the last evaluation, not the best one: nothing is chosen on the pictures that judge."""
    rows = [row for row in run_folder.result(path).history if row["kind"] == "eval"]
    return float(rows[-1]["raw"]["top1"])


def _finished(path: Path) -> bool:
    return (path / "log.jsonl").exists() and run_folder.finished(path)


def _claimed(claim: Path) -> bool:
    try:
        with files.locked(claim):
            return False
    except UserError:
        return True


def _open(folder: Path, request: DataRequest, jobs: dict[str, Recipe]) -> None:
    plan = {"request": asdict(request), "jobs": {name: recipes_io.to_dict(recipe) for name, recipe in jobs.items()}}
    plan = json.loads(json.dumps(plan))
    if (folder / "sweep.json").exists():
        if _read(folder) != plan:
            raise UserError(f"{folder} holds another sweep; repeat its own command to go on, or choose another --out")
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} exists and holds no sweep; choose another --out")
    files.make_writable_folder(folder)
    files.write_text(folder / "sweep.json", json.dumps(plan, indent=2) + "\n")


def _read(folder: Path) -> Sweep:
    try:
        found = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{folder} holds no sweep.json; give the --out of convnext roadmap train") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{folder / 'sweep.json'} is damaged ({error}); choose another --out") from None
    return cast(Sweep, dict(found))
