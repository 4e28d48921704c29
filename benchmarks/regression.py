"""Numbers from pictures, where the truth is known, beside ridge regression on the pixels and a ResNet-18.

    python benchmarks/regression.py [--pictures FOLDER] [--minutes 2] [--seeds 1] [--only WORDS] [--ways default]

Own data: the share of a picture that is sky; the angle of a bar (two targets, sine and cosine of twice the angle, which
a bar has no other description of), on grounds of any colour; how many discs there are. And the objects a picture of
coco-mini, counted from its annotations, where FOLDER holds it. Results go to benchmarks/results/regression.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from strangers import PICTURES, Run, command

RESULTS = Path(__file__).parent / "results" / "regression.json"
COUNT = 1000  # pictures of a set of our own, of which a fifth is held out
SIDE = 64
WAYS: dict[str, tuple[str, ...]] = {
    "default": (),
    "scratch": ("--weights", "none"),
    "ResNet-18": ("--weights", "none", "--model", "torchvision:resnet18"),
}
Rows = Iterator[tuple[str, Image.Image, dict[str, float]]]  # name, picture, its numbers


def colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def skies(rng: random.Random) -> tuple[Image.Image, dict[str, float]]:
    """Sky above hills, the line between them anywhere; each in shades of its own."""
    height = rng.uniform(0.1, 0.9) * SIDE
    waves = [(rng.uniform(1, 6), rng.uniform(0.5, 3), rng.uniform(0, 2 * math.pi)) for _ in range(3)]
    x = np.arange(SIDE)
    line = height + sum(size * np.sin(2 * math.pi * often * x / SIDE + start) for size, often, start in waves)
    sky = np.arange(SIDE)[:, None] < np.clip(line, 2, SIDE - 2)[None]
    blue = np.array([rng.randrange(90, 200), rng.randrange(140, 220), rng.randrange(200, 256)])
    ground = np.array([rng.randrange(20, 160), rng.randrange(40, 180), rng.randrange(0, 90)])
    pixels = np.where(sky[..., None], blue, ground) + np.random.default_rng(rng.randrange(2**32)).normal(
        0, 18, (SIDE, SIDE, 3)
    )
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), {"sky": float(sky.mean())}


def bars(rng: random.Random) -> tuple[Image.Image, dict[str, float]]:
    """A bar of any colour and place on a ground of another."""
    ground, own = colour(rng), colour(rng)
    while sum(abs(a - b) for a, b in zip(ground, own, strict=True)) < 150:
        own = colour(rng)
    angle, half = rng.uniform(0, math.pi), rng.uniform(14, 24)
    x, y = (rng.uniform(0.4, 0.6) * SIDE for _ in range(2))
    large = Image.new("RGB", (4 * SIDE, 4 * SIDE), ground)
    dx, dy = half * math.cos(angle), half * math.sin(angle)
    ends = [4 * (x - dx), 4 * (y - dy), 4 * (x + dx), 4 * (y + dy)]
    ImageDraw.Draw(large).line(ends, fill=own, width=4 * rng.randrange(4, 9))
    picture = large.resize((SIDE, SIDE), Image.Resampling.BOX)
    return picture, {"sine": math.sin(2 * angle), "cosine": math.cos(2 * angle)}


def discs(rng: random.Random) -> tuple[Image.Image, dict[str, float]]:
    """One to twelve discs of one size that do not touch, each of its own colour."""
    ground, wanted = colour(rng), rng.randrange(1, 13)
    radius = rng.uniform(3, 5)
    places: list[tuple[float, float]] = []
    for _ in range(3000):
        if len(places) == wanted:
            break
        x, y = (rng.uniform(radius + 1, SIDE - radius - 1) for _ in range(2))
        if all(math.hypot(x - a, y - b) > 2 * radius + 2 for a, b in places):
            places.append((x, y))
    large = Image.new("RGB", (4 * SIDE, 4 * SIDE), ground)
    for x, y in places:
        own = colour(rng)
        while sum(abs(a - b) for a, b in zip(ground, own, strict=True)) < 150:
            own = colour(rng)
        box = [4 * (x - radius), 4 * (y - radius), 4 * (x + radius), 4 * (y + radius)]
        ImageDraw.Draw(large).ellipse(box, fill=own)
    return large.resize((SIDE, SIDE), Image.Resampling.BOX), {"discs": float(len(places))}


def drawn(draw: Callable[[random.Random], tuple[Image.Image, dict[str, float]]]) -> Callable[[Path], Rows]:
    def rows(real: Path) -> Rows:
        for i in range(COUNT):
            yield f"{i:04d}.png", *draw(random.Random(i))

    return rows


def objects(real: Path) -> Rows:
    """How many objects a picture of coco-mini has, those of crowds not counted."""
    root = real / "coco-mini"
    for path in sorted((root / "annotations").glob("instances_*.json")):
        said = json.loads(path.read_text())
        counts = Counter(row["image_id"] for row in said["annotations"] if not row.get("iscrowd"))
        folder = path.stem.removeprefix("instances_")
        for image in said["images"]:
            place = next(
                one for one in (root / folder, root / "images" / folder) if (one / image["file_name"]).exists()
            )
            with Image.open(place / image["file_name"]) as picture:
                yield f"{folder}-{image['file_name']}", picture.convert("RGB"), {"objects": float(counts[image["id"]])}


SETS: dict[str, Callable[[Path], Rows]] = {
    "sky": drawn(skies), "bar": drawn(bars), "discs": drawn(discs), "objects of coco-mini": objects,
}  # fmt: skip


def make(name: str, root: Path, real: Path) -> None:
    """Writes a set's pictures and its labels.csv."""
    root.mkdir(parents=True)
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        for i, (file, picture, numbers) in enumerate(SETS[name](real)):
            if i == 0:
                table.writerow(["path", *numbers])
            picture.save(root / file)
            table.writerow([file, *numbers.values()])


