"""What an entry of a COCO annotation file must be, for reading it and for checking it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NotRequired, TypedDict, TypeGuard, cast

from ..data.images import MAX_PIXELS

POLYGON_VALUES = 6  # x and y of the fewest corners that have an area
READ_FROM: Final = "read_from"  # of an annotation: the file and line of another format
SMALLEST_SIDE = 1.0  # pixels: what is thinner teaches nothing (mmdetection)
LEAST_WIDTH = 1e-6  # pixels: corners closer to a line than this have no area
FAR = 10  # long sides of the image that an outline may reach beyond it: drawing one of 10^12 pixels takes all memory
SHOWN = 60  # characters of a wrong value

Part = Literal["images", "annotations", "categories"]


class RunLengths(TypedDict):
    """A mask is stored as the lengths of its runs outside, inside, outside, … down the columns."""

    size: list[int]  # height, width
    counts: str | list[int]  # compressed, or a number for each run


Segmentation = list[list[float]] | RunLengths  # polygons x1, y1, x2, y2, …, or run lengths


class ImageRow(TypedDict):
    """`fault_of` finds nothing wrong with this entry of images."""

    id: int
    file_name: str | float
    width: float  # some tools write a whole number as 640.0
    height: float
    background: NotRequired[object]  # the key is annotations.BACKGROUND


class ObjectRow(TypedDict):
    """An annotation says this of its object, whatever image shows it."""

    category_id: int
    bbox: Sequence[float]  # x, y, width, height
    segmentation: NotRequired[Segmentation | None]  # `outline_fault` checks it, which needs the image's size
    area: NotRequired[float | None]
    iscrowd: NotRequired[float | None]
    ignore: NotRequired[float | None]
    difficult: NotRequired[object]  # PASCAL VOC's mark
    read_from: NotRequired[object]  # the key is READ_FROM


class AnnotationRow(ObjectRow):
    """`fault_of` finds nothing wrong with this entry of annotations."""

    id: NotRequired[object]  # nothing goes by it
    image_id: int


class CategoryRow(TypedDict):
    """`fault_of` finds nothing wrong with this entry of categories."""

    id: int
    name: str | float


class UncheckedContent(TypedDict):
    """An annotation file has these lists; nobody has looked at their entries yet. Whatever else it holds is kept."""

    images: Sequence[object]
    annotations: Sequence[object]
    categories: Sequence[object]


class CocoContent(TypedDict):
    """An annotation file has these lists, and `fault_of` finds nothing wrong with their entries."""

    images: list[ImageRow]
    annotations: list[AnnotationRow]
    categories: list[CategoryRow]


class ResultRow(TypedDict):
    """A detector has found this object: an entry of COCO's result format."""

    image_id: int
    category_id: int
    bbox: list[float]  # x, y, width, height
    score: float
    segmentation: NotRequired[RunLengths]


# A result row without its image's id and with its category's name; "class" is no name that a class statement takes.
NamedRow = TypedDict(
    "NamedRow",
    {"class": str, "category_id": int, "bbox": list[float], "score": float, "segmentation": NotRequired[RunLengths]},
)


