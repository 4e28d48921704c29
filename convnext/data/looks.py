"""How alike two pictures look, whatever format, quality or size they were saved in: a grey thumbnail and its signs."""

from __future__ import annotations

import numpy as np
from PIL import Image

LOOK_SIDE, LOOK_SIGNS = 8, 3  # rows of the thumbnail; of 64 signs, those that may differ between copies


def look(image: Image.Image) -> bytes:
    """A grey thumbnail of 8 rows and 9 columns, by which re-encoded and resized copies are known."""
    return image.convert("L").resize((LOOK_SIDE + 1, LOOK_SIDE), Image.Resampling.BOX).tobytes()


def thumbnails(looks: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """(N, 8, 9) grey levels, and (N,) 64-bit words: is the left neighbour brighter? 0 for flat pictures."""
    grey = np.frombuffer(b"".join(looks), dtype=np.uint8).reshape(-1, LOOK_SIDE, LOOK_SIDE + 1).astype(np.int16)
    words = np.packbits((grey[:, :, :-1] > grey[:, :, 1:]).reshape(len(looks), -1), axis=1).view(np.uint64).ravel()
    return grey, words
