"""What classes there are where no file names them: the values of every mask are read, once.

A value in one of a thousand masks is a class like any other, so none is left out. Colours are values too, of 24 bits.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..data.images import BadImage, read_pixels, readable
from ..data.palette import Colour
from ..errors import UserError
from .mask_coding import (
    LOSSY,
    UNLABELLED,
    UNLABELLED_16,
    VOC_BORDER,
    VOC_CLASSES,
    MaskCoding,
    binary_coding,
    codes_of,
    coding_of,
    voc_coding,
)

FAR = 10  # a value this far above the next lower one is no class: a tool's mark, a brightness, another set's number
MOST_IN_ONE = 100  # values in one mask; of ADE20K's 150 classes no picture shows half as many
MOST = 256  # values or colours in all masks; a photograph alone has thousands of colours
STRAY_MASKS, STRAY_PIXELS = 3, 10  # a value in fewer masks, or in fewer pixels of each, may be no class
SOFT = 16  # black and white that was blurred or compressed lies within so many levels of either, but for its edges,
SOFT_SHARE = 0.95  # which are few
THRESHOLD = 128
PATIENCE = 2.0  # seconds, after which it is said what takes so long
SHOWN = 12
VOC_NAME = re.compile(r"\d{4}_\d{6}")
GREY = 0x010101  # times a brightness is a grey colour


@dataclass
class Values:
    """The values that some masks hold: one channel's, or colours."""

    masks: Counter[int] = field(default_factory=Counter)  # of each value, the masks that hold it
    pixels: Counter[int] = field(default_factory=Counter)
    example: dict[int, Path] = field(default_factory=dict)  # of each value, the first mask that holds it
    read: int = 0
    most: tuple[int, Path | None] = (0, None)  # values in one mask
    lossy: Path | None = None  # a mask that is a JPEG file
    called_as_voc: int = 0  # masks with names as PASCAL VOC's have
    in_colour: bool = False
    seconds: float = 0.0

    def add(self, path: Path, held: dict[int, int]) -> None:
        """Counts one mask, of which `held` gives the pixels of each value."""
        self.masks.update(held.keys())
        self.pixels.update(held)
        self.example = dict.fromkeys(held, path) | self.example
        self.most = max(self.most, (len(held), path), key=lambda one: one[0])
        self.read += 1
        self.called_as_voc += VOC_NAME.fullmatch(path.stem) is not None
        if path.suffix.lower() in LOSSY:
            self.lossy = path

    def is_voc(self, border: int) -> bool:
        """Whether masks in PASCAL VOC's layout, which tools export for other classes, too, may be its own: most have
        its names, or the border that it draws around every object, which has the value or colour `border`."""
        return 2 * max(self.called_as_voc, self.masks[border]) > self.read

    def __str__(self) -> str:
        name = _colour_name if self.in_colour else str
        shown = [f"{name(value)} in {count:,}" for value, count in sorted(self.masks.items())]
        few = [*shown[:SHOWN], "…", shown[-1]] if len(shown) > 2 * SHOWN else shown
        what = ("colour" if self.in_colour else "value") + "s" * (len(shown) > 1)
        return f"{len(shown):,} {what} in {self.read:,} mask{'s' * (self.read > 1)}: {', '.join(few)}"


def values_of(masks: Sequence[Path]) -> tuple[Values, list[BadImage]]:
    """The values of all masks, and what is wrong with those that cannot be read. Speaks up where that takes long."""
    rows: list[tuple[Path, str, dict[int, int]]] = []
    bad, start, said = [], time.monotonic(), False
    with ThreadPoolExecutor() as pool:
        for done, (path, held) in enumerate(zip(masks, pool.map(_held, masks), strict=True), 1):
            if isinstance(held, BadImage):
                bad.append(held)
            else:
                rows.append((path, *held))
            taken = time.monotonic() - start
            if taken > PATIENCE and not said:
                said = True
                print(
                    f"reading the values of {len(masks):,} masks, which say what the classes are: about "
                    f"{taken / done * len(masks):.0f} s",
                    file=sys.stderr,
                    flush=True,
                )
    kinds = {kind: path for path, kind, _ in reversed(rows)}
    found = Values(in_colour="colour" in kinds)
    for path, kind, counts in rows:
        if found.in_colour and kind == "index":
            bad.append(
                BadImage(
                    f"{readable(path)} holds one value a pixel, {readable(kinds['colour'])} holds colours; "
                    "masks need to be of one kind"
                )
            )
        else:
            found.add(path, counts if found.in_colour or kind == "index" else {c & 255: n for c, n in counts.items()})
    found.seconds = time.monotonic() - start
    return found, bad


def _held(path: Path) -> tuple[str, dict[int, int]] | BadImage:
    """Of a mask: "index", "grey" (three equal channels) or "colour", and how many pixels have each value."""
    try:
        pixels = read_pixels(path)
    except BadImage as error:
        return error
    if pixels.dtype == np.uint8 and pixels.ndim == 2:
        levels = np.bincount(pixels.ravel(), minlength=256)
        return "index", {value: int(levels[value]) for value in np.flatnonzero(levels).tolist()}
    flat = pixels if pixels.ndim == 2 else codes_of(pixels)
    values, counts = np.unique(flat, return_counts=True)
    grey = pixels.ndim == 3 and bool((values % GREY == 0).all())
    if pixels.ndim == 3 and not grey and len(values) > MOST:
        return BadImage(
            f"{readable(path)} holds {len(values):,} colours, as a photograph does; a mask has one for "
            "each class: check which folder holds the masks"
        )
    kind = "index" if pixels.ndim == 2 else "grey" if grey else "colour"
    return kind, dict(zip(values.tolist(), counts.tolist(), strict=True))


