"""What was found on the picture it was found in: boxes, masks, names, scores; the classes of all pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .average_precision import mask_library
from .data.mask_coding import IGNORED, MaskCoding

# Colours that are told apart side by side, also by those who see few (Okabe and Ito, 2008); black and yellow left out
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (0, 114, 178), (213, 94, 0), (204, 121, 167))
MASK_SHARE = 0.45  # of a mask's colour in the picture
LABEL_SHARE = 0.55  # of a class's colour where every pixel has one
NAMED_FROM = 0.005  # share of the picture from which a class is named on it
TEXT_SHARE = 30  # the picture's short side over the height of letters
SMALLEST_TEXT = 11  # pixels


def draw_objects(image: Image.Image, rows: Sequence[dict[str, Any]]) -> Image.Image:
    """A copy of the RGB image with each COCO result row on it; a class has one colour. The surest lie on top."""
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(sorted({row["class"] for row in rows}))}
    pixels = np.array(image, dtype=np.float32)
    for row in reversed(rows):
        if "segmentation" in row:
            inside = mask_library().decode(row["segmentation"]).astype(bool)
            pixels[inside] = (1 - MASK_SHARE) * pixels[inside] + MASK_SHARE * np.array(colours[row["class"]])
    picture = Image.fromarray(pixels.round().astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    height = max(SMALLEST_TEXT, min(image.size) // TEXT_SHARE)
    font = ImageFont.load_default(height)
    for row in reversed(rows):
        x, y, w, h = row["bbox"]
        pen.rectangle((x, y, x + w, y + h), outline=colours[row["class"]], width=max(1, height // 6))
    for row in reversed(rows):
        x, y = row["bbox"][:2]
        text = f"{row['class']} {row['score']:.2f}" if "score" in row else row["class"]
        left, top, right, bottom = pen.textbbox((x, max(0, y - height)), text, font=font)
        pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), fill=colours[row["class"]])
        pen.text((x, max(0, y - height)), text, fill=(0, 0, 0), font=font)
    return picture


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
            x, y = (  # the whole name stays on the picture
                max(-low, min(place, side - high))
                for place, low, high, side in zip(
                    _middle(inside), (left, top), (right, bottom), image.size, strict=True
                )
            )
            pen.text((x, y), coding.classes[k], fill=(255, 255, 255), font=font, anchor="mm", stroke_width=2,
                     stroke_fill=(0, 0, 0))  # fmt: skip
    return picture


def _middle(inside: np.ndarray) -> tuple[int, int]:
    """(x, y) of a place within a region: the middle of the longest run in the row with most of it."""
    counts = inside.sum(1)
    rows = np.flatnonzero(counts == counts.max())
    row = int(rows[len(rows) // 2])
    edges = np.flatnonzero(np.diff(np.concatenate(([0], inside[row].astype(np.int8), [0]))))
    starts, ends = edges[::2], edges[1::2]
    longest = int((ends - starts).argmax())
    return int(starts[longest] + ends[longest]) // 2, row
