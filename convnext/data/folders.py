"""What lies in a data folder: splits, class folders, files. Only names are read here, no picture is opened.

Names that begin with a dot are ignored, and so are folders of training runs: what they hold are results. A link is
followed unless it leads back to a folder that is already being read.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .images import IMAGE_SUFFIXES, left_out, readable, require_regular, suffix_of
from .source import FileReader, Source, listed, typical_size

TRAIN_NAMES = ("train", "training")
SPLIT_NAMES = {"train": TRAIN_NAMES, "val": ("val", "validation", "valid"), "test": ("test", "testing")}
SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
RUNS = "runs"  # where runs are put that no other place is named for
RUN_FILES = ({"recipe.json", "log.jsonl"}, {"folds.json"}, {"sweep.json"})  # those of a run, of folds, of a sweep
SHOWN = 5  # folders that a note names
MAC_ARCHIVE = "__MACOSX"  # beside what was unpacked: the files' attributes
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")  # as data sets are downloaded
Identity = tuple[int, int]  # device and inode


@dataclass(frozen=True)
class Entry:
    """One thing in a class folder that is not a folder."""

    path: str  # below the folder that was asked about, with the file system's own bytes
    regular: bool  # a file, or a link to one: not a pipe, socket or dangling link

    @property
    def is_image(self) -> bool:
        return suffix_of(self.path) in IMAGE_SUFFIXES


def require_folder(root: Path, known: Sequence[str] = ()) -> None:
    """UserError unless `root` is a folder; the message names the `known` built-in sets."""
    if os.path.isdir(root):
        return
    if os.path.lexists(root):
        raise UserError(f"{readable(root)} is not a folder; give the folder of class folders (unpack an archive first)")
    hint = f", or name a built-in set ({', '.join(known)})" if known else ""
    raise UserError(f"there is no folder {readable(root)}; check the path{hint}")


def split_folders(root: Path) -> dict[str, Path]:
    """{"train": …, "val": …, "test": …}, or some of them, or none: then `root` itself holds the class folders."""
    names = {folder.name.lower(): folder for folder in class_folders(root)}
    found = {}
    for split, spellings in SPLIT_NAMES.items():
        if known := [name for name in spellings if name in names]:
            found[split] = names[known[0]]
    if len(found) < len(names) and not any(class_folders(folder) for folder in found.values()):
        return {}  # a class that happens to be called "train" or "test": it holds images, and has classes beside it
    return found


def class_folders(root: Path) -> list[Path]:
    """The visible folders directly below `root`, by name: their positions are the class indices, as in torchvision."""
    return [folder for folder in _folders(root) if not _why_never(folder)]


def passed_over(root: Path, found: dict[str, Path]) -> list[tuple[Path, str]]:
    """The folders in a data folder and in its splits (those `found`) that are no classes though they might be, and why.

    What cannot be listed has none: whoever reads it says so.
    """
    unused: list[tuple[Path, str]] = []
    for place in dict.fromkeys((root, *found.values())):
        with contextlib.suppress(UserError, OSError):
            unused += [(folder, why) for folder in _folders(place) if (why := _why_never(folder))]
            if place == root and root not in found.values():
                others = [folder for folder in class_folders(root) if folder not in found.values()] if found else []
                unused += [(folder, "train, val and test hold the classes") for folder in others]
            unused += [(place / name, "its name begins with a dot") for name in _hidden_folders(place)]
    return unused


def remark_on_passed_over(root: Path, found: dict[str, Path]) -> str:
    """The end of a note: those folders, each with its reason; "" where there are none."""
    unused = [f"{readable(os.path.relpath(folder, root))} ({why})" for folder, why in passed_over(root, found)]
    return (
        f"; left out: {', '.join(unused[:SHOWN])}{f' and {len(unused) - SHOWN} more' * (len(unused) > SHOWN)}"
        if unused
        else ""
    )


def _why_never(folder: Path) -> str:
    if folder.name == MAC_ARCHIVE:
        return "a Mac puts it into archives, and it holds no pictures"
    return "it holds training runs" if holds_runs(folder) else ""


def holds_runs(folder: Path) -> bool:
    """Whether a folder is that of a run, or is called as the one that runs are put into and has no picture itself."""
    if any(all(os.path.isfile(folder / name) for name in names) for names in RUN_FILES):
        return True
    try:
        return folder.name == RUNS and not any(entry.is_image for entry in loose_files(folder))
    except UserError:
        return False


def _folders(root: Path) -> list[Path]:
    return [root / entry.name for entry in _visible(root) if _is(entry, "dir")]


def loose_files(root: Path) -> list[Entry]:
    """The visible files directly in `root`: no class folder holds them, so nothing learns from them."""
    return [Entry(entry.name, _is(entry, "file")) for entry in _visible(root) if not _is(entry, "dir")]


def entries(root: Path, folder: str = "") -> Iterator[Entry]:
    """Everything but folders below `root / folder`, by name; each real folder once. Paths are relative to `root`."""
    top = root / folder
    above = [parent for parent in (root, *top.resolve().parents) if os.path.isdir(parent)]  # those we may look at
    yield from _walk(root, folder, {_identity(place) for place in (top, *above)})


def scan(root: Path, prefix: str = "") -> Source:
    """One folder of class folders; UserError unless there are two classes or more, and an image in each."""
    names = [folder.name for folder in class_folders(root)]
    shown = readable(root)
    if not names:
        packed = [entry.path for entry in loose_files(root) if entry.path.lower().endswith(ARCHIVES)]
        if packed:
            raise UserError(
                f"{shown} has no class folders; it holds {readable(packed[0])}: unpack it, and pass what was in it"
            )
        loose = sum(entry.is_image for entry in loose_files(root))
        also = f"; name a table of the {loose:,} images in it by --labels, or" if loose else ";"
        raise UserError(f"{shown} has no class folders{also} put the images of each class into a folder of its own")
    found, lost = [], Counter[str]()
    for name in names:
        mine = list(entries(root, name))
        found.append([entry for entry in mine if entry.is_image])
        lost.update(suffix_of(entry.path) for entry in mine if not entry.is_image)
    if not any(found):
        others = left_out(lost, 0)
        raise UserError(f"{shown} holds no images ({others or ', '.join(sorted(IMAGE_SUFFIXES))})")
    if len(names) == 1:
        raise UserError(f"{shown} has only one class, {names[0]!r}; a classifier needs at least two")
    if empty := [name for name, mine in zip(names, found, strict=True) if not mine]:
        raise UserError(f"{shown} has no images in the class {listed(empty)}; fill the folder or remove it")
    if odd := [entry for mine in found for entry in mine if not entry.regular]:
        try:
            require_regular(root / odd[0].path)
        except UserError as error:
            more = f" (and {len(odd) - 1:,} more; convnext check lists them all)" if len(odd) > 1 else ""
            raise UserError(f"{error}{more}") from None
    paths = tuple(entry.path for mine in found for entry in mine)
    ids = tuple(readable(f"{prefix}/{path}" if prefix else path) for path in paths)
    labels = tuple(label for label, mine in enumerate(found) for _ in mine)
    return Source(
        tuple(map(readable, names)),
        labels,
        ids,
        FileReader(root, paths),
        typical_size(root, paths),
        left_out=lost,
        merged=tuple(name for mine in found for name in merged(mine)),
    )


def merged(mine: Sequence[Entry]) -> list[str]:
    """The folders within a class's folder that hold its pictures, where they are more than one place."""
    places = dict.fromkeys(os.path.dirname(entry.path) for entry in mine if entry.is_image)
    inner = dict.fromkeys(os.sep.join(place.split(os.sep)[:2]) for place in places if os.sep in place)
    return list(map(readable, inner)) if len(places) > 1 else []


