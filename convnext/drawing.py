"""Detections on the picture they were found in: boxes, masks, names, scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .average_precision import library

# Colours that are told apart side by side, also by those who see few (Okabe and Ito, 2008); black and yellow left out
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (0, 114, 178), (213, 94, 0), (204, 121, 167))
MASK_SHARE = 0.45  # of a mask's colour in the picture
TEXT_SHARE = 30  # the picture's short side over the height of letters
SMALLEST_TEXT = 11  # pixels


def draw_objects(image: Image.Image, rows: Sequence[dict[str, Any]]) -> Image.Image:
    """A copy of the RGB image with each COCO result row on it; a class has one colour. The surest lie on top."""
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(sorted({row["class"] for row in rows}))}
    pixels = np.array(image, dtype=np.float32)
    for row in reversed(rows):
        if "segmentation" in row:
            inside = library().mask.decode(row["segmentation"]).astype(bool)
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
