"""What an entry of a COCO annotation file must be, for reading it and for checking it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .images import MAX_PIXELS

POLYGON_VALUES = 6  # x and y of the fewest corners that have an area
SHOWN = 60  # characters of a wrong value


def is_number(value: Any) -> bool:
    """A finite number, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


Rule = tuple[Callable[[Any], bool], str]
_ID: Rule = (_is_whole, "a whole number")
_NAME: Rule = (lambda value: isinstance(value, str | int | float) and value != "", "a name")
_SIDE: Rule = (lambda value: is_number(value) and value >= 1 and value == int(value), "a number of pixels")
_BOX: Rule = (
    lambda value: isinstance(value, list | tuple) and len(value) == 4 and all(map(is_number, value)),
    "four numbers: x, y, width, height",
)
_MARK: Rule = (lambda value: value in (0, 1), "0 or 1")
REQUIRED: dict[str, dict[str, Rule]] = {
    "images": {"id": _ID, "file_name": _NAME, "width": _SIDE, "height": _SIDE},
    "annotations": {"image_id": _ID, "category_id": _ID, "bbox": _BOX},
    "categories": {"id": _ID, "name": _NAME},
}
OPTIONAL: dict[str, dict[str, Rule]] = {
    "annotations": {"area": (is_number, "a number of square pixels"), "iscrowd": _MARK, "ignore": _MARK}
}


def fault_of(part: str, row: Any) -> str | None:
    """What is wrong with an entry of `part` ("images", "annotations", "categories"), said after its name."""
    if not isinstance(row, dict):
        return f"is {_short(row)}, not an object with {', '.join(REQUIRED[part])}"
    for key, (fits, what) in REQUIRED[part].items():
        if row.get(key) is None:
            return f"lacks {key}"
        if not fits(row[key]):
            return f"has the {key} {_short(row[key])}; it must be {what}"
    for key, (fits, what) in OPTIONAL.get(part, {}).items():
        if row.get(key) is not None and not fits(row[key]):
            return f"has the {key} {_short(row[key])}; it must be {what}"
    if part == "images" and row["width"] * row["height"] > MAX_PIXELS:
        return f"has {row['width']} x {row['height']} pixels, more than {MAX_PIXELS:,}; shrink it or take it out"
    return None


def called(part: str, row: Any) -> str:
    """What messages call an entry: "image 17", or "an entry of images" where it has no id."""
    names = {"images": "image", "annotations": "annotation", "categories": "category"}
    number = row.get("id") if isinstance(row, dict) else None
    return f"an entry of {part}" if number is None else f"{names[part]} {_short(number)}"


def outline_fault(value: Any, size: tuple[int, int]) -> str | None:
    """What is wrong with a "segmentation" in an image of width and height `size`, said after its name."""
    if value is None or value == []:
        return None
    if isinstance(value, dict):
        return _runs_fault(value, size)
    if not isinstance(value, list) or not all(isinstance(part, list) and all(map(is_number, part)) for part in value):
        return "has an outline that is neither polygons nor run lengths"
    return None


def is_polygon(values: list[float]) -> bool:
    """x and y of at least three corners."""
    return len(values) % 2 == 0 and len(values) >= POLYGON_VALUES


def _runs_fault(runs: dict[str, Any], size: tuple[int, int]) -> str | None:
    width, height = size
    if runs.get("size") != [height, width]:
        return f"has run lengths for {_short(runs.get('size'))} (height, width), its image has {[height, width]}"
    counts = runs.get("counts")
    if isinstance(counts, str):
        lengths = _lengths(counts)
    elif isinstance(counts, list) and all(_is_whole(count) and count >= 0 for count in counts):
        lengths = counts
    else:
        lengths = None
    if lengths is None:
        return f"has run lengths that cannot be read: {_short(counts)}"
    if sum(lengths) != height * width:
        return f"has run lengths for {sum(lengths)} pixels, its image has {height * width}"
    return None


def _lengths(counts: str) -> list[int] | None:
    """COCO's compressed run lengths: five bits a character, from the third on as differences to the last but one."""
    lengths: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16 and 1) << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths if shift == 0 and min(lengths, default=0) >= 0 else None


def _short(value: Any) -> str:
    return str(value)[:SHOWN]
