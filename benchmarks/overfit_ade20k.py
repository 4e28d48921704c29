"""Does the segmenter learn? A few pictures of ADE20K, learned by heart: mIoU over the classes in them.

    python benchmarks/overfit_ade20k.py SAMPLES OUT [--epochs 600]

SAMPLES is a folder with images/ and annotations/ in ADE20K's coding (0 is unlabelled, 1 to 150 are the classes). OUT
gets the same pictures as both splits (data/) and the run (run/).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from convnext import api

SETTINGS: dict[str, Any] = {
    "model": "convnext_atto", "weights": None, "init": "fan_in", "layer_scale": 0.1, "drop_path": 0.0,
    "image_size": 320, "batch_size": 3, "micro_batch": None, "optim.layer_decay": None, "optim.lr": 2e-3,
    "optim.muon": 4.0, "segmentation.channels": 128, "segmentation.scale": (1.0, 1.0), "segmentation.hflip": 0.0,
    "segmentation.photometric": False, "segmentation.most_of_one_class": 1.0, "segmentation.test": "slide",
    "eval_every": 50, "save_every": 50,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=float, default=600)
    options = parser.parse_args()
    data = options.out / "data"
    for part in ("images", "annotations"):
        for split in ("training", "validation"):
            shutil.copytree(options.samples / part, data / part / split)
    (data / "objectInfo150.csv").touch()  # says that these are ADE20K's classes
    settings = SETTINGS | {"epochs": options.epochs}
    result = api.train(data, "ade20k/upernet/tiny", out=options.out / "run", settings=settings)
    for row in (row for row in result.history if row["kind"] == "eval"):
        figures = {name: round(value, 1) for name, value in row["raw"].items()}
        print(f"epoch {row['epoch']:.0f}, {row['time_s'] / 60:.1f} min: {figures}")


if __name__ == "__main__":
    main()
