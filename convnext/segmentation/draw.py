"""The classes of all pixels, drawn over the picture that they were found in, with their names."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..dense.draw import SMALLEST_TEXT, TEXT_SHARE, on_picture
from .mask_coding import IGNORED, MaskCoding

LABEL_SHARE = 0.55  # of a class's colour where every pixel has one
NAMED_FROM = 0.005  # share of the picture from which a class is named on it


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
            place = on_picture(_middle(inside), (left, top), (right, bottom), image.size)
            pen.text(
                place,
                coding.classes[k],
                fill=(255, 255, 255),
                font=font,
                anchor="mm",
                stroke_width=2,
                stroke_fill=(0, 0, 0),
            )
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
