"""Kinds of folder that the defaults were not tuned on: made here from drawn shapes, scikit-learn's digits and, where a
folder of real pictures is given, from those.

Each maker fills an empty folder and returns a `Folder`: what `convnext train` is pointed at, and with which words.
"""

from __future__ import annotations

import csv
import json
import math
import random
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

Task = Literal["classify", "segment", "detect"]
HUES = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (50, 70, 200), "yellow": (220, 200, 40),
        "purple": (140, 50, 160), "orange": (240, 140, 30), "cyan": (40, 190, 200), "pink": (240, 130, 180),
        "brown": (120, 80, 40), "white": (240, 240, 240)}  # fmt: skip
SHAPES = ("disc", "ring", "square", "frame", "triangle", "hollow", "diamond", "cross", "plus", "star", "bar", "pillar",
          "half", "arrow", "ladder", "stripes", "dots", "corner", "wave", "moon")  # fmt: skip


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


Maker = Callable[[Path, Path], Folder]
KINDS: dict[str, Maker] = {}


def kind(name: str) -> Callable[[Maker], Maker]:
    """Registers a maker of (empty folder, folder of real pictures)."""

    def add(maker: Maker) -> Maker:
        if name in KINDS:
            raise ValueError(f"two kinds are called {name}")
        KINDS[name] = maker
        return maker

    return add


# ---- where pictures come from


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits, uint8 (8, 8), and what they are."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.images * (255 / 16)).astype(np.uint8), found.target


