"""Every picture opened, and compared with every other: what is odd, twice there, or on both sides of a split.

One mechanism for `check` of whatever kind of data.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from .. import files
from .images import BadImage, Header, bands_of, examined, read_bytes
from .level_scan import measured
from .levels import Levels, is_deep
from .looks import LOOK_SIGNS, look, thumbnails
from .report import Problem

TINY_SIDE = 8  # pixels; the built-in digits have just these
# Two pictures look the same when few of 64 brightness steps differ in sign and the thumbnails are close. Measured on
# Imagenette at 112 pixels: copies re-encoded at quality 30 or halved in size stay within 3 levels, strangers beyond 30.
LOOK_LEVELS = 4
AHEAD = 64  # pictures begun before the first of them is waited for
WHOLE_FILE = 1 << 26  # bytes up to which a file is read once and kept while it is looked at
Progress = Callable[[int, int], None]  # pictures done, pictures in all
Tell = Callable[[Problem], None]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)  # there may be millions
class Picture:
    """A file to look at; `label` is what the data says of it as a whole, "" where it says nothing."""

    split: str
    label: str
    path: str | Path
    name: str  # below the data folder, printable


@dataclass(frozen=True, slots=True)
class Facts:
    """What one file turned out to be; a picture that cannot be used has only problems."""

    problems: tuple[Problem, ...]
    bytes_hash: bytes = b""
    pixels_hash: bytes = b""
    look: bytes = b""


def levels_of(pictures: Sequence[Picture]) -> tuple[Levels | None, list[Problem]]:
    """What a run would take for black and white in these pictures, those of train or all; and a note that says so."""
    found = measured(len(pictures), lambda i: pictures[i].path)
    return (None, []) if found is None else (found.levels, [Problem("levels", ".", found.why)])


def inspected(
    pictures: Sequence[Picture],
    progress: Progress | None = None,
    tell: Tell | None = None,
    levels: Levels | None = None,
) -> list[Facts]:
    """What each picture turned out to be, in their order; none raises.

    `tell` is told each error as it is found; `levels` are what a run reads pictures of more than 8 bits from.
    """
    facts = []
    for done, fact in enumerate(in_threads(partial(_inspect, levels=levels), pictures), start=1):
        facts.append(fact)
        for problem in fact.problems:
            if tell is not None and problem.severity == "error":
                tell(problem)
        if progress is not None:
            progress(done, len(pictures))
    return facts


def in_threads(look: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
    """`look` at each thing in several threads, in order; few are begun ahead, so memory does not grow with them."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor() as pool:
        for thing in things:
            waiting.append(pool.submit(look, thing))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _inspect(picture: Picture, levels: Levels | None) -> Facts:
    try:
        data = read_bytes(picture.path, WHOLE_FILE)
        source = picture.path if data is None else data
        with examined(source, name=str(picture.path), levels=levels) as (header, image):
            pixels = hashlib.sha256(f"{image.size}".encode())
            for band in bands_of(image):
                pixels.update(band)
            seen = look(image)
        whole = hashlib.sha256(data).digest() if data is not None else bytes.fromhex(files.sha256(Path(picture.path)))
    except BadImage as error:
        return Facts((Problem(error.kind, picture.name, str(error)),))
    except OSError as error:
        return Facts((Problem("missing", picture.name, f"vanished or could not be read again ({error.strerror})"),))
    return Facts(tuple(_oddities(header, picture.name)), whole, pixels.digest(), seen)


def _oddities(header: Header, name: str) -> Iterator[Problem]:
    words = []
    if is_deep(header.mode):
        words.append("more than 8 bits a pixel (scaled to 8)")
    elif header.mode in ("P", "PA"):
        words.append("palette")
    elif header.mode not in ("RGB", "RGBA", "L", "LA"):
        words.append(header.mode)
    if header.transparent:
        words.append("transparency (dropped)")
    if header.animated:
        words.append("animated (the first frame is used)")
    if header.orientation != 1:
        words.append(f"EXIF orientation {header.orientation} (turned upright)")
    if words:
        yield Problem("odd mode", name, ", ".join(words))
    if min(header.size) < TINY_SIDE:
        yield Problem("tiny", name, f"{header.size[0]} x {header.size[1]} pixels")


def repeated(pictures: Sequence[Picture], facts: Sequence[Facts]) -> Iterator[Problem]:
    """Pictures that are there twice or nearly so; a "leak" is learned from and judged on."""
    yield from _repeats(pictures, facts)
    for split in ("val", "test"):
        yield from _look_alikes(pictures, facts, split)


def _repeats(pictures: Sequence[Picture], facts: Sequence[Facts]) -> Iterator[Problem]:
    """The same picture again: in both splits, under two labels, or simply twice."""
    groups: dict[bytes, dict[tuple[str, str], int]] = defaultdict(
        dict
    )  # pixels -> the first one of each split and label
    for i, (mine, fact) in enumerate(zip(pictures, facts, strict=True)):
        if not fact.pixels_hash:
            continue
        firsts = groups[fact.pixels_hash]
        for kind, found in (
            ("leak", [j for (split, _), j in firsts.items() if split != mine.split]),
            ("conflicting labels", [j for (_, label), j in firsts.items() if label != mine.label]),
            ("duplicate", [j for key, j in firsts.items() if key == (mine.split, mine.label)]),
        ):
            if found:
                how = "bytes" if fact.bytes_hash == facts[found[0]].bytes_hash else "pixels"
                yield Problem(kind, mine.name, _same_as(kind, mine, pictures[found[0]], how))
        firsts.setdefault((mine.split, mine.label), i)


def _same_as(kind: str, mine: Picture, other: Picture, how: str) -> str:
    detail = f"same {how} as {other.name}"
    if kind == "conflicting labels":
        return f"{detail}, but {mine.label!r} instead of {other.label!r}"
    if kind == "duplicate" and mine.split == "all":
        return f"{detail}; one may be learnt from and the other measured on"
    return detail


def _look_alikes(pictures: Sequence[Picture], facts: Sequence[Facts], judged: str) -> Iterator[Problem]:
    """Pictures of the split `judged` that look like a training picture, though their pixels differ."""
    train = [i for i, fact in enumerate(facts) if fact.look and pictures[i].split == "train"]
    val = [i for i, fact in enumerate(facts) if fact.look and pictures[i].split == judged]
    if not train or not val:
        return
    known = {facts[i].pixels_hash for i in train}
    greys, signs = thumbnails([facts[i].look for i in train])
    for i, thumbnail, sign in zip(val, *thumbnails([facts[i].look for i in val]), strict=True):
        near = np.flatnonzero(np.bitwise_count(signs ^ sign) <= LOOK_SIGNS)
        close = near[np.abs(greys[near] - thumbnail).mean((1, 2)) <= LOOK_LEVELS]
        if sign and len(close) and facts[i].pixels_hash not in known:
            yield Problem("looks the same", pictures[i].name, f"hardly differs from {pictures[train[close[0]]].name}")
