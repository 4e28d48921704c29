"""Keeps what a page of results needs of finished runs, and draws their curves side by side.

    python benchmarks/curves.py docs/imagenette.png "ConvNeXt-atto=runs/classify-1" "ResNet-18=runs/classify-2"

Of each run's log (or a .jsonl kept before) the first row, the evaluations and the end go to
benchmarks/results/<picture>-<n>.jsonl, absolute paths cut to their last part.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from convnext.reports.figures import plot_curves
from convnext.training.log import read

KEPT = ("start", "eval", "end", "comparison")


def main() -> None:
    picture, named = Path(sys.argv[1]), [word.split("=", 1) for word in sys.argv[2:]]
    logs: dict[str, Path | tuple[Path, str]] = {}
    found = [read(path if (path := Path(run)).suffix == ".jsonl" else path / "log.jsonl") for _, run in named]
    for i, ((name, _), log) in enumerate(zip(named, found, strict=True), 1):
        rows = [row for row in log if row["kind"] in KEPT]
        kept = Path(__file__).parent / "results" / f"{picture.stem}-{i}.jsonl"
        kept.parent.mkdir(exist_ok=True)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        kept.write_text(re.sub(r"(?<=[\s\"])/(?:[^/\s\"]+/)+", "", text))
        logs[name] = kept
    print(f"written to {plot_curves(logs, picture)} and {', '.join(map(str, logs.values()))}")


if __name__ == "__main__":
    main()