def digit(index: int, side: int) -> Image.Image:
    return Image.fromarray(digits()[0][index]).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")


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

    star = [
        (0.5 + r * math.sin(i * math.pi / 5), 0.5 - r * math.cos(i * math.pi / 5))
        for i in range(10)
        for r in [0.5 if i % 2 == 0 else 0.2]
    ]
    wave = [(x / 20, 0.4 + 0.25 * math.sin(x / 20 * 2 * math.pi)) for x in range(21)]
    polygons: dict[str, Sequence[tuple[float, float]]] = {
        "triangle": ((0.5, 0), (1, 1), (0, 1)),
        "hollow": ((0.5, 0), (1, 1), (0, 1)),
        "diamond": ((0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)),
        "star": star,
        "arrow": ((0, 0.35), (0.5, 0.35), (0.5, 0.1), (1, 0.5), (0.5, 0.9), (0.5, 0.65), (0, 0.65)),
        "corner": ((0, 0), (0.3, 0), (0.3, 0.7), (1, 0.7), (1, 1), (0, 1)),
        "wave": (*wave, *((x, y + 0.25) for x, y in reversed(wave))),
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
    boxes: dict[str, Sequence[tuple[float, float, float, float]]] = {
        "square": ((0, 0, 1, 1),),
        "frame": ((0, 0, 1, 1),),
        "plus": ((0.35, 0, 0.65, 1), (0, 0.35, 1, 0.65)),
        "bar": ((0, 0.35, 1, 0.65),),
        "pillar": ((0.35, 0, 0.65, 1),),
        "ladder": ((0, 0, 0.15, 1), (0.85, 0, 1, 1), (0, 0.2, 1, 0.32), (0, 0.68, 1, 0.8)),
        "stripes": ((0, 0, 1, 0.2), (0, 0.4, 1, 0.6), (0, 0.8, 1, 1)),
    }
    if name in polygons:
        draw.polygon(at(*polygons[name]), fill=colour)
        if name == "hollow":
            draw.polygon(at((0.5, 0.35), (0.75, 0.85), (0.25, 0.85)), fill=ground)
    elif name in boxes:
        for sides in boxes[name]:
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


def put(image: Image.Image, path: Path, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


# ---- classes: how many of each


def _two_digits(root: Path, common: int, rare: int, side: int = 24, val: tuple[int, int] = (150, 50)) -> Folder:
    """ "nine" is rare, any other digit is common; judged on three others to one nine."""
    _, target = digits()
    order = np.random.default_rng(0).permutation(len(target))
    for name, wanted, counts in (("nine", target == 9, (rare, val[1])), ("other", target != 9, (common, val[0]))):
        mine = [int(i) for i in order if wanted[i]]
        for split, part in (("val", mine[: counts[1]]), ("train", mine[counts[1] : counts[1] + counts[0]])):
            for i in part:
                put(digit(i, side), root / split / name / f"{i}.png")
    return Folder(root)


@kind("imbalance 1:1")
def _balanced(root: Path, real: Path) -> Folder:
    return _two_digits(root, 120, 120)


@kind("imbalance 1:10")
def _tenth(root: Path, real: Path) -> Folder:
    return _two_digits(root, 1000, 100)


@kind("imbalance 1:60")
def _sixtieth(root: Path, real: Path) -> Folder:
    return _two_digits(root, 1200, 20, val=(300, 100))


@kind("imbalance 1:100")
def _hundredth(root: Path, real: Path) -> Folder:
    return _two_digits(root, 1200, 12)


def chosen_digits(train: int, val: int) -> Iterator[tuple[str, str, int]]:
    """(split, class, place) of so many of each of scikit-learn's digits."""
    _, target = digits()
    order = np.random.default_rng(0).permutation(len(target))
    for one in range(10):
        mine = [int(i) for i in order if target[i] == one]
        for split, part in (("val", mine[:val]), ("train", mine[val : val + train])):
            yield from ((split, str(one), i) for i in part)


def grains(train: int, val: int) -> Iterator[tuple[str, str, Image.Image]]:
    """(split, class, picture) of filtered noise; a class is how long its grain is, and in which direction."""
    rng = np.random.default_rng(0)
    for name, (across, down) in {"fine": (2, 2), "wide": (4, 2), "tall": (2, 4), "coarse": (4, 4)}.items():
        for split, count in (("train", train), ("val", val)):
            for _ in range(count):
                small = rng.integers(60, 196, (64 // down + 2, 64 // across + 2), np.uint8)
                grain = Image.fromarray(small).resize((64 + 2 * across, 64 + 2 * down), Image.Resampling.BICUBIC)
                yield split, name, grain.crop((across, down, 64 + across, 64 + down))


def _ten_digits(root: Path, train: int, val: int = 30, side: int = 24) -> Folder:
    for split, label, i in chosen_digits(train, val):
        put(digit(i, side), root / split / label / f"{i}.png")
    return Folder(root)


def _shapes(root: Path, names: Sequence[str], train: int, val: int, side: int, hues: Sequence[str] = ("",)) -> Folder:
    """A class a shape (of any colour), or a class a shape and colour."""
    rng = random.Random(0)
    for name in names:
        for hue in hues:
            for split, count in (("train", train), ("val", val)):
                for i in range(count):
                    colour = HUES[hue or rng.choice(list(HUES))]
                    put(shape(name, colour, side, rng), root / split / f"{hue}{name}" / f"{i}.png")
    return Folder(root)


@kind("10 pictures")
def _ten(root: Path, real: Path) -> Folder:
    return _shapes(root, ("disc", "cross"), 5, 50, 48)


@kind("30 pictures")
def _thirty(root: Path, real: Path) -> Folder:
    return _shapes(root, ("disc", "cross", "bar"), 10, 40, 48)


@kind("100 pictures")
def _hundred(root: Path, real: Path) -> Folder:
    return _ten_digits(root, 10)


@kind("1,000 pictures")
def _thousand(root: Path, real: Path) -> Folder:
    return replace(_ten_digits(root, 100), times=2)


@kind("20 pictures in all, no split")
def _twenty(root: Path, real: Path) -> Folder:
    rng = random.Random(0)
    for name in ("ring", "star"):
        for i in range(10):
            put(shape(name, HUES["red"], 64, rng), root / name / f"{i}.jpg")
    return Folder(root)


@kind("2 classes of photographs")
def _two_classes(root: Path, real: Path) -> Folder:
    return _photographs(root, real, 2, 200, 100, 64)


@kind("10 classes of photographs")
def _ten_classes(root: Path, real: Path) -> Folder:
    return replace(_photographs(root, real, 10, 100, 40, 64), times=2)


@kind("200 classes")
def _many_classes(root: Path, real: Path) -> Folder:
    return _shapes(root, SHAPES, 8, 2, 32, tuple(HUES))


# ---- pictures: how large, of which kind


def _photographs(root: Path, real: Path, classes: int, train: int, val: int, side: int) -> Folder:
    for i, (split, name, image) in enumerate(photographs(real, classes, train, val)):
        put(image.resize((side, side), Image.Resampling.BICUBIC), root / split / name / f"{i}.jpg", quality=90)
    return Folder(root)


@kind("8 pixels")
def _eight(root: Path, real: Path) -> Folder:
    return _ten_digits(root, 60, side=8)


@kind("24 pixels, 12 shapes")
def _small(root: Path, real: Path) -> Folder:
    return _shapes(root, SHAPES[:12], 40, 15, 24)


@kind("128 pixels")
def _usual(root: Path, real: Path) -> Folder:
    return _photographs(root, real, 4, 100, 50, 128)


@kind("400 pixels")
def _large(root: Path, real: Path) -> Folder:
    return _photographs(root, real, 4, 60, 40, 400)


@kind("panoramas")
def _panoramas(root: Path, real: Path) -> Folder:
    """2000 x 250: the same photograph beside its mirror image until the strip is full."""
    for i, (split, name, image) in enumerate(photographs(real, 3, 50, 40)):
        piece = image.resize((250, 250))
        strip = Image.new("RGB", (2000, 250))
        for place in range(8):
            strip.paste(piece if place % 2 else piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (250 * place, 0))
        put(strip, root / split / name / f"{i}.jpg", quality=85)
    return Folder(root)


@kind("12-megapixel photographs")
def _megapixels(root: Path, real: Path) -> Folder:
    for i, (split, name, image) in enumerate(photographs(real, 2, 25, 25)):
        put(image.resize((4000, 3000)), root / split / name / f"IMG_{i:04}.JPG", quality=80)
    return Folder(root)


@kind("grey")
def _grey(root: Path, real: Path) -> Folder:
    for i, (split, name, image) in enumerate(photographs(real, 3, 100, 50)):
        put(image.convert("L"), root / split / name / f"{i}.png")
    return Folder(root)


@kind("RGBA")
def _transparent(root: Path, real: Path) -> Folder:
    rng = random.Random(0)
    for name in ("ring", "star", "corner"):
        for split, count in (("train", 60), ("val", 40)):
            for i in range(count):
                image = shape(name, HUES[rng.choice(list(HUES))], 64, rng)
                image.putalpha(Image.new("L", image.size, 255).filter(ImageFilter.GaussianBlur(3)))
                put(image, root / split / name / f"{i}.png")
    return Folder(root)


@kind("16-bit grey")
def _sixteen_bits(root: Path, real: Path) -> Folder:
    for i, (split, name, image) in enumerate(photographs(real, 3, 100, 50)):
        values = np.asarray(image.convert("L").resize((64, 64))).astype(np.uint16) * 257
        put(Image.fromarray(values), root / split / name / f"{i}.png")
    return Folder(root)


@kind("12-bit values in 16-bit files")
def _twelve_bits(root: Path, real: Path) -> Folder:
    for i, (split, name, image) in enumerate(photographs(real, 3, 100, 50)):
        values = np.asarray(image.convert("L").resize((64, 64))).astype(np.uint16) * 16
        put(Image.fromarray(values), root / split / name / f"{i}.png")
    return Folder(root)


# ---- labels: wrong, several, in a table, of nothing


def _mislabelled(root: Path, share: float) -> Folder:
    """The training pictures of the ten digits, `share` of them in the folder of another digit."""
    _ten_digits(root, 100)
    rng = random.Random(0)
    paths = sorted((root / "train").rglob("*.png"))
    for path in rng.sample(paths, round(share * len(paths))):
        other = rng.choice([str(c) for c in range(10) if str(c) != path.parent.name])
        path.rename(root / "train" / other / f"wrong-{path.name}")
    return Folder(root)


@kind("10 % wrong labels")
def _tenth_wrong(root: Path, real: Path) -> Folder:
    return _mislabelled(root, 0.1)


@kind("30 % wrong labels")
def _third_wrong(root: Path, real: Path) -> Folder:
    return _mislabelled(root, 0.3)


@kind("duplicates across the split")
def _duplicates(root: Path, real: Path) -> Folder:
    _photographs(root, real, 3, 80, 40, 64)
    for name in sorted(path.name for path in (root / "train").iterdir()):
        for path in sorted((root / "train" / name).iterdir())[:20]:
            (root / "val" / name / f"again-{path.name}").write_bytes(path.read_bytes())
    return Folder(root)


@kind("pure noise")
def _noise(root: Path, real: Path) -> Folder:
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("val", 40)):
        for name in "abc":
            for i in range(count):
                put(Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)), root / split / name / f"{i}.png")
    return Folder(root, chance=100 / 3)


@kind("pure noise, no split")
def _noise_whole(root: Path, real: Path) -> Folder:
    rng = np.random.default_rng(1)
    for name in "ab":
        for i in range(100):
            put(Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)), root / name / f"{i}.png")
    return Folder(root, chance=50.0)


