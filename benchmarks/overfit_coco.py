"""Does the detector learn? Twenty pictures of COCO, learned by heart: AP50 and AP of boxes and masks on those pictures.

    python benchmarks/overfit_coco.py COCO OUT [--epochs 120]

COCO is a folder in COCO's layout; the first twenty training images with one to four objects, no crowd, and no object
below 24 pixels are taken. OUT gets the annotations of these (data/) and the run (run/).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from convnext import api
from convnext.detection.coco_format import AnnotationRow, CocoContent
from convnext.detection.data import open_detection

IMAGES, MOST_OBJECTS, SMALLEST = 20, 4, 24
SETTINGS: dict[str, Any] = {
    "model": "convnext_atto", "weights": None, "init": "fan_in", "layer_scale": 0.1, "drop_path": 0.0,
    "image_size": 256, "batch_size": 4, "micro_batch": 4, "optim.layer_decay": None, "optim.lr": 4e-4,
    "detection.crop": False, "detection.short_sides": (800,), "eval_every": 20, "save_every": 20,
}  # fmt: skip


def chosen(content: CocoContent) -> list[int]:
    """Ids of the images to learn by heart."""
    objects: dict[int, list[AnnotationRow]] = defaultdict(list)
    for row in content["annotations"]:
        objects[row["image_id"]].append(row)
    fit = [
        image
        for image, rows in objects.items()
        if len(rows) <= MOST_OBJECTS
        and not any(row["iscrowd"] for row in rows)
        and min(min(row["bbox"][2:]) for row in rows) >= SMALLEST
    ]
    return sorted(fit)[:IMAGES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("coco", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=float, default=120)
    options = parser.parse_args()
    source = open_detection(options.coco).train
    ids = chosen(source.raw)
    part = source.take([source.image_ids.index(i) for i in ids])
    content = part.raw | {
        "images": [
            row | {"file_name": str((part.folder / str(row["file_name"])).resolve())} for row in part.raw["images"]
        ]
    }
    folder = options.out / "data" / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        (folder / f"instances_{split}.json").write_text(json.dumps(content))
    print(f"images: {', '.join(map(str, ids))}")
    settings = SETTINGS | {"epochs": options.epochs}
    result = api.train(options.out / "data", "coco/mask_rcnn/tiny", out=options.out / "run", settings=settings)
    for row in (row for row in result.history if row["kind"] == "eval"):
        figures = {name: round(row["raw"][name], 1) for name in ("box_ap", "box_ap50", "mask_ap", "mask_ap50")}
        print(f"epoch {row['epoch']:.0f}, {row['time_s'] / 60:.0f} min: {figures}")


if __name__ == "__main__":
    main()
