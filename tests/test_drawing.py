"""What is drawn on pictures: masks in their colours, names that stay on the picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from convnext.data.mask_coding import IGNORED, coding_of
from convnext.drawing import LABEL_SHARE, draw_labels


def test_each_pixel_has_its_classes_colour() -> None:
    coding = coding_of(["", ""], [(250, 0, 0), (0, 0, 250)])
    labels = np.zeros((30, 40), np.int16)
    labels[:, 20:], labels[:5] = 1, IGNORED
    pixels = np.array(draw_labels(Image.new("RGB", (40, 30), (100, 100, 100)), labels, coding))
    assert (pixels[:5] == 100).all()
    assert pixels[10, 5].tolist() == [round(100 + LABEL_SHARE * 150), round(100 * (1 - LABEL_SHARE)), 45]
    assert pixels[29, 39].tolist() == [45, 45, round(100 + LABEL_SHARE * 150)]


def test_names_stay_on_the_picture() -> None:
    """A narrow region at the border had half of its name cut off."""
    labels = np.zeros((60, 90), np.int16)
    labels[:, :4] = 1
    coding = coding_of(["", "pedestrian"], [None, None])
    drawn = np.array(draw_labels(Image.new("RGB", (90, 60)), labels, coding)).astype(int)
    unnamed = np.array(draw_labels(Image.new("RGB", (90, 60)), labels, coding_of(["", " "], [None, None]))).astype(int)
    touched = np.flatnonzero((drawn != unnamed).any((0, 2)))
    wide = touched.max() - touched.min()
    labels = labels[:, ::-1].copy()
    other = np.array(draw_labels(Image.new("RGB", (90, 60)), labels, coding)).astype(int)
    unnamed = np.array(draw_labels(Image.new("RGB", (90, 60)), labels, coding_of(["", " "], [None, None]))).astype(int)
    mirrored = np.flatnonzero((other != unnamed).any((0, 2)))
    assert abs((mirrored.max() - mirrored.min()) - wide) <= 1  # whole at either border
    assert wide > 40
