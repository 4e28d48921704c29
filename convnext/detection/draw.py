"""What was found on the picture it was found in: boxes, masks, names, scores; the classes of all pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..dense.draw import SMALLEST_TEXT, TEXT_SHARE, on_picture
from .coco_format import NamedRow, RunLengths
from .rle import mask_library

# Colours that are told apart side by side, also by those who see few (Okabe and Ito, 2008); black and yellow left out
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (0, 114, 178), (213, 94, 0), (204, 121, 167))
MASK_SHARE = 0.45  # of a mask's colour in the picture


def draw_objects(image: Image.Image, rows: Sequence[NamedRow]) -> Image.Image:
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
        x, y = on_picture(place, (low_x - 1, low_y - 1), (high_x + 1, high_y + 1), image.size)
        pen.rectangle((x + low_x - 1, y + low_y - 1, x + high_x + 1, y + high_y + 1), fill=colours[row["class"]])
        pen.text((x, y), text, fill=(0, 0, 0), font=font)
    return picture


def _tint(picture: Image.Image, runs: RunLengths, colour: tuple[int, int, int]) -> None:
    """Mixes `colour` into the pixels of a mask: within its box and by Pillow, for large pictures' sake."""
    library = mask_library()
    left, top, width, height = (int(v) for v in library.toBbox(runs))
    if width and height:
        columns = library.decode(runs).T[left : left + width, top : top + height]
        stencil = Image.fromarray(np.ascontiguousarray(columns) * np.uint8(round(255 * MASK_SHARE)))
        picture.paste(colour, (left, top), stencil.transpose(Image.Transpose.TRANSPOSE))