@kind("fine-grained: one texture, four grains")
def _texture(root: Path, real: Path) -> Folder:
    numbers: Counter[tuple[str, str]] = Counter()
    for split, name, image in grains(80, 40):
        put(image, root / split / name / f"{numbers[split, name]}.png")
        numbers[split, name] += 1
    return Folder(root)


@kind("signs that a mirror makes into others")
def _arrows(root: Path, real: Path) -> Folder:
    """Arrows to the right and to the left, of any colour."""
    rng = random.Random(0)
    for split, each in (("train", 25), ("val", 50)):
        for name in ("left", "right"):
            for i in range(each):
                image = shape("arrow", rng.choice(list(HUES.values())), 48, rng)
                put(ImageOps.mirror(image) if name == "left" else image, root / split / name / f"{i}.png")
    return Folder(root)


@kind("several labels a picture")
def _several(root: Path, real: Path) -> Folder:
    """Up to four shapes a picture, of any colour."""
    rng = random.Random(0)
    rows = []
    for i in range(400):
        shown = sorted(rng.sample(SHAPES[:5], rng.randint(1, 3)))
        image = Image.new("RGB", (64, 64), tuple(rng.randint(20, 120) for _ in range(3)))
        for name, (x, y) in zip(shown, rng.sample([(2, 2), (34, 2), (2, 34), (34, 34)], len(shown)), strict=True):
            draw_shape(ImageDraw.Draw(image), name, (x, y, 27), HUES[rng.choice(list(HUES))], image.getpixel((0, 0)))
        put(image, root / "pictures" / f"{i}.png")
        rows.append((f"pictures/{i}.png", ";".join(shown), "val" if i >= 300 else "train"))
    _table(root / "labels.csv", ("path", "labels", "split"), rows)
    return Folder(root, labels=root / "labels.csv", times=2)


