"""Where the pictures that a command writes go: each beside no other, none over a picture that was read."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from .images import readable


def targets(paths: Sequence[str], out: Path, endings: Sequence[str] = (".png",)) -> dict[str, Path]:
    """Where what is made of each picture goes: out/NAME.png, or out/FOLDER/NAME.png where names alone would meet.

    `endings` are of all files that a picture gives; the paths returned have the first. Raises UserError, before
    anything is written, where two pictures would share a file, or a file may be a picture of the user's.
    """
    files = {path: os.path.abspath(path) for path in paths}  # not resolved: a link keeps its own name
    names = {file: Path(file).stem for file in files.values()}
    if _shared(names):
        common = os.path.commonpath([os.path.dirname(file) for file in names])
        names = {file: os.path.splitext(os.path.relpath(file, common))[0] for file in names}
    if shared := _shared(names):
        one, other = (readable(file) for file in shared[:2])
        raise UserError(f"{one} and {other} would both be drawn as {out / names[shared[0]]}{endings[0]}; rename one")
    theirs = {os.path.realpath(file) for file in names}
    folders = {os.path.realpath(os.path.dirname(file)) for file in names}
    for name in names.values():
        for made in (out / f"{name}{ending}" for ending in endings):
            # Beside the pictures nobody can tell what an earlier run has drawn from what the user has put there.
            if os.path.realpath(made) in theirs or (os.path.realpath(made.parent) in folders and made.exists()):
                raise UserError(f"{readable(made)} is a picture already, which would be lost; choose another --out")
    return {path: out / f"{names[file]}{endings[0]}" for path, file in files.items()}


def _shared(names: dict[str, str]) -> list[str]:
    """The first files of one name, also where a file system ignores case; none when all differ."""
    groups = defaultdict(list)
    for file, name in names.items():
        groups[name.casefold()].append(file)
    return next((group for group in groups.values() if len(group) > 1), [])
