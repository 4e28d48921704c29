"""The picture files that a user names: files, folders, glob patterns."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .folders import entries
from .images import IMAGE_SUFFIXES, left_out, readable, suffix_of


@dataclass(frozen=True)
class Listing:
    """What was named, in that order; `lost` says of a place where there is nothing why, and is one of the paths."""

    paths: tuple[str, ...]
    lost: dict[str, str]
    left_out: str = ""  # a sentence on the files of folders that are no pictures


def list_images(places: Iterable[str | Path]) -> Listing:
    """The pictures at all places. Raises UserError when there is nothing at any of them, or none is named."""
    paths: list[str] = []
    lost: dict[str, str] = {}
    others = Counter[str]()
    for place in map(str, places):
        try:
            paths += find_images(place, others)
        except UserError as error:
            lost[place] = str(error)
            paths.append(place)
    if not paths:
        raise UserError("no image was named; give image files, folders or glob patterns")
    if len(lost) == len(set(paths)):
        rest = f" (and nothing at {len(lost) - 1} other places)" if len(lost) > 1 else ""
        raise UserError(next(iter(lost.values())) + rest)
    return Listing(tuple(paths), lost, left_out(others, len(paths) - len(lost)))


def find_images(where: str, others: Counter[str] | None = None) -> list[str]:
    """The image files at a path, under a folder or matching a pattern; of a folder the visible ones, as `train` and
    `check` read it: `others` gains the suffixes of those that are no images. Raises UserError when there are none."""
    if os.path.isdir(where):
        every = list(entries(Path(where)))
        found = sorted(os.path.join(where, entry.path) for entry in every if entry.is_image)
        if not found:
            why = left_out(Counter(suffix_of(entry.path) for entry in every), 0)
            raise UserError(f"{readable(where)} holds no images ({why or ', '.join(sorted(IMAGE_SUFFIXES))})")
        if others is not None:
            others.update(suffix_of(entry.path) for entry in every if not entry.is_image)
        return found
    if os.path.lexists(where):
        return [where]
    if matched := sorted(glob.glob(where, recursive=True)):
        # "**" finds a folder and, again, what lies in it; folders without pictures are no loss beside others.
        within = dict.fromkeys(path for place in matched for path in _under(place))
        return list(within) or find_images(matched[0])
    raise UserError(f"nothing found at {readable(where)}; give image files, folders or glob patterns")


def _under(place: str) -> list[str]:
    try:
        return find_images(place)
    except UserError:
        return []
