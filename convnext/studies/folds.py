"""K runs on K folds of one folder: what its size lets be said of a recipe, as a mean and an interval.

    FOLDER/folds.json     what was asked for, and the figures of the folds that are finished
    FOLDER/fold-1/ …      a run folder each

Every picture is judged once, by a model that did not learn from it, and chooses nothing: of each run the last weights
count. The same command again goes on where it was.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import NotRequired, TypedDict

from .. import files
from ..errors import UserError
from ..recipes import recipe as recipes_io
from ..system.shares import accuracy_interval
from ..system.tables import Row, render
from ..tasks import task_slice
from ..training import log, run_folder

FILE = "folds.json"
Execute = Callable[[int, Path, bool], object]  # number of the fold, run folder, whether to resume


class Plan(TypedDict):
    """What was asked for."""

    data: str | None
    labels: str | None
    folds: int
    settings: dict[str, object]
    recipe: dict[str, object]  # as plain values
    pictures: str  # their fingerprint


class Summary(TypedDict):
    """The figures of the folds that are finished; the spread and the interval are of two or more."""

    metric: str
    folds: list[Row]  # the fold, how many pictures were judged, the metric by its name, the run
    mean: float | None
    unit: NotRequired[str]  # where it is not %
    std: NotRequired[float]
    interval: NotRequired[tuple[float, float]]  # 95 %


def choose(out: str | Path | None) -> Path:
    """The folder to work in; None: the next free runs/folds-<n>."""
    if out is not None:
        return Path(out)
    return next(path for n in itertools.count(1) if not (path := Path("runs") / f"folds-{n}").exists())


def run(folder: Path, plan: Plan, count: int, execute: Execute, say: Callable[[str], None]) -> Summary:
    """Finishes every fold that is not finished; returns, and writes, the figures.

    Raises UserError when `folder` holds other folds or anything else, before anything runs.
    """
    _open(folder, plan)
    with files.locked(folder):
        for number in range(1, count + 1):
            path = folder / f"fold-{number}"
            if not _finished(path):
                say(f"\nfold {number} of {count}")
                execute(number, path, (path / "recipe.json").exists())
            found = summary(folder, count)
            files.write_text(folder / FILE, json.dumps({"plan": plan, **found}, indent=2, ensure_ascii=False) + "\n")
    return found


def like_the_first(folder: Path, settings: recipes_io.Settings, say: Callable[[str], None]) -> recipes_io.Settings:
    """The settings of the next fold, with what was measured for the first one: whether its pictures are mirrored, and
    the number of steps, where minutes were asked for.

    Measured anew they could be others, and the mean would be of different recipes.
    """
    first = folder / "fold-1" / "recipe.json"
    recipe = recipes_io.from_json(first.read_text(encoding="utf-8")) if first.exists() else None
    if recipe is None:
        return settings
    if "augment." not in task_slice(recipe.task).unread:
        settings = {"augment.hflip": recipe.augment.hflip} | settings
    if recipe.minutes is None:
        return settings
    say(f"{recipe.steps:,} steps, as many as were measured for the first fold")
    same = {"steps": recipe.steps, "eval_every": recipe.eval_every, "ema": recipe.ema}
    return {name: value for name, value in settings.items() if name != "minutes"} | same


def summary(folder: Path, count: int) -> Summary:
    """A row for each finished fold, the mean of its metric, and a 95 % interval of it where there are two or more.

    Folds share training pictures, so their spread alone promises too much: its variance counts 1/K + 1/(K - 1) times
    (Nadeau and Bengio 2003), and no interval is narrower than that of so many pictures judged once, which are wholly
    right or not.
    """
    rows: list[Row] = []
    values: list[float] = []
    counts: list[int] = []
    right: list[float] = []
    name, unit = "", "%"
    for number in range(1, count + 1):
        if _finished(path := folder / f"fold-{number}"):
            row = run_folder.result(path).evaluations[-1]
            name, judged = row["metric"], log.judged(row)
            right += [judged[share] for share in ("exact_match", "top1") if share in judged][:1]
            unit = row.get("unit", "%")
            counts.append(int(judged["count"]))
            values.append(log.value_of(row))
            rows.append({"fold": number, "judged": counts[-1], name: values[-1], "run": str(path)})
    found: Summary = {"metric": name, "folds": rows, "mean": mean(values) if values else None}
    if unit != "%":
        found["unit"] = unit
    if len(values) > 1:
        found["std"], found["interval"] = stdev(values), _interval(values, counts, right)
    return found


def as_text(found: Summary, data: str) -> str:
    """The table of the folds, what they say together, and what to do with their models."""
    lines = [render(found["folds"], form="text"), ""]
    counts = (row["judged"] for row in found["folds"])
    name, judged = found["metric"], sum(count for count in counts if isinstance(count, int))
    low, high = found["interval"]
    percent = found.get("unit", "%") == "%"
    value, places = (f"{found['mean']:.1f} %", 1) if percent else (f"{found['mean']:.4f}", 4)
    average = f"{name}: {value} in the mean of {len(found['folds'])} folds"
    if len(found["folds"]) == 2:
        average += " (two say little of their spread: take --folds 5 for a narrower interval)"
    lines.append(
        f"{average}, 95 % interval {low:.{places}f} to {high:.{places}f}; each of {judged:,} pictures was "
        "judged once, by a model that did not learn from it, and chose nothing"
    )
    lines.append(
        "each run has its model; the one to use is trained once more, on all pictures, and will be about as "
        f"good: the same command without --folds, with --val-fraction 0 (convnext train {data} --val-fraction "
        "0 …)"
    )
    return "\n".join(lines)


def _interval(values: list[float], judged: list[int], right: list[float]) -> tuple[float, float]:
    """Of the mean of `values`; of so many pictures `judged` in each fold, `right` percent are wholly right.

    Empty where that can not be said of answers: then their spread alone speaks, of a figure that is at most 1.
    """
    from scipy.stats import t  # takes half a second to import

    count, middle = len(values), mean(values)
    half = float(t.ppf(0.975, count - 1)) * stdev(values) * math.sqrt(1 / count + 1 / (count - 1))
    if not right:
        return middle - half, min(1.0, middle + half)
    low, high = max(0.0, middle - half), min(100.0, middle + half)
    hits = sum(share * n / 100 for share, n in zip(right, judged, strict=True))
    least, most = accuracy_interval(hits, sum(judged))
    apart = middle - 100 * hits / sum(judged)  # of top-1 almost none: folds differ by a picture
    return max(0.0, min(low, least + apart)), min(100.0, max(high, most + apart))


def _finished(path: Path) -> bool:
    return (path / "log.jsonl").exists() and run_folder.finished(path)


def _open(folder: Path, plan: Plan) -> None:
    if (folder / FILE).exists():
        try:
            was = json.loads((folder / FILE).read_text(encoding="utf-8"))["plan"]
            was = {"pictures": plan["pictures"]} | was  # earlier versions did not keep them
            was["recipe"] = recipes_io.to_dict(recipes_io.from_dict(was["recipe"]))  # nor fields that are new
        except (ValueError, KeyError, TypeError, UserError) as error:
            raise UserError(f"{folder / FILE} is damaged ({error}); choose another --out") from None
        if _plain(was) == _plain(plan):
            return
        if any(folder.glob("fold-*/recipe.json")):
            if _plain(was | {"pictures": plan["pictures"]}) == _plain(plan):
                raise UserError(
                    f"the pictures have changed since the folds of {folder} were begun, so they would be "
                    "divided otherwise; bring back the same ones, or choose another --out"
                )
            raise UserError(f"{folder} holds other folds; repeat its own command to go on, or choose another --out")
        # Nothing was trained: the settings were refused.
    elif folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and holds no folds; choose another --out")
    files.make_writable_folder(folder)
    files.write_text(folder / FILE, json.dumps({"plan": plan}, indent=2, ensure_ascii=False) + "\n")


def _plain(plan: Mapping[str, object]) -> object:
    return json.loads(json.dumps(plan))
