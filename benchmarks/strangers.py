"""The default command on kinds of folder that it was not made for, beside what simpler methods reach there.

    python benchmarks/strangers.py [--pictures FOLDER] [--minutes 1] [--seeds 3] [--task classify] [--only …] [--again]
    python benchmarks/strangers.py --table            # what was measured so far, as Markdown

Each folder is made afresh and given to `convnext train FOLDER --minutes M` as a user would. Beside it: the most common
class (of masks: the most common value), logistic regression on the pixels (16 x 16, colour; of masks: on colour and
place of each pixel), and for classes ResNet-18 through the same loop for the same time. All are judged on the same
pictures. The rule: never below the most common class, never below logistic regression by more than chance, detections
better than none, and on noise the printed interval holds the chance level. Results go to benchmarks/results, a row for
each kind and seed; those that have a row are left out unless --again. FOLDER holds imagenette-112/ and camvid-320/;
kinds that need them are named and left out where it is missing.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
from stranger_folders import KINDS
from stranger_pictures import Folder

if TYPE_CHECKING:
    from convnext.data.source import Source
    from convnext.data.splits import Splits
    from convnext.segmentation.data import SegmentationSource

RESULTS = Path(__file__).parent / "results" / "strangers.json"
PICTURES = Path(__file__).parents[2] / "shared" / "data"
SIDE = 16  # pixels that logistic regression sees
PIXELS = 20_000  # of masks, that it learns from
METRICS = {"classify": "top1", "segment": "miou", "detect": "box_ap"}


@dataclass(frozen=True)
class Run:
    """One training: its folder, what it printed, exit code and seconds."""

    path: Path
    text: str
    code: int
    seconds: float

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        log = self.path / "log.jsonl"
        rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [row for row in rows if row["kind"] == "eval"]


def command(*words: str | Path, kill_after: float | None = None) -> tuple[str, int, float]:
    """Runs `convnext` as a user would; its output, exit code and seconds. SIGKILL after `kill_after` seconds."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "convnext", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        text, _ = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
    return text, process.returncode, time.perf_counter() - began


def trained(folder: Folder, out: Path, minutes: float, seed: int, *words: str) -> Run:
    """The default command on the folder, with the words that its kind brings."""
    length = [] if "--epochs" in folder.words else ["--minutes", f"{minutes:g}"]
    base = ["train", str(folder.data), *folder.words, *length, "--seed", str(seed), *words]
    if folder.start == "resume":
        command(*base, "--out", out, kill_after=0.6 * 60 * minutes)
        text, code, seconds = command("train", "--resume", "--out", out)
    elif folder.start and not words:
        recipe, first = folder.start.split(" ", 1)
        command("train", first, "--minutes", f"{minutes:g}", "--out", out.with_name("first"))
        weights = out.with_name("first") / "model.safetensors"
        text, code, seconds = command(*base, "--recipe", recipe, "--weights", weights, "--out", out)
    else:
        text, code, seconds = command(*base, "--out", out)
    return Run(out, text, code, seconds)


def simple_methods(folder: Folder) -> dict[str, float]:
    """The most common answer and logistic regression, in percent of the kind's metric, on the run's own split."""
    if folder.task == "detect":
        return {"majority": 0.0}
    if folder.task == "segment":
        return _of_masks(folder)
    from convnext.classification.data import open_data

    splits = open_data(folder.data, multi_label_csv=folder.labels)
    return _of_several(splits) if splits.train.multi_label else _of_classes(splits)


def _of_classes(splits: Splits[Source]) -> dict[str, float]:
    x, y, x_val, y_val = _seen(splits.train), splits.train.labels, _seen(splits.val), np.asarray(splits.val.labels)
    common = np.bincount(y).argmax()
    model = _logistic().fit(x, y)
    return {"majority": 100 * float((y_val == common).mean()), "logistic regression": 100 * model.score(x_val, y_val)}


def _of_several(splits: Splits[Source]) -> dict[str, float]:
    from sklearn.metrics import f1_score
    from sklearn.multiclass import OneVsRestClassifier

    count = len(splits.train.classes)
    y, y_val = (
        np.array([[c in row for c in range(count)] for row in part.labels if isinstance(row, tuple)])
        for part in (splits.train, splits.val)
    )
    found = OneVsRestClassifier(_logistic()).fit(_seen(splits.train), y).predict(_seen(splits.val))
    answers = {"majority": np.ones_like(y_val), "logistic regression": found}  # "yes to all" is what F1 likes best
    return {name: 100 * f1_score(y_val, value, average="macro", zero_division=0) for name, value in answers.items()}