def measure(data: Path, way: tuple[str, ...], minutes: float, seed: int, out: Path) -> dict[str, Any]:
    """The published weights' figures of one run, the last evaluation's R², and that of ridge regression."""
    words: list[str | Path] = ["train", data, "--recipe", "regress", *way, "--minutes", f"{minutes:g}"]
    words += ["--seed", str(seed), "--out", out]
    run = Run(out, *command(*words))
    if run.code or not run.evaluations:
        raise SystemExit(f"{' '.join(map(str, words))}\n{run.text[-2000:]}")
    best = [row for row in run.evaluations if row["best"]][-1]
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    ridge = next((row["value"] for row in rows if row["kind"] == "comparison"), None)
    figures = {name: round(value, 4) for name, value in best[best["which"]].items()}
    last = {"last r2": round(run.evaluations[-1]["value"], 4), "epochs": round(run.evaluations[-1]["epoch"], 1)}
    return {**figures, **last, "ridge": ridge and round(ridge, 4), "seconds": round(run.seconds)}


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| set | way | minutes | R² | MAE | Spearman | ridge's R² |", "|---|---|---|---|---|---|---|"]
    for key in dict.fromkeys((row["set"], row["way"], row["minutes"]) for row in rows):
        mine = [row for row in rows if (row["set"], row["way"], row["minutes"]) == key]
        cells = []
        for name in ("r2", "mae", "spearman", "ridge"):
            values = [row[name] for row in mine if row.get(name) is not None]
            spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
            cells.append(f"{mean(values):.3f}{spread}" if values else "")
        lines.append(f"| {key[0]} | {key[1]} | {key[2]:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=PICTURES)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="sets whose name holds this")
    parser.add_argument("--ways", nargs="+", metavar="WAY", default=["default"], help=", ".join(WAYS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if unknown := [name for name in options.ways if name not in WAYS]:
        parser.error(f"{', '.join(unknown)}: not among {', '.join(WAYS)}")
    rows: list[dict[str, Any]] = json.loads(options.results.read_text()) if options.results.exists() else []
    for name in [name for name in SETS if options.only in name]:
        with tempfile.TemporaryDirectory() as work:
            data = Path(work) / "data"
            make(name, data, options.pictures)
            for way in options.ways:
                for seed in range(options.seeds):
                    row = {"set": name, "way": way, "minutes": options.minutes, "seed": seed}
                    if any(row.items() <= old.items() for old in rows):
                        continue
                    row |= measure(data, WAYS[way], options.minutes, seed, Path(work) / f"{way}-{seed}")
                    print(row, flush=True)
                    rows.append(row)
                    options.results.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
