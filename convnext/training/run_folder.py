"""The folder of a run: what it is opened with, what resuming needs from it, and what a finished one tells."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import nn

from .. import files
from ..data import folders
from ..data import splits as split_sets
from ..data.learned import Learned, LearnedBy, learned_from
from ..data.levels import levels_from
from ..data.request import DataRequest
from ..data.splits import Pictures, Splits
from ..errors import UserError
from ..recipes import RECIPES, folder_of
from ..recipes import recipe as recipes_io
from ..recipes.everyday import Choice
from ..recipes.recipe import Recipe, Settings
from ..weights.info import info_of
from . import changes, log
from .log import LogRow

Open = Callable[[DataRequest, Recipe], Splits[Pictures]]  # as tasks.open_data
PAGE = Path("report") / "index.html"
ON_RESUMING = ("micro_batch", "eval_batch", "workers", "grad_checkpointing")  # may change: each step stays what it was


@dataclass(frozen=True)
class RunResult:
    """What a training run left: its folder, the published weights' metric, and the rows of its log.

    The metric is that of the pictures that chose the weights, not a number where none were held out.
    """

    path: Path
    metric: float
    history: list[LogRow]

    @property
    def evaluations(self) -> list[LogRow]:
        return [row for row in self.history if row["kind"] == "eval"]

    @property
    def best(self) -> LogRow:
        """The row of the evaluation whose weights were published."""
        return [row for row in self.evaluations if row["best"]][-1]

    @property
    def unit(self) -> str:
        """Of the metric: "%", or "" of one without."""
        return str(self.best.get("unit", "%"))

    @property
    def choices(self) -> int:
        """How many weights the published ones were chosen from, by the pictures that they are quoted on."""
        if not self.best.get("chosen", True):
            return 1
        return sum(1 + (row.get("ema") is not None) for row in self.evaluations)

    @property
    def test(self) -> LogRow | None:
        """The row of the one evaluation on the test split, where there is one."""
        return next((row for row in self.history if row["kind"] == "test"), None)

    @property
    def judged_split(self) -> str:
        """Which pictures the published weights are judged on in the end, as a word before "images"."""
        return "validation" if self.test is None else "test"

    @property
    def headline(self) -> list[str]:
        """How good the published weights are, in sentences, the one that counts most first."""
        best, rows = self.best, self.evaluations
        weights = f"epoch {best['epoch']:.1f}, {'averaged (EMA)' if best['which'] == 'ema' else 'raw'} weights"
        pictures = int(log.judged(best).get("count", 0))
        on = "the validation pictures"
        if pictures:  # "these" are those that the page shows, and there the test pictures come first
            on = f"these {pictures:,} pictures" if self.test is None else f"the {pictures:,} validation pictures"
        unit, lines = self.unit, []
        if self.test is not None:
            lines.append(
                f"test {self.test['metric']}: {log.figure(log.value_of(self.test), unit)}, the published weights "
                f"on {self.test['count']:,} test pictures that chose nothing"
            )
        if best["value"] is None:
            lines.append(f"no picture was held out to judge on: the last weights are published ({weights})")
            return lines
        name, value, last = best["metric"], *(log.figure(log.value_of(row), unit) for row in (best, rows[-1]))
        if not best.get("chosen", True):
            lines.append(f"last {name}: {value} on {on}, which chose nothing ({weights})")
        elif len(rows) == 1:
            lines.append(f"best {name}: {value}, the one evaluation on {on} ({weights})")
        else:
            lines.append(f"best {name} of {len(rows)} evaluations on {on}: {value} ({weights}); the last: {last}")
        return lines

    @property
    def comparisons(self) -> list[tuple[str, float]]:
        """The metric that simpler methods reach on the same data; empty where none was tried."""
        rows = [row for row in self.history if row["kind"] == "comparison"]
        return [(row["method"], log.value_of(row)) for row in rows]


def choose(out: str | Path | None, recipe: Recipe, *, resume: bool) -> Path:
    """The folder to run in, which is not made yet (None: the next free runs/<recipe>-<n>).

    Raises UserError for one that holds anything already, unless it is to be resumed.
    """
    path = next(path for path in _numbered(recipe) if not path.exists()) if out is None else Path(out)
    if path.is_file():
        raise UserError(f"{path} is a file, not a folder; choose another --out")
    if not resume and path.exists() and _holds_anything(path):
        more = "pass --resume to continue that run, or " if (path / "recipe.json").exists() else ""
        raise UserError(f"{path} exists and is not empty; {more}choose another --out")
    return path


def require_outside(out: str | Path | None, data: str | Path | None) -> None:
    """UserError for results in the folder of the pictures, but in its runs/, which is no class: they would be learned.

    Of a data set by name, a file, and where no `out` is named there is nothing to mend.
    """
    if out is None or data is None or not (root := Path(data).expanduser()).is_dir():
        return
    place, root = Path(out).resolve(), root.resolve()
    if place.is_relative_to(root) and place != root and place.relative_to(root).parts[0] != folders.RUNS:
        raise UserError(
            f"{out} lies in the data folder {data}, where results would be taken for pictures; choose an "
            "--out outside of it"
        )


def make(path: Path, recipe: Recipe, *, numbered: bool) -> Path:
    """Makes the folder that was chosen; of a `numbered` one the next, where another run has taken it since."""
    if not numbered:
        files.make_writable_folder(path)
        return path
    files.make_writable_folder(path.parent)
    for free in _numbered(recipe):
        with contextlib.suppress(FileExistsError):
            free.mkdir()
            return free
    raise AssertionError("numbers do not end")


def _numbered(recipe: Recipe) -> Iterator[Path]:
    return (Path(folders.RUNS) / f"{recipe.name.replace('/', '-')}-{n}" for n in itertools.count(1))


def _holds_anything(path: Path) -> bool:
    """Whether there is more than what a run leaves that was stopped before it began."""
    names = {entry.name for entry in path.iterdir()}
    return bool(names - {files.LOCK_NAME, "classes.json", "log.jsonl", changes.PICTURES}) or (
        "log.jsonl" in names and not _just_begun(path)
    )


def _just_begun(path: Path) -> bool:
    return [row.get("kind") for row in log.read(path / "log.jsonl")] == ["start"]


def begin(
    path: Path,
    recipe: Recipe,
    request: DataRequest,
    splits: Splits[Pictures],
    choices: Sequence[Choice],
    machine: dict[str, str],
) -> None:
    """Writes recipe.json, classes.json and the first row of log.jsonl."""
    files.write_text(path / "classes.json", json.dumps(list(splits.val.classes), indent=2, ensure_ascii=False) + "\n")
    row = {
        "kind": "start",
        "step": 0,
        "data": splits.name,
        "request": asdict(request),
        "fingerprint": fingerprint(splits),
        "command": shlex.join(_command(path, request)),
        "machine": machine,
        "choices": [asdict(choice) for choice in choices],
    }
    changes.keep(path, splits)
    files.write_text(path / "log.jsonl", json.dumps(row) + "\n")
    files.write_text(path / "recipe.json", recipes_io.to_json(recipe))  # last: from here on the run can be resumed


def _command(path: Path, request: DataRequest) -> list[str]:
    """The words that train by a run's recipe on its pictures."""
    return ["convnext", "train", *request.arguments(), "--recipe", str(path / "recipe.json")]


