"""What classes there are where no file names them: the values of every mask are read, once.

A value in one of a thousand masks is a class like any other, so none is left out.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..errors import UserError
from .images import BadImage, read_pixels, readable
from .mask_coding import (
    UNLABELLED,
    UNLABELLED_16,
    VOC_CLASSES,
    MaskCoding,
    binary_coding,
    coding_of,
    one_channel,
    voc_coding,
)

FAR = 10  # a value this far above the next lower one is no class: a tool's mark, a brightness, another set's number
MOST_IN_ONE = 100  # values in one mask; of ADE20K's 150 classes no picture shows half as many
MOST = 1000  # values in all masks
SOFT = 16  # black and white that was blurred or compressed lies within so many levels of either, but for its edges,
SOFT_SHARE = 0.95  # which are few
THRESHOLD = 128
PATIENCE = 2.0  # seconds, after which it is said what takes so long
LOSSY = {".jpg", ".jpeg"}


@dataclass
class Values:
    """The values that some index masks hold."""

    masks: Counter[int] = field(default_factory=Counter)  # of each value, the masks that hold it
    pixels: Counter[int] = field(default_factory=Counter)
    example: dict[int, Path] = field(default_factory=dict)  # of each value, the first mask that holds it
    read: int = 0
    most: tuple[int, Path | None] = (0, None)  # values in one mask
    seconds: float = 0.0

    def __str__(self) -> str:
        shown = [f"{value} in {count:,}" for value, count in sorted(self.masks.items())]
        return ", ".join(shown[:30]) + (f", … {shown[-1]}" if len(shown) > 30 else "") + f" of {self.read:,} masks"


def values_of(masks: Sequence[Path]) -> tuple[Values, list[BadImage]]:
    """The values of all masks, and what is wrong with those that cannot be read. Speaks up where that takes long."""
    found, bad, start, said = Values(), [], time.monotonic(), False
    with ThreadPoolExecutor() as pool:
        for done, (path, held) in enumerate(zip(masks, pool.map(_held, masks), strict=True), 1):
            if isinstance(held, BadImage):
                bad.append(held)
            else:
                found.masks.update(held.keys())
                found.pixels.update(held)
                found.example = dict.fromkeys(held, path) | found.example
                found.most = max(found.most, (len(held), path), key=lambda one: one[0])
                found.read += 1
            taken = time.monotonic() - start
            if taken > PATIENCE and not said:
                said = True
                print(f"reading the values of {len(masks):,} masks, as no file names the classes: about "
                      f"{taken / done * len(masks):.0f} s", file=sys.stderr, flush=True)  # fmt: skip
    found.seconds = time.monotonic() - start
    return found, bad


def _held(path: Path) -> dict[int, int] | BadImage:
    """How many pixels of a mask have each value."""
    try:
        pixels = one_channel(read_pixels(path), readable(path))
    except BadImage as error:
        return error
    if pixels.dtype == np.uint8:
        counts = np.bincount(pixels.ravel(), minlength=256)
        return {value: int(counts[value]) for value in np.flatnonzero(counts).tolist()}
    values, counts = np.unique(pixels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def coding_of_values(root: Path, found: Values, ignore: tuple[int, ...] = (), *, voc: bool = False) -> MaskCoding:
    """The classes that the values stand for. Raises UserError where they cannot be classes."""
    values = sorted(found.masks.keys() - {UNLABELLED, UNLABELLED_16, *ignore})
    void = UNLABELLED in found.masks.keys() - set(ignore)
    if values == [0] and void:  # one class and a void would leave nothing to learn
        return binary_coding()
    if not values:
        raise UserError(f"the masks of {readable(root)} hold no class; they need values from 0")
    if voc and values[-1] < len(VOC_CLASSES) and found.masks.keys() - set(values) <= {UNLABELLED, *ignore}:
        return voc_coding(ignore)
    if len(values) == 1:
        raise UserError(f"all {found.read:,} masks of {readable(root)} hold the value {values[0]} alone, so there is "
                        "nothing to tell apart; masks need a value for each class")  # fmt: skip
    if _is_soft(found, values):
        return binary_coding(THRESHOLD)
    _require_classes(root, values, found)
    return coding_of([str(value) for value in values], [None] * len(values), ignore, values=values)


def _is_soft(found: Values, values: list[int]) -> bool:
    """Whether this is black and white with blurred edges: as JPEG files, or after resizing, it holds all shades."""
    if len(values) <= SOFT or values[0] < 0 or max(found.masks) > UNLABELLED:
        return False
    dark = sum(count for value, count in found.pixels.items() if value <= SOFT)
    light = sum(count for value, count in found.pixels.items() if value >= UNLABELLED - SOFT)
    return min(dark, light) > 0 and dark + light >= SOFT_SHARE * found.pixels.total()


def _require_classes(root: Path, values: list[int], found: Values) -> None:
    """UserError unless the values may be those of classes 0, 1, 2, …, as most sets without a list of classes have."""
    own, held, name = "put classes.txt with a line for each class beside the folders", readable(root), found.most[1]
    if name is not None and found.most[0] > MOST_IN_ONE:
        raise UserError(f"{readable(name)} holds {found.most[0]} different values, as a photograph or a map of depths "
                        "does; a mask has one value for each class: check which folder holds the masks")  # fmt: skip
    if len(values) > MOST:
        raise UserError(f"the masks of {held} hold {len(values):,} different values, too many to be taken for classes; "
                        f"{own} (or name it by --labels)")  # fmt: skip
    distance, odd = max((high - low, high) for low, high in pairwise((-1, *values)))
    if distance <= FAR and 2 * len(values) >= values[-1] + 1:
        return
    shown = ", ".join(map(str, values[:5])) + (f", … {values[-1]}" if len(values) > 5 else "")
    example = found.example[odd]
    if example.suffix.lower() in LOSSY:
        raise UserError(f"the masks of {held} are JPEG files, which blur the values of classes ({readable(example)} "
                        f"has {odd}): export them again as PNG")  # fmt: skip
    raise UserError(
        f"the masks of {held} hold the values {shown}, too few of 0 to {values[-1]} to be classes; {odd} for one is in "
        f"{readable(example)} (that value in {found.masks[odd]:,} of {found.read:,} masks): {own} (or name it by "
        f"--labels), or leave values out by --set segmentation.ignore={odd}"
    )