def is_number(value: object) -> TypeGuard[int | float]:
    """A finite number, and not a truth value; JSON also has whole numbers that no float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


Rule = tuple[Callable[[object], bool], str]
_ID: Rule = (_is_whole, "a whole number")
_NAME: Rule = (lambda value: isinstance(value, str | int | float) and value != "", "a name")
_SIDE: Rule = (lambda value: is_number(value) and value >= 1 and value == int(value), "a number of pixels")
_BOX: Rule = (
    lambda value: isinstance(value, list | tuple) and len(value) == 4 and all(map(is_number, value)),
    "four numbers: x, y, width, height",
)
_MARK: Rule = (lambda value: value in (0, 1), "0 or 1")
REQUIRED: dict[Part, dict[str, Rule]] = {
    "images": {"id": _ID, "file_name": _NAME, "width": _SIDE, "height": _SIDE},
    "annotations": {"image_id": _ID, "category_id": _ID, "bbox": _BOX},
    "categories": {"id": _ID, "name": _NAME},
}
OPTIONAL: dict[Part, dict[str, Rule]] = {
    "annotations": {"area": (is_number, "a number of square pixels"), "iscrowd": _MARK, "ignore": _MARK}
}


def fault_of(part: Part, row: object) -> str | None:
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
        return f"has {row['width']} x {row['height']} pixels, more than the {MAX_PIXELS:,} of the largest that are read"
    return None


def sound_images(content: UncheckedContent) -> list[ImageRow]:
    """The images that `fault_of` finds nothing wrong with."""
    return cast("list[ImageRow]", [row for row in content["images"] if not fault_of("images", row)])


def sound_rows(content: UncheckedContent) -> CocoContent:
    """The entries that `fault_of` finds nothing wrong with."""
    sound = {part: [row for row in content[part] if not fault_of(part, row)] for part in REQUIRED}
    return cast("CocoContent", sound)


def called(part: Part, row: object) -> str:
    """What messages call an entry: "image 17", or "an entry of images" where it has no id; where it was read from,
    of an annotation that was made of something else."""
    if isinstance(row, dict) and part == "annotations" and isinstance(row.get(READ_FROM), str):
        return str(row[READ_FROM])
    names = {"images": "image", "annotations": "annotation", "categories": "category"}
    number = row.get("id") if isinstance(row, dict) else None
    return f"an entry of {part}" if number is None else f"{names[part]} {_short(number)}"


def outline_fault(value: object, size: tuple[float, float]) -> str | None:
    """What is wrong with a "segmentation" in an image of width and height `size`, said after its name."""
    if value is None or value == []:
        return None
    if isinstance(value, dict):
        return _runs_fault(value, size)
    if not isinstance(value, list) or not all(isinstance(part, list) and all(map(is_number, part)) for part in value):
        return "has an outline that is neither polygons nor run lengths"
    most = (1 + FAR) * max(size)
    far = next((end for part in value if part for end in (min(part), max(part)) if abs(end) > most), None)
    if far is not None:
        return f"has an outline that reaches to {far:g}, far outside its image of {size[0]} x {size[1]}"
    return None


def polygon_fault(values: list[float], size: tuple[float, float]) -> str | None:
    """Why x and y of a polygon's corners outline nothing in an image of width and height `size`."""
    if len(values) % 2 or len(values) < POLYGON_VALUES:
        return "has fewer than three corners or half a point"
    x, y = values[::2], values[1::2]
    if min(x) >= size[0] or min(y) >= size[1] or max(x) <= 0 or max(y) <= 0:
        return "lies outside its image"
    return "has no area" if _in_line(x, y) else None


def why_useless(row: AnnotationRow, size: tuple[float, float]) -> str | None:
    """Why nothing can be learned from a sound annotation of an image of width and height `size`; None if it can be."""
    if row.get("ignore"):
        return "marked to be ignored"
    x, y, w, h = row["bbox"]
    inside = (min(x + w, size[0]) - max(x, 0), min(y + h, size[1]) - max(y, 0))
    if min(*inside) <= 0 or min(w, h) <= 0 or row.get("area") == 0:
        return "without an area within their image"
    if min(w, h) < SMALLEST_SIDE:
        return "thinner than a pixel"
    outline = row.get("segmentation")
    if isinstance(outline, dict):
        nothing = not any((_lengths_of(outline) or [])[1::2])
    else:
        parts = [part for part in outline or () if part]  # [[]] is no outline: the box stands for it
        nothing = bool(parts) and all(polygon_fault(part, size) for part in parts)
    return "outlined by nothing within their image" if nothing else None


def is_crowd(row: AnnotationRow) -> bool:
    """Whether an annotation marks a region where nothing is learned and finds are neither right nor wrong.

    Those with "ignore" alone do not: COCO's evaluation overwrites that by "iscrowd".
    """
    return bool(row.get("iscrowd"))


def _in_line(x: list[float], y: list[float]) -> bool:
    """Whether all corners lie on one line; that of most polygons is known from the first three."""
    sides = ((a - x[0], b - y[0]) for a, b in zip(x, y, strict=True))
    along = next(((a, b) for a, b in sides if a or b), None)
    if along is None:
        return True
    least = LEAST_WIDTH * math.hypot(*along)
    return not any(abs(along[0] * b - along[1] * a) > least for a, b in sides)


def _runs_fault(runs: Mapping[str, object], size: tuple[float, float]) -> str | None:
    width, height = size
    if runs.get("size") != [height, width]:
        return f"has run lengths for {_short(runs.get('size'))} (height, width), its image has {[height, width]}"
    lengths = _lengths_of(runs)
    if lengths is None:
        return f"has run lengths that cannot be read: {_short(runs.get('counts'))}"
    if sum(lengths) != height * width:
        return f"has run lengths for {sum(lengths)} pixels, its image has {height * width}"
    return None


def _lengths_of(runs: Mapping[str, object]) -> list[int] | None:
    """Pixels outside, inside, outside, …; None for what cannot be read."""
    counts = runs.get("counts")
    if isinstance(counts, str):
        return _lengths(counts)
    if isinstance(counts, list) and all(_is_whole(count) and count >= 0 for count in counts):
        return counts
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


def _short(value: object) -> str:
    return str(value)[:SHOWN]