def coding_of_values(root: Path, found: Values, ignore: tuple[int, ...] = (), *, voc: bool = False) -> MaskCoding:
    """The classes that the values stand for. Raises UserError where they cannot be classes."""
    if found.in_colour:
        return _of_colours(root, found, voc)
    values = sorted(found.masks.keys() - {UNLABELLED, UNLABELLED_16, *ignore})
    void = UNLABELLED in found.masks.keys() - set(ignore)
    if values == [0] and void:  # one class and a void would leave nothing to learn
        return binary_coding()
    if not values:
        raise UserError(f"the masks of {readable(root)} hold no class; they need values from 0")
    others = found.masks.keys() - set(values)
    if voc and values[-1] < len(VOC_CLASSES) and others <= {UNLABELLED, *ignore} and found.is_voc(UNLABELLED):
        return voc_coding(ignore)
    if len(values) == 1:
        raise UserError(
            f"all {found.read:,} masks of {readable(root)} hold the value {values[0]} alone, so there is "
            "nothing to tell apart; masks need a value for each class"
        )
    if is_soft(found):
        return binary_coding(threshold=THRESHOLD)
    _require_classes(root, values, found)
    return coding_of([str(value) for value in values], [None] * len(values), ignore, values=values)


def _of_colours(root: Path, found: Values, voc: bool) -> MaskCoding:
    _require_exact(root, found)
    coding = voc_coding(in_colour=True)
    known = {codes for colours in (coding.colours, coding.ignored_colours) for codes in map(_code, colours)}
    if voc and found.masks.keys() <= known and found.is_voc(_code(VOC_BORDER)):
        return coding
    if len(found.masks) > MOST:
        raise UserError(
            f"the masks of {readable(root)} hold {len(found.masks):,} colours, too many to be taken for "
            "classes; put classes.txt with lines such as 'road 128 64 128' beside the folders, or name it "
            "by --labels"
        )
    colours = sorted(found.masks)
    return coding_of([_colour_name(code) for code in colours], [_colour(code) for code in colours])


def _colour(code: int) -> Colour:
    return code >> 16, code >> 8 & 255, code & 255


def _code(colour: Colour) -> int:
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def _colour_name(code: int) -> str:
    return f"#{code:06x}"


def is_soft(found: Values) -> bool:
    """Whether this is black and white with blurred edges: as JPEG files, or after resizing, it holds all shades."""
    least = 2 if found.lossy else SOFT
    if found.in_colour or len(found.masks) <= least or min(found.masks) < 0 or max(found.masks) > UNLABELLED:
        return False
    dark = sum(count for value, count in found.pixels.items() if value <= SOFT)
    light = sum(count for value, count in found.pixels.items() if value >= UNLABELLED - SOFT)
    return min(dark, light) > 0 and dark + light >= SOFT_SHARE * found.pixels.total()


def _may_be_stray(found: Values, value: int) -> bool:
    return found.masks[value] < STRAY_MASKS or found.pixels[value] < STRAY_PIXELS * found.masks[value]


def _require_exact(root: Path, found: Values) -> None:
    if found.lossy is not None:
        raise UserError(
            f"the masks of {readable(root)} are JPEG files, which blur the values of classes "
            f"({readable(found.lossy)} for one): export them again as PNG"
        )


def _require_classes(root: Path, values: list[int], found: Values) -> None:
    """UserError unless the values are nearly 0, 1, 2, …, as most sets without a list of classes have them, or those
    that are far from others are in masks enough to be meant."""
    own, held, name = "put classes.txt with a line for each class beside the folders", readable(root), found.most[1]
    if name is not None and found.most[0] > MOST_IN_ONE:
        raise UserError(
            f"{readable(name)} holds {found.most[0]} different values, as a photograph or a map of depths "
            "does; a mask has one value for each class: check which folder holds the masks"
        )
    _require_exact(root, found)
    if len(values) > MOST:
        raise UserError(
            f"the masks of {held} hold {len(values):,} different values, too many to be taken for classes; "
            f"{own} (or name it by --labels)"
        )
    gaps = [high - low for low, high in pairwise((-1, *values))]
    if max(gaps) <= FAR and 2 * len(values) >= values[-1] + 1:
        return
    strays = [value for gap, value in zip(gaps, values, strict=True) if gap > 1 and _may_be_stray(found, value)]
    if not strays:
        return
    odd = max(strays)
    shown = ", ".join(map(str, values[:5])) + (f", … {values[-1]}" if len(values) > 5 else "")
    raise UserError(
        f"the masks of {held} hold the values {shown}, too few of 0 to {values[-1]} to be classes; {odd} for one is in "
        f"{found.masks[odd]:,} of {found.read:,} masks, as in {readable(found.example[odd])}: {own} (or name it by "
        f"--labels), or leave values out by --set segmentation.ignore={odd}"
    )
