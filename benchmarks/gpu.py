"""What is measured on a GPU machine; each part can be stopped and started again.

    python benchmarks/gpu.py roadmap imagenette-112 --out runs/roadmap-gpu
    python benchmarks/gpu.py tables --out benchmarks/results

roadmap: every step of the tiny regime at its full width and depth, three seeds, one recipe; table and picture beside
the runs. tables: Tables 1, 2 and 12 with images/s by the paper's protocol. Both need a GPU, unless `--anyway`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from convnext import api
from convnext.commands.paper import numbers
from convnext.paper import costs, figures
from convnext.system.tables import render

# The road at full size on pictures of 112 pixels: the paper's learning rate brought to this batch by the square-root
# rule; less mixing than the paper, and no drop path, erasing or RandAugment, as 30 epochs of 10,000 pictures are few.
FULL_WIDTH: dict[str, Any] = {
    "model": "roadmap:tiny/16", "image_size": 112, "batch_size": 256, "optim.lr": 1e-3, "augment.mixup": 0.2,
    "augment.cutmix": 1.0, "augment.mix_prob": 0.5, "schedule.warmup_epochs": 3, "save_every": 5,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anyway", action="store_true", help="run on a CPU too, to try the script")
    parts = parser.add_subparsers(dest="part", required=True)
    road = parts.add_parser("roadmap")
    road.add_argument("data")
    road.add_argument("--epochs", type=float, default=30)
    road.add_argument("--seeds", type=int, default=3)
    road.add_argument("--steps", default="0-16")
    road.add_argument("--out", type=Path, default=Path("runs/roadmap-gpu"))
    tables = parts.add_parser("tables")
    tables.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.anyway:
        sys.exit("benchmarks/gpu.py: there is no GPU here; --anyway tries the script on the CPU")
    {"roadmap": roadmap, "tables": published_tables}[options.part](options)


def roadmap(options: argparse.Namespace) -> None:
    settings = FULL_WIDTH | {"epochs": options.epochs, "eval_every": options.epochs}
    steps = numbers(options.steps, "--steps")
    rows = api.ablate(
        options.data, "roadmap/small", steps=steps, seeds=options.seeds, out=options.out, settings=settings, say=print
    )
    (options.out / "table.md").write_text(render(rows, form="markdown") + "\n", encoding="utf-8")
    print(render(rows))
    print(f"written to {options.out / 'table.md'} and {figures.plot_roadmap(rows, options.out / 'roadmap.png')}")


def published_tables(options: argparse.Namespace) -> None:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    options.out.mkdir(parents=True, exist_ok=True)
    for table in costs.TABLES:
        path = options.out / f"table-{table}-gpu.md"
        rows = costs.table_rows(table, say=print)
        path.write_text(f"{device}, torch {torch.__version__}\n\n{render(rows, form='markdown')}\n", encoding="utf-8")
        print(f"written to {path}")


if __name__ == "__main__":
    main()