@kind("a table of labels, one each")
def _single_table(root: Path, real: Path) -> Folder:
    rng = random.Random(0)
    rows = []
    for i in range(300):
        name = SHAPES[i % 5]
        put(shape(name, HUES[rng.choice(list(HUES))], 48, rng), root / "all" / f"{i}.png")
        rows.append((f"all/{i}.png", name))
    _table(root / "answers.csv", ("path", "label"), rows)
    return Folder(root, ("--labels", str(root / "answers.csv")), labels=root / "answers.csv")


def _table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])


# ---- from a checkpoint of ours, or of another length


@kind("finetune from a checkpoint of ours")
def _finetune(root: Path, real: Path) -> Folder:
    first, second = _shapes(root / "first", SHAPES[:8], 60, 10, 48), _shapes(root / "second", SHAPES[8:14], 20, 20, 48)
    return Folder(second.data, start=f"finetune {first.data}")


@kind("probe from a checkpoint of ours")
def _probe(root: Path, real: Path) -> Folder:
    first, second = _shapes(root / "first", SHAPES[:8], 60, 10, 48), _shapes(root / "second", SHAPES[8:12], 10, 20, 48)
    return Folder(second.data, start=f"probe {first.data}")


@kind("interrupted and resumed")
def _resumed(root: Path, real: Path) -> Folder:
    return Folder(_ten_digits(root, 40).data, start="resume")


@kind("shortened to 12 epochs")
def _shortened(root: Path, real: Path) -> Folder:
    return Folder(_ten_digits(root, 130).data, ("--epochs", "12"))


