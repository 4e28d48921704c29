"""Colours that are told apart."""

from __future__ import annotations

Colour = tuple[int, int, int]


def spread_colours(count: int) -> tuple[Colour, ...]:
    """Colours that are far apart, the same for the same position (PASCAL VOC's order, without its black)."""
    found = []
    for number in range(1, count + 1):
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= ((number >> (3 * bit + channel)) & 1) << (7 - bit)
        found.append((colour[0], colour[1], colour[2]))
    return tuple(found)
