"""The ImageNet-C version of a folder of one's own: every picture, corrupted in every way and strength."""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from ..classification.data import open_for_judging
from ..data import folders
from ..data.images import read_header, readable
from ..data.learned import NOTHING_LEARNED, LearnedBy
from ..data.level_scan import measured_on
from ..data.levels import Levels
from ..data.source import FileReader, Source, listed
from ..errors import UserError
from ..files import make_writable_folder
from ..system import machine
from .corruptions import CORRUPTIONS, MIN_SIDE, SEVERITIES, STANDARD, corrupt

JPEG_QUALITY = 85  # as the published ImageNet-C
SHORT_SIDE = 256  # pixels; the corruptions' strengths are made for pictures of about this size, as ImageNet-C's are
Where = str | Path
Say = Callable[[str], None]


def corrupt_folder(
    data: Where,
    out: Where,
    *,
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    frost: Where | None = None,
    short_side: int | None = SHORT_SIDE,
    learned: LearnedBy | None = None,
    say: Say | None = None,
) -> Path:
    """Writes out/CORRUPTION/SEVERITY/CLASS/FILE for every picture of class folders that a model is judged on.

    Those are val of train/ and val/, else all; or those held out, where `learned` (evaluate.learned_from) says that
    a model learned from the others.

    `corruptions` None are the 15 of ImageNet-C, without frost where no folder of `frost` pictures is given. Pictures
    whose short side is longer than `short_side` pixels are shrunk to it first (None: never), as ImageNet-C's were: the
    strengths are made for that size. Files are JPEG of quality 85; a picture's corruption depends on `seed`, its
    path, the corruption and the severity only. `out` appears when it is complete; returns it.

    Raises UserError, before anything is written, for unknown corruptions or severities, pictures that are too small
    or no pictures, an `out` that is not empty or lies in `data`, and frost asked for without pictures.
    """
    root, target = Path(data).expanduser(), Path(out).expanduser()
    say = say or (lambda note: None)
    folders.require_folder(root)
    chosen = _chosen_corruptions(corruptions, frost, say)
    if not severities or (odd := [str(one) for one in severities if one not in SEVERITIES]):
        raise UserError(f"severities {', '.join(odd) if severities else '(none)'} do not exist; choose from 1 to 5")
    if short_side is not None and short_side < MIN_SIDE:
        raise UserError(f"a short side of {short_side} pixels is too small to corrupt; choose at least {MIN_SIDE}")
    _require_free(target, root)
    source, _ = open_for_judging(root, learned=learned or NOTHING_LEARNED)
    reader = _require_large_enough(source)
    plan = [(name, severity) for name in chosen for severity in sorted(set(severities))]
    read = f"{len(source):,} images of {readable(reader.root)}"
    say(f"{read}: {len(plan) * len(source):,} files in {len(chosen)} corruptions will be written to {readable(target)}")
    reader = reader.within(_levels_for(source, learned or NOTHING_LEARNED))
    job = _Job(reader, tuple(plan), seed, None if frost is None else Path(frost).expanduser(), short_side)
    with _built_aside(target) as aside:
        for done, _ in enumerate(_written(job, aside, len(source)), 1):
            if done % max(1, len(source) // 10) == 0:
                say(f"{done:,} of {len(source):,} images")
    return target


@dataclass(frozen=True)
class _Job:
    """Every corrupted version of one picture after the other."""

    reader: FileReader
    plan: tuple[tuple[str, int], ...]
    seed: int
    frost: Path | None
    short_side: int | None

    def write(self, index: int, out: Path) -> None:
        path = self.reader.paths[index]
        image = self.reader(index)
        if self.short_side is not None and min(image.size) > self.short_side:
            scale = self.short_side / min(image.size)
            size = (round(image.width * scale), round(image.height * scale))
            image = image.resize(size, Image.Resampling.BICUBIC)
        pixels = np.asarray(image)
        # A name that says another format would lie about the bytes; ImageNet's own names end in .JPEG and stay.
        name = path if path.lower().endswith((".jpg", ".jpeg")) else f"{path}.jpg"
        for corruption, severity in self.plan:
            key = os.fsencode(f"{self.seed}\0{corruption}\0{severity}\0{path}")
            seed = int.from_bytes(hashlib.sha256(key).digest()[:8], "big")
            corrupted = corrupt(pixels, corruption, severity, seed=seed, frost=self.frost)
            place = out / corruption / str(severity) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(corrupted).save(place, "JPEG", quality=JPEG_QUALITY)


def _written(job: _Job, out: Path, count: int) -> Iterator[int]:
    """Writes each picture's versions, in processes: NumPy and SciPy hold Python's lock for most of the work."""
    workers = min(machine.cores(), count)
    if workers < 2:
        for index in range(count):
            job.write(index, out)
            yield index
        return
    with warnings.catch_warnings():
        # Forking beside torch's threads draws a notice from 3.12 on; the workers run no torch operator.
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
        with ProcessPoolExecutor(workers, get_context("fork"), _take, (job, out)) as pool:
            yield from pool.map(_write, range(count))


_task: list[tuple[_Job, Path]] = []  # of a worker process, which is given it once and not with every picture


def _take(job: _Job, out: Path) -> None:
    _task[:] = [(job, out)]


def _write(index: int) -> int:
    job, out = _task[0]
    job.write(index, out)
    return index


def _chosen_corruptions(names: Sequence[str] | None, frost: Where | None, say: Say) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(STANDARD if names is None else names))
    if unknown := [name for name in chosen if name not in CORRUPTIONS]:
        raise UserError(f"there is no corruption {listed(unknown)}; choose from {', '.join(CORRUPTIONS)}")
    if not chosen:
        raise UserError(f"no corruption was named; choose from {', '.join(CORRUPTIONS)}")
    if names is None and frost is None:
        say("frost is left out: it needs a folder of pictures of frost")
        return tuple(name for name in chosen if name != "frost")
    if "frost" in chosen:  # so that missing pictures are found now
        corrupt(np.zeros((MIN_SIDE, MIN_SIDE, 3), dtype=np.uint8), "frost", 1, seed=0, frost=frost)
    return chosen


def _levels_for(source: Source, learned: LearnedBy) -> Levels | None:
    """What is black and white in the pictures: to the model that is named, else by the pictures themselves."""
    if learned.known is not None:
        return learned.known.levels
    found = measured_on(source)
    return None if found is None else found.levels


def _require_large_enough(source: Source) -> FileReader:
    """The files of a folder's pictures, all of which a corruption can work on."""
    reader = source.read
    if not isinstance(reader, FileReader) or source.multi_label:
        raise UserError("copies are made of class folders of pictures; pass such a folder")
    for path in reader.paths:
        width, height = read_header(reader.root / path).size
        if min(width, height) < MIN_SIDE:
            raise UserError(
                f"{readable(reader.root / path)} is {width} x {height}; corruptions need at least "
                f"{MIN_SIDE} pixels a side, so enlarge it or take it out"
            )
    return reader


def _require_free(out: Path, data: Path) -> None:
    if out.resolve().is_relative_to(data.resolve()):
        raise UserError(f"{readable(out)} lies in the folder that is read; choose another --out")
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{readable(out)} is there already and not an empty folder; choose another --out")
    make_writable_folder(out.resolve().parent)


@contextmanager
def _built_aside(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the body succeeds, and is removed when it does not."""
    aside = out.resolve().parent / f".{out.name}.{os.getpid()}.tmp"
    try:
        aside.mkdir()
        yield aside
        aside.replace(out)
    except OSError as error:
        raise UserError(f"cannot write {readable(out)}: {error.strerror or error}; choose another --out") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