def reopen(
    out: str | Path | None, request: DataRequest, settings: Settings, open_data: Open
) -> tuple[DataRequest, Splits[Pictures], Recipe]:
    """What the run in `out` was started with, to continue it; `request.data` says where its pictures are now, if moved.

    The recipe has the user's `settings`, which may say how a step is computed and nothing else (ON_RESUMING).
    Pictures may have been taken out since, as the message on a damaged one advises: then the splits are those of the
    start without them, and their note says so. Raises UserError when there is no run, when the pictures have changed
    otherwise, or for other settings: a run keeps its recipe.
    """
    if out is None:
        raise UserError("--resume needs --out, the folder of the run to continue")
    path = Path(out)
    if not (path / "recipe.json").exists() or not (path / "log.jsonl").exists():
        raise UserError(f"{path} holds no run to resume (no recipe.json and log.jsonl); start it without --resume")
    if others := [name for name in settings if name not in ON_RESUMING]:
        raise UserError(
            f"a resumed run keeps its recipe; leave out {', '.join(others)} or start a new run (what may "
            f"change is {', '.join(ON_RESUMING)}: memory and time, not what is learned)"
        )
    start = first_row(path)
    was = DataRequest(**start["request"])
    if request.data is not None:
        was = replace(was, data=request.data, labels=request.labels or was.labels)
    recipe = recipes_io.override(recipes_io.from_json((path / "recipe.json").read_text(encoding="utf-8")), settings)
    splits = open_data(was, recipe)
    if fingerprint(splits) != start["fingerprint"] and splits.test is not None:
        as_before = replace(was, test_chooses=True)
        with contextlib.suppress(UserError):
            if fingerprint(before := open_data(as_before, recipe)) == start["fingerprint"]:
                return as_before, before, recipe
    if fingerprint(splits) != start["fingerprint"]:
        splits = changes.as_started(path, splits)
    return was, splits, recipe