def _walk(root: Path, folder: str, seen: set[Identity]) -> Iterator[Entry]:
    for entry in _visible(root / folder):
        path = os.path.join(folder, entry.name)
        if not _is(entry, "dir"):
            yield Entry(path, _is(entry, "file"))
        elif not _why_never(root / path) and (identity := _identity(root / path)) not in seen:
            seen.add(identity)
            yield from _walk(root, path, seen)


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(folder, error) from None


def _hidden_folders(root: Path) -> list[str]:
    """The folders directly below `root` that are passed over by the dot in their names, though they hold pictures."""
    hidden = sorted(path for path in root.iterdir() if path.name.startswith(".") and path.is_dir())
    return [
        path.name
        for path in hidden
        if any(suffix_of(name) in IMAGE_SUFFIXES for _, _, names in os.walk(path) for name in names)
    ]


def _is(entry: os.DirEntry[str], kind: str) -> bool:
    try:
        return entry.is_dir() if kind == "dir" else entry.is_file()
    except OSError:  # a link that leads round in a circle
        return False


def _identity(folder: Path) -> Identity:
    try:
        facts = folder.stat()
    except OSError as error:
        raise _unreadable(folder, error) from None
    return facts.st_dev, facts.st_ino


def _unreadable(folder: Path, error: OSError) -> UserError:
    return UserError(f"cannot read the folder {readable(folder)} ({error.strerror}); check its permissions")
