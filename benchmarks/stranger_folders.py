"""Kinds of folder that the defaults were not tuned on: made here from drawn shapes, scikit-learn's digits and, where a
folder of real pictures is given, from those.

Each maker fills an empty folder and returns a `Folder`: what `convnext train` is pointed at, and with which words.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from stranger_pictures import (
    HUES,
    SHAPES,
    Folder,
    draw_shape,
    folder_of_boxes,
    folder_of_masks,
    folder_of_photographs,
    folder_of_shapes,
    folder_of_ten_digits,
    folder_of_two_digits,
    folder_of_wrong_labels,
    grains,
    photographs,
    put,
    shape,
    write_table,
)

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


# ---- classes: how many of each


@kind("imbalance 1:1")
def _balanced(root: Path, real: Path) -> Folder:
    return folder_of_two_digits(root, 120, 120)


@kind("imbalance 1:10")
def _tenth(root: Path, real: Path) -> Folder:
    return folder_of_two_digits(root, 1000, 100)


@kind("imbalance 1:60")
def _sixtieth(root: Path, real: Path) -> Folder:
    return folder_of_two_digits(root, 1200, 20, val=(300, 100))


@kind("imbalance 1:100")
def _hundredth(root: Path, real: Path) -> Folder:
    return folder_of_two_digits(root, 1200, 12)


@kind("10 pictures")
def _ten(root: Path, real: Path) -> Folder:
    return folder_of_shapes(root, ("disc", "cross"), 5, 50, 48)


@kind("30 pictures")
def _thirty(root: Path, real: Path) -> Folder:
    return folder_of_shapes(root, ("disc", "cross", "bar"), 10, 40, 48)


@kind("100 pictures")
def _hundred(root: Path, real: Path) -> Folder:
    return folder_of_ten_digits(root, 10)


@kind("1,000 pictures")
def _thousand(root: Path, real: Path) -> Folder:
    return replace(folder_of_ten_digits(root, 100), times=2)


@kind("20 pictures in all, no split")
def _twenty(root: Path, real: Path) -> Folder:
    rng = random.Random(0)
    for name in ("ring", "star"):
        for i in range(10):
            put(shape(name, HUES["red"], 64, rng), root / name / f"{i}.jpg")
    return Folder(root)


@kind("2 classes of photographs")
def _two_classes(root: Path, real: Path) -> Folder:
    return folder_of_photographs(root, real, 2, 200, 100, 64)


@kind("10 classes of photographs")
def _ten_classes(root: Path, real: Path) -> Folder:
    return replace(folder_of_photographs(root, real, 10, 100, 40, 64), times=2)


@kind("200 classes")
def _many_classes(root: Path, real: Path) -> Folder:
    return folder_of_shapes(root, SHAPES, 8, 2, 32, tuple(HUES))


# ---- pictures: how large, of which kind


@kind("8 pixels")
def _eight(root: Path, real: Path) -> Folder:
    return folder_of_ten_digits(root, 60, side=8)


@kind("24 pixels, 12 shapes")
def _small(root: Path, real: Path) -> Folder:
    return folder_of_shapes(root, SHAPES[:12], 40, 15, 24)


@kind("128 pixels")
def _usual(root: Path, real: Path) -> Folder:
    return folder_of_photographs(root, real, 4, 100, 50, 128)


@kind("400 pixels")
def _large(root: Path, real: Path) -> Folder:
    return folder_of_photographs(root, real, 4, 60, 40, 400)


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


@kind("10 % wrong labels")
def _tenth_wrong(root: Path, real: Path) -> Folder:
    return folder_of_wrong_labels(root, 0.1)


@kind("30 % wrong labels")
def _third_wrong(root: Path, real: Path) -> Folder:
    return folder_of_wrong_labels(root, 0.3)


@kind("duplicates across the split")
def _duplicates(root: Path, real: Path) -> Folder:
    folder_of_photographs(root, real, 3, 80, 40, 64)
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
        ground = tuple(rng.randint(20, 120) for _ in range(3))
        image = Image.new("RGB", (64, 64), ground)
        for name, (x, y) in zip(shown, rng.sample([(2, 2), (34, 2), (2, 34), (34, 34)], len(shown)), strict=True):
            draw_shape(ImageDraw.Draw(image), name, (x, y, 27), HUES[rng.choice(list(HUES))], ground)
        put(image, root / "pictures" / f"{i}.png")
        rows.append((f"pictures/{i}.png", ";".join(shown), "val" if i >= 300 else "train"))
    write_table(root / "labels.csv", ("path", "labels", "split"), rows)
    return Folder(root, labels=root / "labels.csv", times=2)


@kind("a table of labels, one each")
def _single_table(root: Path, real: Path) -> Folder:
    rng = random.Random(0)
    rows = []
    for i in range(300):
        name = SHAPES[i % 5]
        put(shape(name, HUES[rng.choice(list(HUES))], 48, rng), root / "all" / f"{i}.png")
        rows.append((f"all/{i}.png", name))
    write_table(root / "answers.csv", ("path", "label"), rows)
    return Folder(root, ("--labels", str(root / "answers.csv")), labels=root / "answers.csv")


# ---- from a checkpoint of ours, or of another length


@kind("finetune from a checkpoint of ours")
def _finetune(root: Path, real: Path) -> Folder:
    first, second = (
        folder_of_shapes(root / "first", SHAPES[:8], 60, 10, 48),
        folder_of_shapes(root / "second", SHAPES[8:14], 20, 20, 48),
    )
    return Folder(second.data, start=f"finetune {first.data}")


@kind("probe from a checkpoint of ours")
def _probe(root: Path, real: Path) -> Folder:
    first, second = (
        folder_of_shapes(root / "first", SHAPES[:8], 60, 10, 48),
        folder_of_shapes(root / "second", SHAPES[8:12], 10, 20, 48),
    )
    return Folder(second.data, start=f"probe {first.data}")


@kind("interrupted and resumed")
def _resumed(root: Path, real: Path) -> Folder:
    return Folder(folder_of_ten_digits(root, 40).data, start="resume")


@kind("shortened to 12 epochs")
def _shortened(root: Path, real: Path) -> Folder:
    return Folder(folder_of_ten_digits(root, 130).data, ("--epochs", "12"))


@kind("lengthened to 150 epochs")
def _lengthened(root: Path, real: Path) -> Folder:
    return Folder(folder_of_ten_digits(root, 20).data, ("--epochs", "150"))


# ---- masks and boxes


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
    return folder_of_masks(root, ("ground", *(f"thing{i}" for i in range(1, 60))), 80, 20, 96, 4)


@kind("boxes: few")
def _few_boxes(root: Path, real: Path) -> Folder:
    return folder_of_boxes(root, 60, 20, 160, 1, (0.3, 0.6), names=SHAPES[:1])


@kind("boxes: many")
def _many_boxes(root: Path, real: Path) -> Folder:
    return folder_of_boxes(root, 40, 10, 256, 40, (0.06, 0.12))


@kind("boxes: tiny")
def _tiny_boxes(root: Path, real: Path) -> Folder:
    return folder_of_boxes(root, 60, 20, 256, 6, (0.03, 0.06), names=SHAPES[:1])


@kind("boxes without outlines, as YOLO has them")
def _yolo(root: Path, real: Path) -> Folder:
    folder = folder_of_boxes(root / "coco", 60, 20, 160, 2, (0.3, 0.5), outlines=False)
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
