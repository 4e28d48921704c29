"""What the package does, as digests: run it before and after a change that must change nothing, and compare.

    python benchmarks/behaviour.py before.json
    python benchmarks/behaviour.py after.json --against before.json

A seeded run of each task on tiny data made here (its log without times, recipe, weights and their metadata), what
`evaluate`, `predict`, `check` and `convert` say of it, tables of the paper, the help of each command: all by the
command line, so that the files inside may move as they like. The second form prints what differs; exit code 1 then.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NETWORK = ("model=convnext_atto", "depths=[1,1,2,1]", "dims=[8,8,16,16]", "precision=fp32", "workers=0")
TRAININGS: dict[str, tuple[str, ...]] = {
    "classify": ("classes", "--weights", "none", "--epochs", "3", "--batch-size", "8", "augment.mixup=0.8",
                 "augment.randaugment=5", "augment.erase=0.25", "drop_path=0.2", "ema=0.9", *NETWORK),
    "detect": ("coco", "--weights", "none", "--epochs", "2", "--batch-size", "2", "--image-size", "64",
               "detection.regions=16", "micro_batch=1", *NETWORK),
    "segment": ("masks", "--weights", "none", "--epochs", "2", "--batch-size", "2", "--image-size", "64",
                "segmentation.channels=8", *NETWORK),
}  # fmt: skip
ONE_PICTURE = {"classify": "classes/val", "detect": "coco/val2017", "segment": "masks/images/val"}
COMMANDS = ("train", "evaluate", "predict", "check", "convert", "models", "doctor", "bench", "roadmap", "robustness",
            "pretrain", "import-yolo")  # fmt: skip
TABLES: dict[str, tuple[str, ...]] = {
    "models": ("models",),
    "roadmap": ("roadmap", "show"),
    **{f"table {number}": ("bench", "--table", str(number), "--no-speed") for number in (1, 2, 3, 4, 5, 6, 7, 9, 12)},
}
UNLIKE = {"time_s", "images_per_s", "machine", "data_wait", "seconds"}  # of a log's rows
TIMES = re.compile(r"(\d+:)?\d+:\d\d left|[\d.,]+ images/s|[\d.]+ (s|ms|min)\b|\d+\.\d+ minutes?")


def classes(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 9)):
        for i in range(count):
            folder = root / split / f"class {i % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 200, (32, 32, 3), dtype=np.uint8)
            pixels[..., i % 3] += 50
            Image.fromarray(pixels).save(folder / f"{i:03d}.png")


def coco(root: Path) -> None:
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    for split, count in (("train2017", 6), ("val2017", 3)):
        (root / split).mkdir()
        images: list[dict[str, Any]] = []
        objects: list[dict[str, Any]] = []
        for i in range(count):
            pixels = rng.integers(0, 60, (48, 64, 3), dtype=np.uint8)
            x, y, w, h = int(rng.integers(0, 30)), int(rng.integers(0, 18)), 24, 20
            pixels[y : y + h, x : x + w, i % 2] = 220
            images.append({"id": 100 + i, "file_name": f"{i:03d}.png", "width": 64, "height": 48})
            objects.append(
                {
                    "id": i + 1,
                    "image_id": 100 + i,
                    "category_id": (3, 17)[i % 2],
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
            Image.fromarray(pixels).save(root / split / f"{i:03d}.png")
        content = {
            "images": images,
            "annotations": objects,
            "categories": [{"id": 3, "name": "box"}, {"id": 17, "name": "wedge"}],
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def masks(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for part in ("images", "annotations"):
            (root / part / split).mkdir(parents=True)
        for i in range(count):
            labels = np.zeros((48, 64), np.uint8)
            left, top = (int(v) for v in rng.integers(0, 30, 2))
            labels[top : top + 18, left : left + 20] = 1 + i % 2
            colours = np.array([[60, 60, 60], [220, 40, 40], [40, 200, 40]], np.uint8)
            pixels = colours[labels] + rng.integers(0, 30, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / split / f"{i:03d}.png")
            Image.fromarray(labels).save(root / "annotations" / split / f"{i:03d}.png")


def said(*words: str) -> str:
    """What a command prints, without times, and how it ends."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-m", "convnext", *words], capture_output=True, text=True, env=environment)
    text = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if "decoding" not in line)
    return f"{TIMES.sub('…', text)}\nexit code {done.returncode}"


def weights(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        values = hashlib.sha256()
        for name in sorted(file.keys()):
            values.update(name.encode() + file.get_tensor(name).tobytes())
        return {"tensors": values.hexdigest(), "metadata": json.dumps(file.metadata(), sort_keys=True)}


def log(path: Path) -> list[str]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [json.dumps({k: v for k, v in row.items() if k not in UNLIKE}, sort_keys=True) for row in rows]


def behaviour() -> dict[str, Any]:
    """All of it, in the current folder."""
    found: dict[str, Any] = {f"help {name}": said(name, "--help") for name in COMMANDS}
    found |= {name: said(*words) for name, words in TABLES.items()}
    for make in (classes, coco, masks):
        make(Path(make.__name__))
        found[f"check {make.__name__}"] = said("check", make.__name__)
    for task, (data, *rest) in TRAININGS.items():
        out = Path(f"run-{task}")
        words = [part for word in rest for part in (("--set", word) if "=" in word else (word,))]
        found[f"train {task}"] = said("train", data, *words, "--out", str(out))
        published = out / "model.safetensors"
        found[f"log {task}"] = log(out / "log.jsonl")
        found[f"recipe {task}"] = (out / "recipe.json").read_text()
        found[f"weights {task}"] = weights(published)
        found[f"files {task}"] = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
        found[f"resume {task}"] = said("train", "--resume", "--out", str(out))
        for form in ("", "--json", "--csv"):
            found[f"evaluate {task} {form}"] = said("evaluate", str(published), data, *filter(None, [form]))
            found[f"predict {task} {form}"] = said("predict", str(published), ONE_PICTURE[task], *filter(None, [form]))
        target = f"{task}.safetensors"
        naming = {"classify": "timm", "detect": "mmdet", "segment": "mmseg"}[task]
        found[f"convert {task}"] = said("convert", str(published), target, "--naming", naming)
        found[f"converted {task}"] = weights(Path(target))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    target, home = options.target.resolve(), Path.cwd()
    before = json.loads(options.against.read_text()) if options.against else None
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        found = behaviour()
        os.chdir(home)
    target.write_text(json.dumps(found, indent=1) + "\n")
    if before is None:
        return 0
    names = sorted(before.keys() | found.keys())
    if unlike := [name for name in names if before.get(name) != found.get(name)]:
        print(f"{len(unlike)} of {len(names)} differ: {', '.join(unlike)}")
        return 1
    print(f"{len(names)} of {len(names)} are equal")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
