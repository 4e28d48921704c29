"""The pictures that `strangers.py` and `few_pictures.py` learn from, drawn or taken from elsewhere, and folders of so
many of them."""

from __future__ import annotations

import csv
import json
import math
import random
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

Task = Literal["classify", "segment", "detect"]
HUES = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (50, 70, 200), "yellow": (220, 200, 40),
        "purple": (140, 50, 160), "orange": (240, 140, 30), "cyan": (40, 190, 200), "pink": (240, 130, 180),
        "brown": (120, 80, 40), "white": (240, 240, 240)}  # fmt: skip
SHAPES = ("disc", "ring", "square", "frame", "triangle", "hollow", "diamond", "cross", "plus", "star", "bar", "pillar",
          "half", "arrow", "ladder", "stripes", "dots", "corner", "wave", "moon")  # fmt: skip
STAR = [
    (0.5 + r * math.sin(i * math.pi / 5), 0.5 - r * math.cos(i * math.pi / 5))
    for i in range(10)
    for r in [0.5 if i % 2 == 0 else 0.2]
]
WAVE = [(x / 20, 0.4 + 0.25 * math.sin(x / 20 * 2 * math.pi)) for x in range(21)]
POLYGONS: dict[str, Sequence[tuple[float, float]]] = {
    "triangle": ((0.5, 0), (1, 1), (0, 1)),
    "hollow": ((0.5, 0), (1, 1), (0, 1)),
    "diamond": ((0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)),
    "star": STAR,
    "arrow": ((0, 0.35), (0.5, 0.35), (0.5, 0.1), (1, 0.5), (0.5, 0.9), (0.5, 0.65), (0, 0.65)),
    "corner": ((0, 0), (0.3, 0), (0.3, 0.7), (1, 0.7), (1, 1), (0, 1)),
    "wave": (*WAVE, *((x, y + 0.25) for x, y in reversed(WAVE))),
    "cross": (
        (0, 0.15),
        (0.15, 0),
        (0.5, 0.35),
        (0.85, 0),
        (1, 0.15),
        (0.65, 0.5),
        (1, 0.85),
        (0.85, 1),
        (0.5, 0.65),
        (0.15, 1),
        (0, 0.85),
        (0.35, 0.5),
    ),
}
BOXES: dict[str, Sequence[tuple[float, float, float, float]]] = {
    "square": ((0, 0, 1, 1),),
    "frame": ((0, 0, 1, 1),),
    "plus": ((0.35, 0, 0.65, 1), (0, 0.35, 1, 0.65)),
    "bar": ((0, 0.35, 1, 0.65),),
    "pillar": ((0.35, 0, 0.65, 1),),
    "ladder": ((0, 0, 0.15, 1), (0.85, 0, 1, 1), (0, 0.2, 1, 0.32), (0, 0.68, 1, 0.8)),
    "stripes": ((0, 0, 1, 0.2), (0, 0.4, 1, 0.6), (0, 0.8, 1, 1)),
}


@dataclass(frozen=True)
class Folder:
    """`data` is what train is pointed at; `words` follow it; `chance` is the accuracy of pure noise, where it is."""

    data: Path
    words: tuple[str, ...] = ()
    task: Task = "classify"
    chance: float | None = None
    labels: Path | None = None
    start: str | None = None  # "resume", or "finetune" or "probe" and a folder that a first run learns from
    times: float = 1.0  # the kind's minutes over the usual: pixels and boxes are dear without an accelerator


# ---- where pictures come from


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits, uint8 (8, 8), and what they are."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.images * (255 / 16)).astype(np.uint8), found.target


def digit(index: int, side: int) -> Image.Image:
    return Image.fromarray(digits()[0][index]).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")


def chosen_digits(train: int, val: int) -> Iterator[tuple[str, str, int]]:
    """(split, class, place) of so many of each of scikit-learn's digits."""
    _, target = digits()
    order = np.random.default_rng(0).permutation(len(target))
    for one in range(10):
        mine = [int(i) for i in order if target[i] == one]
        for split, part in (("val", mine[:val]), ("train", mine[val : val + train])):
            yield from ((split, str(one), i) for i in part)


