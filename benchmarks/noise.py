"""Does the interval on the page hold the truth? Many runs on pure noise, where the truth is known: one in K.

    python benchmarks/noise.py [--seeds 20] [--epochs 10] [--out FOLDER]

Each seed makes 180 pictures of noise in three classes, trains the default recipe on four fifths of them and asks for
the page's 95 % interval, which allows for the choice of the best evaluation. At least 18 of 20 must hold 33.3 %. Beside
it: how often the plain interval of the best evaluation would have held it, as the page gave it before.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from convnext import api
from convnext.system.shares import accuracy_interval
from convnext.training.log import judged, value_of

CLASSES, EACH, SIDE = 3, 60, 24
TRUTH = 100 / CLASSES


def noise(root: Path, seed: int) -> Path:
    """Class folders of pictures that say nothing about their class."""
    rng = np.random.default_rng(seed)
    for label in range(CLASSES):
        (root / f"class {label}").mkdir(parents=True)
        for i in range(EACH):
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"class {label}" / f"{i:03d}.png")
    return root


def measured(folder: Path, seed: int, epochs: float) -> tuple[float, float, tuple[float, float], tuple[float, float]]:
    """Best and last accuracy of a run, the page's interval, and the plain one of the best evaluation."""
    data = noise(folder / f"noise-{seed}", seed)
    settings = {"epochs": epochs, "seed": seed, "workers": 0}
    with contextlib.redirect_stdout(io.StringIO()):
        result = api.train(data, out=folder / f"run-{seed}", settings=settings, report=False)
    row = result.best
    count = int(judged(row)["count"])
    hits = round(result.metric * count / 100)
    page = accuracy_interval(hits, count, choices=result.choices)
    return result.metric, value_of(result.evaluations[-1]), page, accuracy_interval(hits, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        inside = plain = 0
        for seed in range(options.seeds):
            best, last, page, before = measured(options.out or Path(temporary), seed, options.epochs)
            inside += page[0] <= TRUTH <= page[1]
            plain += before[0] <= TRUTH <= before[1]
            print(
                f"seed {seed:2d}: best {best:5.1f}, last {last:5.1f}; the page: {page[0]:4.1f} to {page[1]:5.1f}, "
                f"plainly {before[0]:4.1f} to {before[1]:5.1f}",
                flush=True,
            )
        print(f"{inside} of {options.seeds} intervals hold {TRUTH:.1f} % (before: {plain})")


if __name__ == "__main__":
    main()