def _of_masks(folder: Folder) -> dict[str, float]:
    from convnext.segmentation.data import open_masks

    splits = open_masks(folder.data)
    (x, y), (x_val, y_val) = (_pixels(part) for part in (splits.train, splits.val))
    model = _logistic().fit(x[:PIXELS], y[:PIXELS])
    common = np.full_like(y_val, np.bincount(y).argmax())
    answers = {"majority": common, "logistic regression": model.predict(x_val)}
    return {name: 100 * _miou(y_val, value, len(splits.train.classes)) for name, value in answers.items()}


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, C=0.01))


def _seen(source: Source) -> np.ndarray:
    """(N, 768) colours of the pictures at 16 x 16."""
    return np.stack([np.asarray(source[i].image.resize((SIDE, SIDE)), np.float32).ravel() for i in range(len(source))])


def _pixels(source: SegmentationSource) -> tuple[np.ndarray, np.ndarray]:
    """Colour and place of pixels drawn from all pictures, and their labels."""
    rng = np.random.default_rng(0)
    rows, labels = [], []
    for i in range(len(source)):
        sample = source[i]
        image, mask = np.asarray(sample.image, np.float32), np.asarray(sample.labels)
        y, x = (rng.integers(0, side, 500) for side in mask.shape)
        known = (mask[y, x] >= 0) & (mask[y, x] < len(source.classes))
        rows.append(np.column_stack([image[y, x], y, x])[known])
        labels.append(mask[y, x][known])
    order = rng.permutation(sum(map(len, labels)))
    return np.concatenate(rows)[order], np.concatenate(labels)[order].astype(np.int64)


def _miou(true: np.ndarray, found: np.ndarray, count: int) -> float:
    """Mean over the classes that occur."""
    shares = [
        ((true == c) & (found == c)).sum() / max(1, ((true == c) | (found == c)).sum())
        for c in range(count)
        if (true == c).any()
    ]
    return float(np.mean(shares))


def measure(
    name: str, folder: Folder, minutes: float, work: Path, *, seed: int = 0, resnet: bool = True
) -> dict[str, Any]:
    """One run of a kind and what stands beside it; runs go below `work`."""
    minutes *= folder.times
    ours = trained(folder, work / "ours", minutes, seed)
    row: dict[str, Any] = {
        "kind": name,
        "seed": seed,
        "task": folder.task,
        "minutes": minutes,
        "code": ours.code,
        "seconds": round(ours.seconds, 1),
    }
    if ours.code:
        return row | {"verdict": f"exit code {ours.code}", "text": ours.text[-3000:].replace(str(work), "FOLDER")}
    row |= _figures(ours)
    row |= {key: round(value, 2) for key, value in simple_methods(folder).items()}
    if folder.task == "classify" and resnet:
        words = ("--model", "torchvision:resnet18")
        row["ResNet-18"] = _figures(trained(folder, work / "resnet", minutes, seed, *words)).get("best")
    row["chance"] = folder.chance
    return row | {"verdict": verdict(row)}


def _figures(run: Run) -> dict[str, Any]:
    """The best and the last evaluation, and how many there were; {} for a run that failed."""
    rows = run.evaluations
    if not rows:
        return {}
    best = [row for row in rows if row["best"]][-1]
    found = {
        "metric": best["metric"],
        "best": round(best["value"], 2),
        "last": round(rows[-1]["value"], 2),
        "evaluations": len(rows),
        "epochs": round(rows[-1]["epoch"], 1),
    }
    details = best[best["which"]]
    if "mean_class_accuracy" in details:
        found["mean class accuracy"] = round(details["mean_class_accuracy"], 2)
    return found | {"judged on": int(details.get("count", 0))}


def half_width(percent: float, count: int) -> float:
    """Half of a 95 % interval in percent, Wilson's."""
    p, z = percent / 100, 1.96
    return 100 * z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))


def verdict(row: dict[str, Any]) -> str:
    """ "holds", or what does not."""
    if row["task"] == "detect":
        return "holds" if row["best"] > 0 else "finds nothing"
    if row["chance"] is not None:
        allowed = half_width(row["chance"], row["judged on"]) * _selected(row["evaluations"])
        above = row["best"] - row["chance"]
        return "holds" if above <= allowed else f"{above:.1f} above chance on noise ({allowed:.1f} allowed)"
    if row["best"] < row["majority"] - 1e-9:
        return f"{row['majority'] - row['best']:.1f} below the most common answer"
    short = row["logistic regression"] - row["best"]
    if not row["judged on"]:
        return "holds" if short <= 0 else f"{short:.1f} below logistic regression"
    both = math.hypot(*(half_width(row[key], row["judged on"]) for key in ("best", "logistic regression")))
    return "holds" if short <= both else f"{short:.1f} below logistic regression ({both:.1f} is chance)"