def change(path: Path, recipe: Recipe) -> list[Choice]:
    """Writes to recipe.json what a resumed run computes otherwise from here on; returns what has changed."""
    before = recipes_io.from_json((path / "recipe.json").read_text(encoding="utf-8"))
    changed = {name: getattr(recipe, name) for name in ON_RESUMING if getattr(recipe, name) != getattr(before, name)}
    if changed:
        files.write_text(path / "recipe.json", recipes_io.to_json(recipes_io.override(before, changed)))
    return [Choice(name, value, f"from here on; it was {getattr(before, name)}") for name, value in changed.items()]


def fingerprint(splits: Splits[Pictures]) -> str:
    """Equal exactly when a run would learn from, and be judged on, the same pictures."""
    return f"{split_sets.fingerprint(splits.train)} {split_sets.fingerprint(splits.val)}"


def is_of_other_data(recipe: str | Path | Recipe | None, splits: Splits[Pictures]) -> bool:
    """Whether `recipe` is the recipe.json of a run whose log says that it learned from other pictures than these.

    Where there is no log, nobody knows, and the file is taken at its word.
    """
    if recipe is None or isinstance(recipe, Recipe) or str(recipe) in RECIPES:
        return False
    try:
        return bool(first_row(folder_of(recipe))["fingerprint"] != fingerprint(splits))
    except (UserError, OSError):
        return False


def learned_by(model: nn.Module) -> LearnedBy:
    """What a model of `from_pretrained` says of the pictures it learned from, as the openers for judging take it."""
    info = info_of(model)
    learned = _data_of(info.metadata)
    known = _known_to(learned)
    fraction, trained_on = learned.get("val_fraction"), learned.get("learned_from")
    return LearnedBy(
        known and replace(known, levels=levels_from(info.preprocess.get("levels"))),
        trained_on if isinstance(trained_on, str) else None,
        fraction if isinstance(fraction, int | float) else DataRequest.val_fraction,
    )


def learning_record(
    pictures: Pictures, decoded: Pictures, val_fraction: float, earlier: Iterable[dict[str, str]]
) -> str:
    """What a checkpoint's metadata says of the pictures it learned from; `learned_by` reads it.

    `decoded` is the same in memory where it is; `earlier` the metadata of checkpoints that it went on from, whose
    pictures it knows as well.
    """
    record = learned_from(pictures, decoded)
    for metadata in earlier:
        record = record and record.joined(_known_to(_data_of(metadata)))
    values = {"learned_from": split_sets.fingerprint(pictures), "val_fraction": val_fraction}
    return json.dumps(values | ({} if record is None else {"pictures": record.to_dict()}))


def _data_of(metadata: dict[str, str]) -> dict[str, object]:
    try:
        values = json.loads(metadata.get("data", "{}"))
    except json.JSONDecodeError:
        values = None
    if not isinstance(values, dict):
        raise UserError("the checkpoint's metadata 'data' is damaged; train the model again or take another file")
    return values


def _known_to(learned: dict[str, object]) -> Learned | None:
    if "pictures" not in learned:
        return None
    try:
        return Learned.from_dict(learned["pictures"])
    except ValueError as error:
        raise UserError(
            f"the checkpoint's list of the pictures it learned from is damaged ({error}); take another copy of the file"
        ) from None


def first_row(path: Path) -> LogRow:
    """The row a run's log begins with. Raises UserError when the log is empty or not a log."""
    rows = log.read(path / "log.jsonl")
    if not rows or rows[0].get("kind") != "start" or not {"request", "fingerprint", "command"} <= rows[0].keys():
        raise UserError(
            f"{path / 'log.jsonl'} does not begin as the log of a run does; start a new run in another --out"
        )
    return rows[0]


def finished(path: Path) -> bool:
    return any(row["kind"] == "end" for row in log.read(path / "log.jsonl"))


def told_finished(path: Path) -> str:
    """What is said where a finished run is to be resumed: that nothing is left to do, and how to train for longer."""
    end = next(row for row in log.read(path / "log.jsonl") if row["kind"] == "end")
    epochs = result(path).evaluations[-1]["epoch"]
    request = DataRequest(**first_row(path)["request"])
    more = shlex.join([*_command(path, request), "--epochs", str(math.ceil(2 * epochs))])
    return (
        f"{path} is finished, at step {end['step']:,} of {end['steps']:,} ({epochs:.1f} epochs): nothing is left "
        f"to train. A longer run is a new one: {more}"
    )


def result(path: Path) -> RunResult:
    rows = log.read(path / "log.jsonl")
    best = [row for row in rows if row["kind"] == "eval" and row["best"]]
    return RunResult(path, log.value_of(best[-1]), rows)
