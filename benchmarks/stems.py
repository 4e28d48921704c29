"""What of a stem lets ConvNeXt learn from few pictures: the last step of the road with one stem after another.

    python benchmarks/stems.py [--set letters] [--each 50] [--seen 40000] [--pictures FOLDER] [--only WORDS]

The network, recipe and sets are those of `few_pictures.py --road`, step 16 (ConvNeXt, a quarter of the width, a third
of the depth). `pool` is what `--set stem=pool` builds. Results go to benchmarks/results/stems.json, a row each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from few_pictures import SETS, make
from strangers import PICTURES
from torch import nn

from convnext import api
from convnext.models import roadmap
from convnext.models.layers import LayerNormFirst
from convnext.training.log import value_of

RESULTS = Path(__file__).parent / "results" / "stems.json"
NETWORK = "roadmap:tiny/16:width=0.25,depth=0.34"
Stem = Callable[[int], nn.Module]


def wide(channels: int) -> nn.Module:
    return nn.Conv2d(3, channels, 7, 2, 3)


STEMS: dict[str, Stem] = {
    "patches of 4": lambda c: nn.Sequential(nn.Conv2d(3, c, 4, 4), LayerNormFirst(c)),
    "two of 3 x 3, GELU between": lambda c: nn.Sequential(
        nn.Conv2d(3, c, 3, 2, 1), nn.GELU(), nn.Conv2d(c, c, 3, 2, 1), LayerNormFirst(c)
    ),
    "patches of 2, norm, GELU, max-pooling of 2": lambda c: nn.Sequential(
        nn.Conv2d(3, c, 2, 2), LayerNormFirst(c), nn.GELU(), nn.MaxPool2d(2, 2)
    ),
    "7 x 7, norm, GELU, average-pooling of 3": lambda c: nn.Sequential(
        wide(c), LayerNormFirst(c), nn.GELU(), nn.AvgPool2d(3, 2, 1)
    ),
    "7 x 7, norm, max-pooling of 3": lambda c: nn.Sequential(wide(c), LayerNormFirst(c), nn.MaxPool2d(3, 2, 1)),
    "pool: 7 x 7, norm, GELU, max-pooling of 3": lambda c: nn.Sequential(
        wide(c), LayerNormFirst(c), nn.GELU(), nn.MaxPool2d(3, 2, 1)
    ),
}


def measure(data: Path, stem: Stem, seen: int, seed: int, out: Path) -> dict[str, Any]:
    """The evaluations of one run; the road builds its networks with this stem meanwhile."""
    epochs = max(1, round(seen / sum(1 for _ in (data / "train").glob("*/*"))))
    settings = {"weights": None, "model": NETWORK, "epochs": epochs, "eval_every": max(1, epochs // 5), "workers": 0}
    with mock.patch.object(roadmap, "_stem", lambda plan, reading: stem(plan.width)):
        run = api.train(data, out=out, settings=settings | {"seed": seed}, report=False)
    values = [round(value_of(row), 2) for row in run.history if row["kind"] == "eval"]
    return {"epochs": epochs, "best": max(values), "last": values[-1], "curve": values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="letters", choices=list(SETS))
    parser.add_argument("--each", type=int, default=50)
    parser.add_argument("--seen", type=int, default=40_000, help="pictures that a run is shown")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=Path, default=PICTURES)
    parser.add_argument("--only", default="", help="stems whose name holds this")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for name in [name for name in STEMS if options.only in name]:
        row = {"set": options.set, "each": options.each, "seen": options.seen, "stem": name, "seed": options.seed}
        if any(row.items() <= old.items() for old in rows):
            continue
        with tempfile.TemporaryDirectory() as work:
            folder = make(options.set, options.each, Path(work) / "data", options.pictures)
            row |= measure(Path(folder.data), STEMS[name], options.seen, options.seed, Path(work) / "run")
        print(row, flush=True)
        rows.append(row)
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