def _selected(evaluations: int) -> float:
    """How much wider a 95 % interval is for the best of so many evaluations, as if each were of its own (Sidak)."""
    from scipy.stats import norm

    return float(norm.isf(0.5 * (1 - 0.95 ** (1 / evaluations)))) / 1.96


COLUMNS = ("best", "last", "mean class accuracy", "majority", "logistic regression", "ResNet-18")


def table(rows: list[dict[str, Any]]) -> str:
    """A line a kind: means over its seeds, with the least and the most of what the seeds move."""
    lines = [
        "| " + " | ".join(("kind", "metric", "judged on", "seeds", *COLUMNS, "verdict")) + " |",
        "|" + "---|" * (len(COLUMNS) + 5),
    ]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        cells = [kind, own[0].get("metric", ""), own[0].get("judged on", ""), len(own)]
        cells += [_over_seeds([row[column] for row in own if row.get(column) is not None]) for column in COLUMNS]
        lines.append("| " + " | ".join(map(str, (*cells, _verdicts(own)))) + " |")
    return "\n".join(lines)


def _over_seeds(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ({min(values):g} to {max(values):g})" if min(values) < max(values) else ""
    return f"{round(mean(values), 2):g}{spread}"


def _verdicts(rows: list[dict[str, Any]]) -> str:
    failed = [row["verdict"] for row in rows if row["verdict"] != "holds"]
    return "holds" if not failed else f"{len(failed)} of {len(rows)}: {failed[0]}"


def beside_resnet(rows: list[dict[str, Any]]) -> str:
    """On how many kinds the default is ahead and behind, by the means over the seeds that have both figures."""
    rows = [row for row in rows if row.get("best") is not None and row.get("ResNet-18") is not None]
    gaps = {
        kind: mean(row["best"] - row["ResNet-18"] for row in rows if row["kind"] == kind)
        for kind in dict.fromkeys(row["kind"] for row in rows if row.get("chance") is None)
    }
    if not gaps:
        return "no kind was measured beside ResNet-18"
    behind = "".join(f", {kind} {gap:+.2f}" for kind, gap in gaps.items() if gap < 0)
    return (
        f"beside ResNet-18, {len(gaps)} kinds of classes that are not noise: ahead on "
        f"{sum(gap > 0 for gap in gaps.values())}, by more than two points on {sum(gap > 2 for gap in gaps.values())}; "
        f"as good on {sum(gap == 0 for gap in gaps.values())}; behind: {behind.strip(', ') or 'none'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=PICTURES)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--task", help="kinds of this task: classify, segment or detect")
    options = parser.parse_args()
    if options.table:
        rows = _read(options.results)
        print(table(rows), beside_resnet(rows), sep="\n\n")
        return
    for seed in range(options.seeds):
        for name in [name for name in KINDS if options.only in name]:
            known = any((row["kind"], row["seed"]) == (name, seed) for row in _read(options.results))
            if options.again or not known:
                with tempfile.TemporaryDirectory() as work:
                    _run(name, seed, Path(work), options)
    rows = _read(options.results)
    failed = list(dict.fromkeys(row["kind"] for row in rows if row["verdict"] != "holds"))
    print(f"{len(rows)} runs measured; the rule does not hold for: {', '.join(failed) or 'none'}")
    print(beside_resnet(rows))


def _run(name: str, seed: int, work: Path, options: argparse.Namespace) -> None:
    """Measures a kind and writes its row; a kind that needs pictures which are not there is named."""
    (data := work / "data").mkdir()
    try:
        folder = KINDS[name](data, options.pictures)
    except FileNotFoundError as error:
        print(f"{name}: left out, it needs real pictures ({error.filename})")
        return
    if options.task not in (None, folder.task):
        return
    row = measure(name, folder, options.minutes, work, seed=seed)
    print(table([row]).splitlines()[-1], flush=True)
    rows = [
        one for one in _read(options.results) if one["kind"] in KINDS and (one["kind"], one["seed"]) != (name, seed)
    ]  # two may run at once
    building = options.results.with_suffix(".tmp")
    order = {kind: place for place, kind in enumerate(KINDS)}
    building.write_text(
        json.dumps(sorted([*rows, row], key=lambda one: (order[one["kind"]], one["seed"])), indent=1) + "\n"
    )
    building.replace(options.results)


def _read(path: Path) -> list[dict[str, Any]]:
    """Rows written before there were seeds are of seed 0."""
    found: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return [{"kind": row["kind"], "seed": 0} | row for row in found]


if __name__ == "__main__":
    main()
