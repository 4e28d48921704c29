"""What was found on the picture it was found in: boxes, masks, names, scores; the classes of all pixels."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .average_precision import mask_library
from .data.images import readable
from .data.mask_coding import IGNORED, MaskCoding
from .errors import UserError

# Colours that are told apart side by side, also by those who see few (Okabe and Ito, 2008); black and yellow left out
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (0, 114, 178), (213, 94, 0), (204, 121, 167))
MASK_SHARE = 0.45  # of a mask's colour in the picture
LABEL_SHARE = 0.55  # of a class's colour where every pixel has one
NAMED_FROM = 0.005  # share of the picture from which a class is named on it
TEXT_SHARE = 30  # the picture's short side over the height of letters
SMALLEST_TEXT = 11  # pixels


def targets(paths: Sequence[str], out: Path, endings: Sequence[str] = (".png",)) -> dict[str, Path]:
    """Where what is made of each picture goes: out/NAME.png, or out/FOLDER/NAME.png where names alone would meet.

    `endings` are of all files that a picture gives; the paths returned have the first. Raises UserError, before
    anything is written, where two pictures would share a file, or a file may be a picture of the user's.
    """
    files = {path: os.path.abspath(path) for path in paths}  # not resolved: a link keeps its own name
    names = {file: Path(file).stem for file in files.values()}
    if _shared(names):
        common = os.path.commonpath([os.path.dirname(file) for file in names])
        names = {file: os.path.splitext(os.path.relpath(file, common))[0] for file in names}
    if shared := _shared(names):
        one, other = (readable(file) for file in shared[:2])
        raise UserError(f"{one} and {other} would both be drawn as {out / names[shared[0]]}{endings[0]}; rename one")
    theirs = {os.path.realpath(file) for file in names}
    folders = {os.path.realpath(os.path.dirname(file)) for file in names}
    for name in names.values():
        for made in (out / f"{name}{ending}" for ending in endings):
            # Beside the pictures nobody can tell what an earlier run has drawn from what the user has put there.
            if os.path.realpath(made) in theirs or (os.path.realpath(made.parent) in folders and made.exists()):
                raise UserError(f"{readable(made)} is a picture already, which would be lost; choose another --out")
    return {path: out / f"{names[file]}{endings[0]}" for path, file in files.items()}


def _shared(names: dict[str, str]) -> list[str]:
    """The first files of one name, also where a file system ignores case; none when all differ."""
    groups = defaultdict(list)
    for file, name in names.items():
        groups[name.casefold()].append(file)
    return next((group for group in groups.values() if len(group) > 1), [])


def draw_objects(image: Image.Image, rows: Sequence[dict[str, Any]]) -> Image.Image:
    """A copy of the RGB image with each COCO result row on it; a class has one colour. The surest lie on top."""
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(sorted({row["class"] for row in rows}))}
    picture = image.copy()
    for row in reversed(rows):
        if "segmentation" in row:
            _tint(picture, row["segmentation"], colours[row["class"]])
    pen = ImageDraw.Draw(picture)
    height = max(SMALLEST_TEXT, min(image.size) // TEXT_SHARE)
    font = ImageFont.load_default(height)
    for row in reversed(rows):
        x, y, w, h = row["bbox"]
        pen.rectangle((x, y, x + w, y + h), outline=colours[row["class"]], width=max(1, height // 6))
    for row in reversed(rows):
        text = f"{row['class']} {row['score']:.2f}" if "score" in row else row["class"]
        low_x, low_y, high_x, high_y = pen.textbbox((0, 0), text, font=font)
        place = (row["bbox"][0], row["bbox"][1] - height)
        x, y = _on_picture(place, (low_x - 1, low_y - 1), (high_x + 1, high_y + 1), image.size)
        pen.rectangle((x + low_x - 1, y + low_y - 1, x + high_x + 1, y + high_y + 1), fill=colours[row["class"]])
        pen.text((x, y), text, fill=(0, 0, 0), font=font)
    return picture


def _tint(picture: Image.Image, runs: dict[str, Any], colour: tuple[int, int, int]) -> None:
    """Mixes `colour` into the pixels of a mask: within its box and by Pillow, for large pictures' sake."""
    library = mask_library()
    left, top, width, height = (int(v) for v in library.toBbox(runs))
    if width and height:
        columns = library.decode(runs).T[left : left + width, top : top + height]
        stencil = Image.fromarray(np.ascontiguousarray(columns) * np.uint8(round(255 * MASK_SHARE)))
        picture.paste(colour, (left, top), stencil.transpose(Image.Transpose.TRANSPOSE))


def draw_labels(image: Image.Image, labels: np.ndarray, coding: MaskCoding) -> Image.Image:
    """A copy of the RGB image under the colours of its (H, W) labels, each class named within a part of it."""
    colours = np.array((*coding.colours, (0, 0, 0)), np.float32)[labels]  # IGNORED is the last
    share = np.where(labels == IGNORED, 0.0, LABEL_SHARE)[..., None]
    mixed = (1 - share) * np.array(image, dtype=np.float32) + share * colours
    picture = Image.fromarray(mixed.round().astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(SMALLEST_TEXT, min(image.size) // TEXT_SHARE))
    for k in np.unique(labels[labels != IGNORED]).tolist():
        inside = labels == k
        if inside.mean() >= NAMED_FROM:
            left, top, right, bottom = pen.textbbox((0, 0), coding.classes[k], font=font, anchor="mm", stroke_width=2)
            place = _on_picture(_middle(inside), (left, top), (right, bottom), image.size)
            pen.text(place, coding.classes[k], fill=(255, 255, 255), font=font, anchor="mm", stroke_width=2,
                     stroke_fill=(0, 0, 0))  # fmt: skip
    return picture


def _on_picture(place: tuple[float, float], low: tuple[float, float], high: tuple[float, float],
                size: tuple[int, int]) -> tuple[float, float]:  # fmt: skip
    """Where a name goes that should be at `place`, so that all of it, from `low` to `high` around, is on the picture.

    Of a name that is too long the beginning is.
    """
    x, y = (max(-a, min(p, side - b)) for p, a, b, side in zip(place, low, high, size, strict=True))
    return x, y


def _middle(inside: np.ndarray) -> tuple[int, int]:
    """(x, y) of a place within a region: the middle of the longest run in the row with most of it."""
    counts = inside.sum(1)
    rows = np.flatnonzero(counts == counts.max())
    row = int(rows[len(rows) // 2])
    edges = np.flatnonzero(np.diff(np.concatenate(([0], inside[row].astype(np.int8), [0]))))
    starts, ends = edges[::2], edges[1::2]
    longest = int((ends - starts).argmax())
    return int(starts[longest] + ends[longest]) // 2, row
