"""Small data and settings that several rooms' tests share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixture_types import AsArguments, MakeDense, MakeMeasured, MakePictures, SameRun
from PIL import Image
from safetensors.torch import load_file

from convnext.detection.model import rcnn, roi_head

TIME_FIELDS = {"time_s", "images_per_s"}


@pytest.fixture
def pictures(tmp_path: Path) -> MakePictures:
    """Makes a folder with train/ and val/ of noisy plain pictures whose class is their colour."""

    def make(name: str = "data", train: int = 24, val: int = 7, classes: int = 3, size: int = 16) -> Path:
        rng = np.random.default_rng(0)
        for split, count in (("train", train), ("val", val)):
            for i in range(count):
                label = i % classes
                folder = tmp_path / name / split / f"class {label}"
                folder.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 200, (size, size, 3), dtype=np.uint8)
                pixels[..., label % 3] += 40
                Image.fromarray(pixels).save(folder / f"{i:03d}.png")
        return tmp_path / name

    return make


@pytest.fixture
def annotated(tmp_path: Path) -> MakeDense:
    """Makes a folder in COCO's layout: rectangles and triangles, each class of its own colour, ids with gaps."""

    def make(name: str = "coco", train: int = 8, val: int = 4, side: int = 64) -> Path:
        rng = np.random.default_rng(0)
        root = tmp_path / name
        categories = [{"id": 3, "name": "box"}, {"id": 17, "name": "wedge"}]
        for split, count in (("train2017", train), ("val2017", val)):
            (root / split).mkdir(parents=True)
            images: list[dict[str, Any]] = []
            objects: list[dict[str, Any]] = []
            for i in range(count):
                width, height = (side, side * 3 // 4) if i % 2 else (side * 3 // 4, side)
                pixels = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
                images.append({"id": 100 + i, "file_name": f"{i:03d}.png", "width": width, "height": height})
                for kind in range(1 + i % 2):
                    w, h = (int(v) for v in rng.integers(16, 30, 2))
                    x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
                    outline = [x, y, x + w, y, x + w, y + h, x, y + h] if kind == 0 else [x, y, x + w, y, x, y + h]
                    inside = np.add.outer(np.arange(h) / h, np.arange(w) / w) < (2 if kind == 0 else 1)
                    pixels[y : y + h, x : x + w, kind][inside] = 220
                    objects.append(
                        {
                            "id": len(objects) + 1,
                            "image_id": 100 + i,
                            "category_id": (3, 17)[kind],
                            "bbox": [x, y, w, h],
                            "area": w * h / (1 + kind),
                            "iscrowd": 0,
                            "segmentation": [outline],
                        }
                    )
                Image.fromarray(pixels).save(root / split / f"{i:03d}.png")
            (root / "annotations").mkdir(exist_ok=True)
            content = {"images": images, "annotations": objects, "categories": categories}
            (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        return root

    return make


@pytest.fixture
def masked(tmp_path: Path) -> MakeDense:
    """Makes a folder of pictures with masks: ground 0, a red disc 1, a green square 2, a strip of 255."""

    def make(name: str = "masks", train: int = 6, val: int = 3, side: int = 64) -> Path:
        rng = np.random.default_rng(0)
        root = tmp_path / name
        for split, count in (("train", train), ("val", val)):
            for part in ("images", "annotations"):
                (root / part / split).mkdir(parents=True)
            for i in range(count):
                width, height = (side, side * 3 // 4) if i % 2 == 0 else (side * 3 // 4, side)
                y, x = np.mgrid[:height, :width]
                labels = np.zeros((height, width), np.uint8)
                cx, cy = int(rng.integers(12, width - 12)), int(rng.integers(12, height - 12))
                labels[(x - cx) ** 2 + (y - cy) ** 2 < 100] = 1
                left, top = int(rng.integers(0, width - 16)), int(rng.integers(0, height - 16))
                labels[top : top + 14, left : left + 14] = 2
                colours = np.array([[60, 60, 60], [220, 40, 40], [40, 200, 40]], np.uint8)
                pixels = colours[labels] + rng.integers(0, 30, (height, width, 3), dtype=np.uint8)
                labels[:, -2:] = 255
                Image.fromarray(pixels).save(root / "images" / split / f"{i:03d}.png")
                Image.fromarray(labels).save(root / "annotations" / split / f"{i:03d}.png")
        return root

    return make


@pytest.fixture
def measured(tmp_path: Path) -> MakeMeasured:
    """Makes a folder of plain pictures with noise and a labels.csv: how bright each is, and how red.

    Of every seventh picture the second number is missing.
    """

    def make(name: str = "numbers", count: int = 40, size: int = 16, split: bool = False) -> Path:
        rng = np.random.default_rng(0)
        folder = tmp_path / name
        folder.mkdir()
        rows = ["path,brightness,redness" + (",split" if split else "")]
        for i in range(count):
            level = rng.uniform(30, 220, 3)
            pixels = np.clip(rng.normal(level, 12, (size, size, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:03d}.png")
            red = "" if i % 7 == 6 else f"{level[0] - level[2]:.3f}"
            part = ("," + ("val" if i % 4 == 3 else "train")) if split else ""
            rows.append(f"{i:03d}.png,{level.mean() / 255:.4f},{red}{part}")
        (folder / "labels.csv").write_text("\n".join(rows) + "\n")
        return folder

    return make


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """601 pictures with masks of two classes, and a third class in one of the masks."""
    root = tmp_path / "many"
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for i in range(601):
        values = np.array([[0, 1], [1, 2 if i == 300 else 0]], np.uint8)
        Image.fromarray(np.full((2, 2), i % 256, np.uint8) + np.uint8(i // 256)).save(root / "images" / f"{i:03d}.png")
        Image.fromarray(values).save(root / "masks" / f"{i:03d}.png")
    return root


@pytest.fixture
def tiny() -> dict[str, Any]:
    """Recipe settings of a network and a run that take a second; every random part of training is on."""
    return {
        "model": "convnext_atto",
        "depths": (1, 1, 2, 1),
        "dims": (8, 8, 16, 16),
        "patch_size": 1,
        "image_size": 16,
        "batch_size": 8,
        "steps": 12,
        "eval_every": 1,
        "save_every": 1,
        "workers": 0,
        "ema": 0.9,
        "drop_path": 0.2,
        "dropout": 0.1,
        "precision": "fp32",
        "optim.lr": 2e-3,
        "schedule.warmup_epochs": 0,
        "augment.mixup": 0.8,
        "augment.cutmix": 1.0,
        "augment.randaugment": 5.0,
        "augment.erase": 0.25,
    }


TINY_DENSE: dict[str, Any] = {
    "model": "convnext_atto",
    "depths": (1, 1, 1, 1),
    "dims": (8, 8, 16, 16),
    "layer_scale": 1.0,
    "weights": None,
    "image_size": 64,
    "batch_size": 2,
    "micro_batch": None,
    "workers": 0,
    "precision": "fp32",
    "drop_path": 0.1,
    "optim.lr": 1e-3,
}


@pytest.fixture
def detection_settings() -> dict[str, Any]:
    """Settings of a detector and a run that take seconds."""
    return TINY_DENSE | {"steps": 4, "detection.regions": 16, "eval_every": 0.5, "save_every": 0.5}


@pytest.fixture
def tiny_detection(detection_settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same, of a detector whose heads are a sixteenth as wide, in this process: 17 million parameters of heads take
    longer to draw and to write than the rest of such a run."""
    with pytest.MonkeyPatch.context() as patch:  # of its own: a test may undo what its own has changed
        patch.setattr(rcnn, "WIDTH", 16)
        patch.setattr(roi_head, "HIDDEN", 32)
        yield detection_settings


@pytest.fixture
def tiny_masks() -> dict[str, Any]:
    """Settings of a segmenter and a run that take seconds."""
    return TINY_DENSE | {"steps": 6, "segmentation.channels": 16, "eval_every": 1, "save_every": 1}


@pytest.fixture
def tiny_numbers(tiny: dict[str, Any]) -> dict[str, Any]:
    """Settings of a regressor and a run that take a second."""
    unread = ("augment.mixup", "augment.cutmix", "augment.randaugment", "augment.erase")
    return {name: value for name, value in tiny.items() if name not in unread} | {"weights": None}


@pytest.fixture
def as_arguments() -> AsArguments:
    """Settings as words of the command line."""

    def convert(settings: dict[str, Any]) -> list[str]:
        text = {k: ",".join(map(str, v)) if isinstance(v, tuple) else str(v) for k, v in settings.items()}
        return [word for name, value in text.items() for word in ("--set", f"{name}={value}")]

    return convert


@pytest.fixture
def same_run() -> SameRun:
    """Asserts that two run folders hold the same last checkpoint and, but for its time fields, the same log."""

    def compare(one: Path, other: Path) -> None:
        assert (one / "last").read_text() == (other / "last").read_text()
        step = (one / "last").read_text().strip()
        for name in ("raw.safetensors", "ema.safetensors"):
            assert (one / "checkpoints" / step / name).read_bytes() == (
                other / "checkpoints" / step / name
            ).read_bytes()
        judged = [run / "checkpoints" / step / "evaluation.json" for run in (one, other)]
        assert len({path.read_text() for path in judged}) == 1
        states = [torch.load(run / "checkpoints" / step / "state", weights_only=True) for run in (one, other)]
        assert _plain(states[0]) == _plain(states[1])
        assert _rows(one) == _rows(other)
        models = [load_file(run / "model.safetensors") for run in (one, other)]
        assert _plain(models[0]) == _plain(models[1])

    return compare


def _rows(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    rows = [{k: v for k, v in row.items() if k not in TIME_FIELDS} for row in rows]
    return [row for row in rows if row["kind"] != "start"]  # its command names the run's folder


def _plain(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
