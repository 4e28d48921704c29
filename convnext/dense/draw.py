"""Names on pictures: how large, and where all of them can be read."""

from __future__ import annotations

TEXT_SHARE = 30  # the picture's short side over the height of letters
SMALLEST_TEXT = 11  # pixels


def on_picture(
    place: tuple[float, float], low: tuple[float, float], high: tuple[float, float], size: tuple[int, int]
) -> tuple[float, float]:
    """Where a name goes that should be at `place`, so that all of it, from `low` to `high` around, is on the picture.

    Of a name that is too long the beginning is.
    """
    x, y = (max(-a, min(p, side - b)) for p, a, b, side in zip(place, low, high, size, strict=True))
    return x, y
