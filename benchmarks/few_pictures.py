"""Learning from few pictures: the default, from scratch and from the start that ships, beside ResNet-18 and others.

    python benchmarks/few_pictures.py [--pictures FOLDER] [--minutes 1] [--each 5 10 20 50] [--seeds 1] [--only WORDS]
    python benchmarks/few_pictures.py --road --each 50 --seen 40000
    python benchmarks/few_pictures.py --table         # what was measured so far, as Markdown
    python benchmarks/few_pictures.py --plot docs/few_pictures.png

Six sets of different kinds, each with so many pictures a class: letters in random colours on random grounds; things of
one colour, which is the class, whatever their shape; one texture of four grains; scikit-learn's digits; ten classes of
photographs; cats and dogs. A method is a way of `convnext train FOLDER --minutes M`; beside it is logistic regression
on the pixels. FOLDER holds imagenette-112/ and cats-vs-dogs-128/. Results go to benchmarks/results, a row for each.
`--road` takes networks between ResNet and ConvNeXt instead, the paper's steps at a quarter of the width and a third of
the depth, all from scratch under the recipe that ResNet-18 gets; `--seen` counts the length in pictures, not minutes.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from stranger_pictures import HUES, SHAPES, Folder, chosen_digits, digit, grains, photographs, put, shape
from strangers import PICTURES, Run, command, simple_methods

RESULTS = Path(__file__).parent / "results" / "few_pictures.json"
ROAD_RESULTS = RESULTS.with_name("few_pictures_road.json")
EACH = (5, 10, 20, 50)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WAYS: dict[str, tuple[str, ...]] = {
    "default": (),
    "scratch": ("--weights", "none"),
    "scratch, patches": ("--weights", "none", "--set", "stem=patch"),
    "probe": ("--recipe", "probe", "--weights", "starter"),
    "ResNet-18": ("--weights", "none", "--model", "torchvision:resnet18"),
}

ROAD_STEPS = (1, 2, 3, 4, 6, 7, 9, 13, 14, 15, 16)  # those between change one thing more than the one before
ROAD = {
    f"step {step}": ("--weights", "none", "--model", f"roadmap:tiny/{step}:width=0.25,depth=0.34")
    for step in ROAD_STEPS
}

Pictures = Iterator[tuple[str, str, Image.Image]]  # split, class, picture


def letters(each: int, held_out: int = 20) -> Pictures:
    """A to Z, 48 pixels, leaning a little, in a random colour on a smooth ground of two others."""
    rng = random.Random(0)
    for letter in LETTERS:
        for split, count in (("train", each), ("val", held_out)):
            for _ in range(count):
                yield split, letter, letter_on_ground(letter, rng)


def letter_on_ground(letter: str, rng: random.Random, side: int = 48) -> Image.Image:
    scale = 3
    first, second, colour = (np.array([rng.randint(0, 255) for _ in range(3)]) for _ in range(3))
    while min(abs(colour - first).sum(), abs(colour - second).sum()) < 150:
        colour = np.array([rng.randint(0, 255) for _ in range(3)])
    slope = np.linspace(0, 1, side * scale)[:, None]
    slope = slope * rng.random() + slope.T * rng.random()
    ground = first + (second - first) * np.clip(slope, 0, 1)[..., None]
    mask = Image.new("L", (side * scale,) * 2)
    font = ImageFont.load_default(side * scale * rng.uniform(0.5, 0.85))
    middle = (side * scale * rng.uniform(0.42, 0.58), side * scale * rng.uniform(0.42, 0.58))
    ImageDraw.Draw(mask).text(middle, letter, fill=255, font=font, anchor="mm")
    mask = mask.rotate(rng.gauss(0, 9), Image.Resampling.BILINEAR)
    whole = Image.fromarray(ground.astype(np.uint8))
    whole.paste(tuple(int(value) for value in colour), mask=mask)
    return whole.resize((side, side), Image.Resampling.BOX)


def hues(each: int, held_out: int = 30) -> Pictures:
    """The colour of a thing of any shape is its class, 48 pixels."""
    rng = random.Random(0)
    for name, colour in HUES.items():
        for split, count in (("train", each), ("val", held_out)):
            for _ in range(count):
                yield split, name, shape(rng.choice(SHAPES), colour, 48, rng)


def animals(real: Path, each: int, held_out: int = 200) -> Pictures:
    """Cats and dogs, short side 128."""
    for split, count in (("train", each), ("val", held_out)):
        for folder in sorted((real / "cats-vs-dogs-128" / split).iterdir()):
            paths = sorted(folder.iterdir())
            for path in random.Random(f"{split}{folder.name}").sample(paths, min(count, len(paths))):
                with Image.open(path) as image:
                    yield split, folder.name, image.convert("RGB")


SETS: dict[str, Callable[[Path, int], Pictures]] = {
    "letters": lambda real, each: letters(each),
    "hues": lambda real, each: hues(each),
    "grains": lambda real, each: grains(each, 60),
    "digits": lambda real, each: ((split, name, digit(i, 24)) for split, name, i in chosen_digits(each, 30)),
    "photographs": lambda real, each: photographs(real, 10, each, 40),
    "cats and dogs": animals,
}


def make(name: str, each: int, root: Path, real: Path) -> Folder:
    """Writes a set with so many training pictures a class below `root`."""
    for i, (split, label, image) in enumerate(SETS[name](real, each)):
        put(image, root / split / label / f"{i}.png")
    return Folder(root)


def measure(folder: Folder, way: tuple[str, ...], length: tuple[str, ...], seed: int, out: Path) -> dict[str, Any]:
    """The best and the last evaluation of one run."""
    words: list[str | Path] = ["train", folder.data, *way, *length]
    words += ["--seed", str(seed), "--no-report", "--out", out]
    run = Run(out, *command(*words))
    if run.code or not run.evaluations:
        raise SystemExit(f"{' '.join(map(str, words))}\n{run.text[-2000:]}")
    best = [row for row in run.evaluations if row["best"]][-1]
    last = run.evaluations[-1]
    return {
        "best": round(best["value"], 2),
        "last": round(last["value"], 2),
        "epochs": round(last["epoch"], 1),
        "seconds": round(run.seconds),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Means over the seeds of the best evaluation, a row a set and size."""
    ways = list(dict.fromkeys(row["way"] for row in rows))
    lines = ["| set | pictures a class | length | " + " | ".join(ways) + " |", "|" + "---|" * (3 + len(ways))]
    for key in dict.fromkeys((row["set"], row["each"], length_of(row)) for row in rows):
        cells = []
        for way in ways:
            values = [
                row["best"] for row in rows if (row["set"], row["each"], length_of(row), row["way"]) == (*key, way)
            ]
            spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
            cells.append(f"{mean(values):.1f}{spread}" if values else "")
        lines.append(f"| {key[0]} | {key[1]} | {key[2]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


COLOURS = {
    "default": "#0b6e4f",
    "scratch": "#7a9e3a",
    "probe": "#3a7ca5",
    "ResNet-18": "#c1440e",
    "logistic regression": "#8a8a8a",
}


def plot(rows: list[dict[str, Any]], target: Path) -> None:
    """A panel a set: mean top-1 over the pictures a class, of the ways that were measured in one minute."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), dpi=120, layout="constrained")
    for place, name in enumerate(SETS, 1):
        axes = figure.add_subplot(2, 3, place)
        for way, colour in COLOURS.items():
            own = [row for row in rows if (row["set"], row["way"], row.get("minutes")) == (name, way, 1.0)]
            sizes = sorted({row["each"] for row in own})
            if sizes:
                means = [mean(row["best"] for row in own if row["each"] == each) for each in sizes]
                axes.plot(sizes, means, "o-", color=colour, label=way, linewidth=2, markersize=4)
        axes.set(title=name, xscale="log", ylim=(0, 102))
        axes.set_xticks(ticks := sorted({row["each"] for row in rows if row["each"] <= 100}), [str(t) for t in ticks])
        axes.minorticks_off()
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if place > 3:
            axes.set_xlabel("pictures a class")
        if place % 3 == 1:
            axes.set_ylabel("top-1, %")
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    figure.savefig(target)


def length_of(row: dict[str, Any]) -> str:
    return f"{row['minutes']:g} min" if "minutes" in row else f"{row['seen']:,} seen"


def limits(folder: Folder, options: argparse.Namespace) -> tuple[str, ...]:
    """How long a run is, as words of the command; where pictures are counted, every evaluation is a fifth of it."""
    if options.seen is None:
        return ("--minutes", f"{options.minutes:g}")
    images = sum(1 for _ in (Path(folder.data) / "train").glob("*/*"))
    epochs = max(1, round(options.seen / images))
    return ("--epochs", str(epochs), "--set", f"eval_every={max(1, epochs // 5)}", "--set", "workers=0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=PICTURES)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seen", type=int, help="pictures that a run is shown, instead of --minutes")
    parser.add_argument("--road", action="store_true", help="networks between ResNet and ConvNeXt")
    parser.add_argument("--each", type=int, nargs="+", default=EACH)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="sets whose name holds this")
    parser.add_argument("--ways", nargs="+", metavar="WAY", help=f"{', '.join(WAYS)}; with --road {', '.join(ROAD)}")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    options = parser.parse_args()
    ways = ROAD if options.road else WAYS
    if unknown := [name for name in options.ways or () if name not in ways]:
        parser.error(f"{', '.join(unknown)}: not among {', '.join(ways)}")
    ways = {name: ways[name] for name in options.ways or ways}
    options.results = options.results or (ROAD_RESULTS if options.road else RESULTS)
    rows: list[dict[str, Any]] = json.loads(options.results.read_text()) if options.results.exists() else []
    if options.table:
        print(table(rows))
        return
    if options.plot:
        plot(rows, options.plot)
        return
    for name in [name for name in SETS if options.only in name]:
        for each in options.each:
            with tempfile.TemporaryDirectory() as work:
                folder = make(name, each, Path(work) / "data", options.pictures)
                common = {"set": name, "each": each}
                common |= {"minutes": options.minutes} if options.seen is None else {"seen": options.seen}
                for way, words in ways.items():
                    for seed in range(options.seeds):
                        row = common | {"way": way, "seed": seed}
                        if any(row.items() <= old.items() for old in rows):
                            continue
                        row |= measure(folder, words, limits(folder, options), seed, Path(work) / "run")
                        shutil.rmtree(Path(work) / "run")
                        print(row, flush=True)
                        rows.append(row)
                row = common | {"way": "logistic regression", "seed": 0}
                if not any(row.items() <= old.items() for old in rows):
                    found = simple_methods(replace(folder, task="classify"))
                    rows.append(row | {"best": round(found["logistic regression"], 2)})
            options.results.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