@kind("lengthened to 150 epochs")
def _lengthened(root: Path, real: Path) -> Folder:
    return Folder(_ten_digits(root, 20).data, ("--epochs", "150"))


# ---- masks and boxes


def _masked(root: Path, classes: Sequence[str], train: int, val: int, side: int, objects: int) -> Folder:
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


@kind("masks of two classes")
def _two_masks(root: Path, real: Path) -> Folder:
    rng = random.Random(0)
    for i in range(40):
        ground = tuple(rng.randint(90, 170) for _ in range(3))
        image, mask = Image.new("RGB", (96, 96), ground), Image.new("L", (96, 96), 0)
        size = rng.uniform(30, 60)
        place = (rng.uniform(0, 96 - size), rng.uniform(0, 96 - size), size)
        draw_shape(ImageDraw.Draw(image), rng.choice(SHAPES), place, (230, 230, 60), ground)
        draw_shape(ImageDraw.Draw(mask), "square", place, (255,), (0,))
        put(image, root / "images" / f"{i}.jpg", quality=90)
        put(mask, root / "masks" / f"{i}.png")
    return Folder(root, task="segment", times=2)


@kind("masks of eleven classes: street scenes")
def _street(root: Path, real: Path) -> Folder:
    import shutil

    for split in ("train", "val"):
        for part in ("images", "annotations"):
            for path in sorted((real / "camvid-320" / part / split).iterdir())[: 120 if split == "train" else 30]:
                target = root / part / split / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    return Folder(root, task="segment", times=2)


@kind("masks of 60 classes")
def _sixty_masks(root: Path, real: Path) -> Folder:
    return _masked(root, ("ground", *(f"thing{i}" for i in range(1, 60))), 80, 20, 96, 4)


def _boxed(
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
        images, annotations = [], []
        for i in range(count):
            ground = tuple(rng.randint(100, 160) for _ in range(3))
            image = Image.new("RGB", (side, side), ground)
            for _ in range(rng.randint(max(1, objects // 2), objects)):
                number = rng.randrange(len(names))
                size = max(4.0, side * rng.uniform(*share))
                x, y = rng.uniform(0, side - size), rng.uniform(0, side - size)
                draw_shape(ImageDraw.Draw(image), names[number], (x, y, size), HUES["blue"], ground)
                one = {"id": len(annotations) + 1, "image_id": i + 1, "category_id": number + 1, "iscrowd": 0}
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


@kind("boxes: few")
def _few_boxes(root: Path, real: Path) -> Folder:
    return _boxed(root, 60, 20, 160, 1, (0.3, 0.6), names=SHAPES[:1])


@kind("boxes: many")
def _many_boxes(root: Path, real: Path) -> Folder:
    return _boxed(root, 40, 10, 256, 40, (0.06, 0.12))


@kind("boxes: tiny")
def _tiny_boxes(root: Path, real: Path) -> Folder:
    return _boxed(root, 60, 20, 256, 6, (0.03, 0.06), names=SHAPES[:1])


@kind("boxes without outlines, as YOLO has them")
def _yolo(root: Path, real: Path) -> Folder:
    folder = _boxed(root / "coco", 60, 20, 160, 2, (0.3, 0.5), outlines=False)
    place = root / "yolo"
    for split in ("train", "val"):
        found = json.loads((folder.data / "annotations" / f"instances_{split}.json").read_text())
        for image in found["images"]:
            lines = []
            for one in found["annotations"]:
                if one["image_id"] == image["id"]:
                    x, y, w, h = (value / 160 for value in one["bbox"])
                    lines.append(f"{one['category_id'] - 1} {x + w / 2:.6f} {y + h / 2:.6f} {w:.6f} {h:.6f}")
            picture = Image.open(folder.data / split / image["file_name"])
            put(picture, place / "images" / split / image["file_name"], quality=95)
            label = place / "labels" / split / f"{Path(image['file_name']).stem}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("\n".join(lines) + "\n")
    names = "\n".join(f"  {i}: {name}" for i, name in enumerate(SHAPES[:3]))
    (place / "data.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames:\n{names}\n")
    return Folder(place, task="detect", times=3)
