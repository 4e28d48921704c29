"""Is this folder fit to train on? Every file is opened, every picture compared with every other.

Nothing is raised for what can be described (findings.py).
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .. import files
from ..errors import UserError
from . import folders
from .check_coco import check_annotations, is_annotated
from .check_masks import check_masks, is_masked
from .findings import ERRORS, NOTES, WARNINGS, Counts, FolderReport, Problem
from .images import BadImage, Header, open_image, read_header, readable
from .sources import NATIVE, Splits, open_data
from .tables import find_table, read_table

IMBALANCE = 10  # largest class over smallest
TINY_SIDE = 8  # pixels; the built-in digits have just these
# Two pictures look the same when few of 64 brightness steps differ in sign and the thumbnails are close. Measured on
# Imagenette at 112 pixels: copies re-encoded at quality 30 or halved in size stay within 3 levels, strangers beyond 30.
LOOK_SIDE, LOOK_SIGNS, LOOK_LEVELS = 8, 3, 4
Progress = Callable[[int, int], None]  # pictures done, pictures in all


@dataclass(frozen=True)
class _Picture:
    split: str
    label: str
    path: Path
    name: str  # below the data folder, printable


@dataclass(frozen=True)
class _Facts:
    """What one file turned out to be; a picture that cannot be used has only problems."""

    problems: tuple[Problem, ...]
    bytes_hash: str = ""
    pixels_hash: str = ""
    look: bytes = b""


def check(where: str | Path, *, labels: str | Path | None = None, progress: Progress | None = None) -> FolderReport:
    """The report on a data folder, a built-in set's name or a file of arrays; `labels` as `api.train` takes it.

    Raises UserError only when there is no such folder or it cannot be listed.
    """
    text = str(where)
    root = Path(os.path.expanduser(text))
    if (text in NATIVE and not os.path.isdir(root)) or (root.suffix == ".npz" and os.path.isfile(root)):
        return _of_arrays(open_data(where))
    if is_annotated(root):
        return check_annotations(root, progress)
    if is_masked(root):
        return check_masks(root, labels)
    folders.require_folder(root, NATIVE)
    if table := find_table(root) if labels is None else Path(labels).expanduser():
        counts, pictures, problems = _survey_table(root, table)
    else:
        counts, pictures, problems = _survey_folders(root)
    facts = _inspect_all(pictures, progress)
    problems += [problem for fact in facts for problem in fact.problems]
    problems += [*_balance(counts), *_name_twins(pictures), *_repeats(pictures, facts), *_looks(pictures, facts)]
    order = {kind: i for i, kind in enumerate((*ERRORS, *WARNINGS, *NOTES))}
    return FolderReport(readable(text), counts, sorted(problems, key=lambda problem: order[problem.kind]))


def _of_arrays(splits: Splits) -> FolderReport:
    parts = (("train", splits.train), ("val", splits.val))
    counts = {name: dict(zip(part.classes, part.class_counts(), strict=True)) for name, part in parts}
    return FolderReport(splits.name, counts, _balance(counts))


def _survey_table(root: Path, path: Path) -> tuple[Counts, list[_Picture], list[Problem]]:
    try:
        table = read_table(path)
    except UserError as error:
        return {}, [], [Problem("bad table", path.name, str(error))]
    splits = table.splits or ("all",) * len(table.paths)
    counts = {split: dict.fromkeys(table.classes, 0) for split in sorted(set(splits))}
    pictures = []
    for split, name, labels in zip(splits, table.paths, table.labels, strict=True):
        named = [table.classes[label] for label in labels]
        for label in named:
            counts[split][label] += 1
        pictures.append(_Picture(split, "; ".join(named), root / name, readable(name)))
    problems = [Problem("missing split", ".", f"{path.name} marks no row as {split}")
                for split in ("train", "val") if table.splits and split not in splits]  # fmt: skip
    return counts, pictures, problems


def _survey_folders(root: Path) -> tuple[Counts, list[_Picture], list[Problem]]:
    found = folders.split_folders(root) or {"all": root}
    counts: Counts = {}
    pictures: list[_Picture] = []
    problems = list(_structure(root, found))
    for split, folder in found.items():
        prefix = "" if folder == root else f"{folder.name}/"
        counts[split] = {}
        for classes in folders.class_folders(folder):
            label = readable(classes.name)
            try:
                mine = list(folders.entries(folder, classes.name))
            except UserError as error:
                problems.append(Problem("unreadable folder", readable(prefix + classes.name), str(error)))
                counts[split][label] = 0
                continue
            named = [(entry, readable(prefix + entry.path)) for entry in mine]
            problems += [
                Problem("not an image", name, "left out: no image suffix")
                for entry, name in named
                if not entry.is_image
            ]
            images = [_Picture(split, label, folder / entry.path, name) for entry, name in named if entry.is_image]
            if not images:
                problems.append(Problem("empty class", readable(prefix + classes.name), "holds no images"))
            counts[split][label] = len(images)
            pictures += images
    return counts, pictures, problems + _class_problems(counts)


def _structure(root: Path, found: dict[str, Path]) -> Iterator[Problem]:
    """What lies where no class folder is expected."""
    if "all" not in found:
        for split in {"train", "val"} - set(found):
            yield Problem("missing split", ".", f"there is no {split} folder beside {next(iter(found.values())).name}")
        for other in folders.class_folders(root):
            if other not in found.values():
                yield Problem("unused folder", readable(other.name), "left out: train and val hold the classes")
    for folder in (root, *(folder for folder in found.values() if folder != root)):
        for entry in folders.loose_files(folder):
            if entry.is_image:
                name = readable(os.path.relpath(folder / entry.path, root))
                yield Problem("outside classes", name, "left out: it lies in no class folder")


def _class_problems(counts: Counts) -> list[Problem]:
    problems = []
    for split, classes in counts.items():
        if not classes:
            problems.append(Problem("no class folders", split, "each class needs a folder of its own"))
        elif not any(classes.values()):
            problems.append(Problem("no images", split, "no class folder holds an image"))
        elif len(classes) == 1:
            problems.append(
                Problem("one class", split, f"only {next(iter(classes))!r}; a classifier needs at least two")
            )
    if len(counts) == 2 and all(counts.values()):
        for split, other in (("train", "val"), ("val", "train")):
            only = [name for name in counts[split] if name not in counts[other]]
            problems += [Problem("class in one split", name, f"in {split}, not in {other}") for name in only]
    return problems


def _balance(counts: Counts) -> list[Problem]:
    """Very uneven classes among the training pictures, and classes of which none can be held out."""
    split = "all" if "all" in counts else "train"
    filled = {name: count for name, count in counts.get(split, {}).items() if count}
    if len(filled) < 2:
        return []
    large, small = max(filled, key=lambda name: filled[name]), min(filled, key=lambda name: filled[name])
    problems = []
    if filled[large] > IMBALANCE * filled[small]:
        detail = f"{large!r} has {filled[large]:,} images, {small!r} only {filled[small]:,}; consider balanced sampling"
        problems.append(Problem("imbalance", split, detail))
    if split == "all":
        problems += [Problem("single image", name, "cannot be both learnt from and measured on")
                     for name, count in filled.items() if count == 1]  # fmt: skip
    return problems


def _inspect_all(pictures: list[_Picture], progress: Progress | None) -> list[_Facts]:
    facts = []
    with ThreadPoolExecutor() as pool:
        for done, fact in enumerate(pool.map(_inspect, pictures), start=1):
            facts.append(fact)
            if progress is not None:
                progress(done, len(pictures))
    return facts


def _inspect(picture: _Picture) -> _Facts:
    try:
        header = read_header(picture.path)
        image = open_image(picture.path)
        bytes_hash = files.sha256(picture.path)
    except BadImage as error:
        return _Facts((Problem(error.kind, picture.name, str(error)),))
    except OSError as error:
        return _Facts((Problem("missing", picture.name, f"vanished or could not be read again ({error.strerror})"),))
    pixels = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
    return _Facts(tuple(_oddities(header, picture.name)), bytes_hash, pixels, _look(image))


def _oddities(header: Header, name: str) -> Iterator[Problem]:
    words = []
    if header.mode.startswith("I") or header.mode == "F":
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


def _look(image: Image.Image) -> bytes:
    """A grey thumbnail of 8 rows and 9 columns, by which re-encoded and resized copies are known."""
    return image.convert("L").resize((LOOK_SIDE + 1, LOOK_SIDE), Image.Resampling.BOX).tobytes()


def _name_twins(pictures: Iterable[_Picture]) -> Iterator[Problem]:
    """Names that differ only in case or in how accents are composed: one file where the file system folds them."""
    firsts: dict[tuple[str, str], str] = {}
    for name in dict.fromkeys(name for picture in pictures for name in (os.path.dirname(picture.name), picture.name)):
        folder, own = os.path.split(name)
        first = firsts.setdefault((folder, unicodedata.normalize("NFC", own.casefold())), name)
        if first != name:
            yield Problem("name twins", name, f"the same as {first} on a system that ignores case")


def _repeats(pictures: list[_Picture], facts: list[_Facts]) -> Iterator[Problem]:
    """The same picture again: in both splits, under two labels, or simply twice."""
    groups: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)  # pixels -> the first one of each split and label
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


def _same_as(kind: str, mine: _Picture, other: _Picture, how: str) -> str:
    detail = f"same {how} as {other.name}"
    if kind == "conflicting labels":
        return f"{detail}, but {mine.label!r} instead of {other.label!r}"
    if kind == "duplicate" and mine.split == "all":
        return f"{detail}; one may be learnt from and the other measured on"
    return detail


def _looks(pictures: list[_Picture], facts: list[_Facts]) -> Iterator[Problem]:
    """Validation pictures that look like a training picture, though their pixels differ."""
    train = [i for i, fact in enumerate(facts) if fact.look and pictures[i].split == "train"]
    val = [i for i, fact in enumerate(facts) if fact.look and pictures[i].split == "val"]
    if not train or not val:
        return
    known = {facts[i].pixels_hash for i in train}
    thumbnails, signs = _thumbnails([facts[i].look for i in train])
    for i, thumbnail, sign in zip(val, *_thumbnails([facts[i].look for i in val]), strict=True):
        near = np.flatnonzero(np.bitwise_count(signs ^ sign) <= LOOK_SIGNS)
        close = near[np.abs(thumbnails[near] - thumbnail).mean((1, 2)) <= LOOK_LEVELS]
        if sign and len(close) and facts[i].pixels_hash not in known:
            yield Problem("looks the same", pictures[i].name, f"hardly differs from {pictures[train[close[0]]].name}")


def _thumbnails(looks: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """(N, 8, 9) grey levels, and (N,) 64-bit words: is the left neighbour brighter? 0 for flat pictures."""
    grey = np.frombuffer(b"".join(looks), dtype=np.uint8).reshape(-1, LOOK_SIDE, LOOK_SIDE + 1).astype(np.int16)
    words = np.packbits((grey[:, :, :-1] > grey[:, :, 1:]).reshape(len(looks), -1), axis=1).view(np.uint64).ravel()
    return grey, words