def shape(name: str, colour: tuple[int, int, int], side: int, rng: random.Random) -> Image.Image:
    """One shape of one colour, somewhere, on a smooth ground of another colour."""
    scale = 4
    full = side * scale
    ground = tuple(rng.randint(20, 235) for _ in range(3))
    while sum(abs(a - b) for a, b in zip(ground, colour, strict=True)) < 120:
        ground = tuple(rng.randint(20, 235) for _ in range(3))
    image = Image.new("RGB", (full, full), ground)
    size = full * rng.uniform(0.4, 0.7)
    left, top = (rng.uniform(0.05 * full, 0.95 * full - size) for _ in range(2))
    draw_shape(ImageDraw.Draw(image), name, (left, top, size), colour, ground)
    image = image.resize((side, side), Image.Resampling.LANCZOS)
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 8, (side, side, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def draw_shape(
    draw: ImageDraw.ImageDraw,
    name: str,
    place: tuple[float, float, float],
    colour: tuple[int, ...],
    ground: tuple[int, ...],
) -> None:
    """Draws `name` into the square at (left, top) with side `size`."""
    left, top, size = place

    def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(left + x * size, top + y * size) for x, y in points]

    def box(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
        return at((x0, y0), (x1, y1))

    if name in POLYGONS:
        draw.polygon(at(*POLYGONS[name]), fill=colour)
        if name == "hollow":
            draw.polygon(at((0.5, 0.35), (0.75, 0.85), (0.25, 0.85)), fill=ground)
    elif name in BOXES:
        for sides in BOXES[name]:
            draw.rectangle(box(*sides), fill=colour)
        if name == "frame":
            draw.rectangle(box(0.2, 0.2, 0.8, 0.8), fill=ground)
    elif name == "dots":
        for x in (0, 0.36, 0.72):
            for y in (0, 0.36, 0.72):
                draw.ellipse(box(x, y, x + 0.28, y + 0.28), fill=colour)
    elif name == "half":
        draw.pieslice(box(0, 0, 1, 1), 180, 360, fill=colour)
    else:
        draw.ellipse(box(0, 0, 1, 1), fill=colour)
        if name == "ring":
            draw.ellipse(box(0.25, 0.25, 0.75, 0.75), fill=ground)
        elif name == "moon":
            draw.ellipse(box(0.3, -0.1, 1.2, 0.8), fill=ground)


def grains(train: int, val: int) -> Iterator[tuple[str, str, Image.Image]]:
    """(split, class, picture) of filtered noise; a class is how long its grain is, and in which direction."""
    rng = np.random.default_rng(0)
    for name, (across, down) in {"fine": (2, 2), "wide": (4, 2), "tall": (2, 4), "coarse": (4, 4)}.items():
        for split, count in (("train", train), ("val", val)):
            for _ in range(count):
                small = rng.integers(60, 196, (64 // down + 2, 64 // across + 2), np.uint8)
                grain = Image.fromarray(small).resize((64 + 2 * across, 64 + 2 * down), Image.Resampling.BICUBIC)
                yield split, name, grain.crop((across, down, 64 + across, 64 + down))


def photographs(real: Path, classes: int, train: int, val: int) -> Iterator[tuple[str, str, Image.Image]]:
    """(split, class, picture) of Imagenette at 112 pixels, `train` and `val` pictures a class."""
    with zipfile.ZipFile(real / "imagenette-112" / "imagenette-112.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".webp"))
        chosen = sorted({name.split("/")[-2] for name in names})[:classes]
        for split, count in (("train", train), ("val", val)):
            for one in chosen:
                mine = [name for name in names if name.split("/")[-3:-1] == [split, one]]
                for name in random.Random(f"{split}{one}").sample(mine, count):
                    with archive.open(name) as handle:
                        yield split, one, Image.open(handle).convert("RGB")


def put(image: Image.Image, path: Path, quality: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if quality is None:
        image.save(path)
    else:
        image.save(path, quality=quality)


# ---- folders of them


def folder_of_two_digits(
    root: Path, common: int, rare: int, side: int = 24, val: tuple[int, int] = (150, 50)
) -> Folder:
    """ "nine" is rare, any other digit is common; judged on three others to one nine."""
    _, target = digits()
    order = np.random.default_rng(0).permutation(len(target))
    for name, wanted, counts in (("nine", target == 9, (rare, val[1])), ("other", target != 9, (common, val[0]))):
        mine = [int(i) for i in order if wanted[i]]
        for split, part in (("val", mine[: counts[1]]), ("train", mine[counts[1] : counts[1] + counts[0]])):
            for i in part:
                put(digit(i, side), root / split / name / f"{i}.png")
    return Folder(root)


def folder_of_ten_digits(root: Path, train: int, val: int = 30, side: int = 24) -> Folder:
    for split, label, i in chosen_digits(train, val):
        put(digit(i, side), root / split / label / f"{i}.png")
    return Folder(root)


def folder_of_wrong_labels(root: Path, share: float) -> Folder:
    """The training pictures of the ten digits, `share` of them in the folder of another digit."""
    folder_of_ten_digits(root, 100)
    rng = random.Random(0)
    paths = sorted((root / "train").rglob("*.png"))
    for path in rng.sample(paths, round(share * len(paths))):
        other = rng.choice([str(c) for c in range(10) if str(c) != path.parent.name])
        path.rename(root / "train" / other / f"wrong-{path.name}")
    return Folder(root)


def folder_of_shapes(
    root: Path, names: Sequence[str], train: int, val: int, side: int, hues: Sequence[str] = ("",)
) -> Folder:
    """A class a shape (of any colour), or a class a shape and colour."""
    rng = random.Random(0)
    for name in names:
        for hue in hues:
            for split, count in (("train", train), ("val", val)):
                for i in range(count):
                    colour = HUES[hue or rng.choice(list(HUES))]
                    put(shape(name, colour, side, rng), root / split / f"{hue}{name}" / f"{i}.png")
    return Folder(root)


def folder_of_photographs(root: Path, real: Path, classes: int, train: int, val: int, side: int) -> Folder:
    for i, (split, name, image) in enumerate(photographs(real, classes, train, val)):
        put(image.resize((side, side), Image.Resampling.BICUBIC), root / split / name / f"{i}.jpg", quality=90)
    return Folder(root)


def folder_of_masks(root: Path, classes: Sequence[str], train: int, val: int, side: int, objects: int) -> Folder:
    """Shapes on a ground; the mask says which. Class 0 is the ground."""
    rng = random.Random(0)
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            ground = tuple(rng.randint(100, 160) for _ in range(3))
            image, mask = Image.new("RGB", (side, side), ground), Image.new("L", (side, side), 0)
            for _ in range(objects):
                number = rng.randrange(1, len(classes))
                size = side * rng.uniform(0.2, 0.4)
                place = (rng.uniform(0, side - size), rng.uniform(0, side - size), size)
                name, hue = SHAPES[number % len(SHAPES)], list(HUES.values())[number % len(HUES)]
                draw_shape(ImageDraw.Draw(image), name, place, hue, ground)
                draw_shape(ImageDraw.Draw(mask), name, place, (number,), (0,))
            put(image, root / "images" / split / f"{i}.jpg", quality=90)
            put(mask, root / "masks" / split / f"{i}.png")
    (root / "classes.txt").write_text("\n".join(classes) + "\n")
    return Folder(root, task="segment", times=3)


def folder_of_boxes(
    root: Path,
    train: int,
    val: int,
    side: int,
    objects: int,
    share: tuple[float, float],
    *,
    names: Sequence[str] = SHAPES[:3],
    outlines: bool = True,
) -> Folder:
    """COCO annotations of shapes; without `outlines` boxes alone."""
    rng = random.Random(0)
    for split, count in (("train", train), ("val", val)):
        images: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for i in range(count):
            ground = tuple(rng.randint(100, 160) for _ in range(3))
            image = Image.new("RGB", (side, side), ground)
            for _ in range(rng.randint(max(1, objects // 2), objects)):
                number = rng.randrange(len(names))
                size = max(4.0, side * rng.uniform(*share))
                x, y = rng.uniform(0, side - size), rng.uniform(0, side - size)
                draw_shape(ImageDraw.Draw(image), names[number], (x, y, size), HUES["blue"], ground)
                one: dict[str, object] = {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": number + 1,
                    "iscrowd": 0,
                }
                one |= {"bbox": [round(value, 2) for value in (x, y, size, size)], "area": size * size}
                if outlines:
                    one["segmentation"] = [[x, y, x + size, y, x + size, y + size, x, y + size]]
                annotations.append(one)
            put(image, root / split / f"{i}.jpg", quality=90)
            images.append({"id": i + 1, "file_name": f"{i}.jpg", "width": side, "height": side})
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
        file = root / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return Folder(root, task="detect", times=3)


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])
