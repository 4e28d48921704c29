"""Pictures and masks looked at before anything learns from them: all sizes, and labels where that is soon done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..data.images import BadImage, read_header, readable
from ..errors import UserError
from .data import SegmentationSource, SegmentationSplits
from .mask_coding import IGNORED, MaskCoding, read_mask

MOST_READ = {"training": 500, "validation": 2000, "test": 2000}  # masks: seconds; ADE20K's validation images
SIDEWAYS = 5  # EXIF orientations from here on exchange width and height

T = TypeVar("T")
R = TypeVar("R")


def require_one_size(image: Path, mask: Path) -> None:
    """Reads two headers. Raises BadImage unless the picture, as it is stored or upright, has its mask's size."""
    picture, size = read_header(image), read_header(mask).size
    if size != picture.size and (picture.orientation < SIDEWAYS or size != picture.size[::-1]):
        sizes = f"{picture.size[0]} x {picture.size[1]} pixels, its mask {readable(mask)} has {size[0]} x {size[1]}"
        raise BadImage(f"{readable(image)} has {sizes}; make them agree")


def require_sound(splits: SegmentationSplits) -> list[str]:
    """Sentences on what was not looked at. Raises UserError for pictures or masks that a run would stop at, and where
    nothing could be learned or judged."""
    parts = (("training", splits.train), ("validation", splits.val))
    return [note for name, source in parts if (note := _require_sound(name, source, splits.name))]


def with_sound_test(splits: SegmentationSplits) -> SegmentationSplits:
    """The splits, without a test split that a run could not judge in the end: it must not stop it, and is said."""
    if splits.test is None:
        return splits
    try:
        note = _require_sound("test", splits.test, splits.name)
    except UserError as error:
        return replace(splits, test=None, note=f"{splits.note}; the test split is not judged: {error}")
    return replace(splits, note=f"{splits.note}; {note}") if note else splits


def _require_sound(name: str, source: SegmentationSource, where: str) -> str:
    """Of one split: UserError as `require_sound`; else a sentence on what was not looked at, or ""."""
    _every(lambda pair: require_one_size(*pair), zip(source.images, source.masks, strict=True))
    whole, reads = len(source) <= MOST_READ[name], partial(labels_any, coding=source.coding)
    labelled = any(_every(reads, source.masks)) if whole else any(map(reads, source.masks))  # that stops at one
    if not labelled:
        raise UserError(
            f"none of the {len(source):,} {name} masks of {where} labels a pixel that counts; convnext "
            "check shows what they hold"
        )
    if whole:
        return ""
    return f"{len(source):,} {name} masks are too many to be read beforehand; convnext check reads them"


def labels_any(mask: Path, coding: MaskCoding) -> bool:
    """Whether a mask says of any pixel what it is. Raises BadImage for one that cannot be used."""
    return bool((read_mask(mask, coding) != IGNORED).any())


def _every(look: Callable[[T], R], things: Iterable[T]) -> list[R]:
    """`look` at each. Raises one UserError that names the first of those at which it raised BadImage."""

    def outcome(thing: T) -> R | BadImage:
        try:
            return look(thing)
        except BadImage as error:
            return error

    with ThreadPoolExecutor() as pool:
        outcomes = list(pool.map(outcome, things))
    if bad := [str(one) for one in outcomes if isinstance(one, BadImage)]:
        more = f" (and {len(bad) - 1:,} more of {len(outcomes):,}; convnext check lists them all)"
        raise UserError(bad[0] + (more if len(bad) > 1 else ""))
    return [one for one in outcomes if not isinstance(one, BadImage)]
