"""Data sets that come as arrays or by name: the digits, CIFAR, Imagenette, .npz files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from .. import files
from ..data.folders import scan
from ..data.images import readable
from ..data.source import ArrayReader, Source, as_given, listed
from ..data.splits import Splits
from ..errors import UserError
from ..formulas import source as formulas

DIGITS_HELD_OUT = 360
NATIVE = ("digits", "cifar10", "cifar100", "imagenette", "formulas")
CIFAR_FOLDERS = {"cifar-10-batches-py": "cifar10", "cifar-100-python": "cifar100"}  # as their archives unpack
ARRAY_NAMES = ("x_train", "y_train", "x_test", "y_test")  # in an .npz file: the names that Keras made common


T = TypeVar("T")


def named(name: str) -> Splits[Source]:
    """One of NATIVE. All but the digits are downloaded into the cache folder when they are not there yet."""
    if name == formulas.NAME:
        return formulas.splits()
    return digits() if name == "digits" else _imagenette() if name == "imagenette" else _cifar(name)


def digits() -> Splits[Source]:
    """scikit-learn's handwritten digits, 8 x 8; `train_test_split(..., random_state=0, stratify=labels)` holds out 360.

    On these, logistic regression on pixels between 0 and 1 reaches 96.7 %, and SVC(C=10) 99.4 %.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    grey = np.round(data.images * (255 / 16)).astype(np.uint8)
    labels = tuple(int(label) for label in data.target)
    whole = Source(
        tuple(str(n) for n in data.target_names),
        labels,
        tuple(f"digits/{i}" for i in range(len(labels))),
        _arrays(grey),
        8,
        native="digits",
    )
    train, val = train_test_split(np.arange(len(labels)), test_size=DIGITS_HELD_OUT, random_state=0, stratify=labels)
    note = f"digits: scikit-learn's {len(labels):,} handwritten digits of 8 x 8 pixels, {DIGITS_HELD_OUT} held out"
    return Splits(whole.take([int(i) for i in train]), whole.take([int(i) for i in val]), "digits", note)


def cifar_folder(root: Path) -> tuple[str, Path] | None:
    """Which CIFAR `root` is or holds, and the folder that its archive was unpacked in."""
    for folder, name in CIFAR_FOLDERS.items():
        if root.resolve().name == folder:
            return name, root.resolve().parent
        if os.path.isdir(root / folder):
            return name, root
    return None


def cifar_in(root: Path) -> Splits[Source] | None:
    """CIFAR, when `root` is or holds the folder its archive unpacks to. Torchvision checks these pickles' hashes."""
    found = cifar_folder(root)
    return None if found is None else _cifar(*found)


def _cifar(name: str, root: Path | None = None) -> Splits[Source]:
    """From the cache, downloading what is missing; from `root`, as it is."""
    from torchvision import datasets

    kind = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    place, download = (files.cache_folder() / "data", True) if root is None else (root, False)

    def part(split: str) -> Source:
        data = _fetched(name, place, lambda: kind(str(place), train=split == "train", download=download))
        return _in_memory(data.data, data.targets, data.classes, f"{name}/{split}", name)

    return as_given(part("train"), part("val"), name if root is None else str(root))


def _imagenette() -> Splits[Source]:
    """The 160-pixel edition: class folders named by WordNet id, shown under their English names."""
    from torchvision import datasets

    place = files.cache_folder() / "data"
    kind = datasets.Imagenette
    data = _fetched("imagenette", place, lambda: kind(str(place), split="train", size="160px", download=True))
    classes = tuple(names[0] for names in data.classes)
    folder = place / "imagenette2-160"
    parts = [replace(scan(folder / split, split), classes=classes, native="imagenette") for split in ("train", "val")]
    return as_given(parts[0], parts[1], "imagenette")


def _fetched(name: str, place: Path, get: Callable[[], T]) -> T:
    try:
        return get()
    except (OSError, RuntimeError) as error:
        reason = f"cannot get {name} ({error})"
        raise UserError(f"{reason}; connect to the network, or place the files below {place}") from None


def from_npz(path: Path) -> Splits[Source]:
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        reason = f"{readable(path)} cannot be read ({error})"
        raise UserError(f"{reason}; give an .npz file without pickled objects") from None
    if lack := [name for name in ARRAY_NAMES if name not in held]:
        raise UserError(f"{readable(path)} lacks the arrays {listed(lack)}; it needs {', '.join(ARRAY_NAMES)}")
    labels = [held[name] for name in ("y_train", "y_test") if held[name].dtype.kind in "iu"]  # others: `_part` explains
    last = max((int(values.max(initial=0)) for values in labels), default=0)
    classes = [str(name) for name in held.get("classes", range(last + 1))]
    parts = [_part(held, split, classes, path) for split in ("train", "test")]
    if len(set(parts[0].labels)) < 2:
        raise UserError(f"{readable(path)}: y_train has only one class; a classifier needs at least two")
    return as_given(parts[0], parts[1], str(path))


def _part(held: dict[str, np.ndarray], split: str, classes: Sequence[str], path: Path) -> Source:
    images, labels, shown = held[f"x_{split}"], held[f"y_{split}"].ravel(), readable(path)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
        raise UserError(
            f"{shown}: x_{split} is {images.dtype} {images.shape}, expected uint8 (N, H, W) or (N, H, W, 3)"
        )
    if len(images) != len(labels) or labels.dtype.kind not in "iu":
        raise UserError(
            f"{shown}: y_{split} must hold a whole number for each of the {len(images)} images of x_{split}"
        )
    if not len(labels) or labels.min() < 0 or labels.max() >= len(classes):
        raise UserError(f"{shown}: y_{split} must hold class indices from 0 to {len(classes) - 1}, at least one")
    native = path.stem if path.stem in NATIVE else None
    return _in_memory(images, labels, classes, f"{path.stem}/{split}", native)


def _in_memory(
    images: np.ndarray, labels: Iterable[int], classes: Sequence[str], prefix: str, native: str | None
) -> Source:
    ids = tuple(f"{prefix}/{i}" for i in range(len(images)))
    short = int(min(images.shape[1:3]))
    return Source(tuple(classes), tuple(int(label) for label in labels), ids, _arrays(images), short, native=native)


def _arrays(images: np.ndarray) -> ArrayReader:
    """(N, H, W), (N, H, W, 1) or (N, H, W, 3) uint8."""
    rgb = np.broadcast_to(images.reshape(*images.shape[:3], -1), (*images.shape[:3], 3))
    return ArrayReader(list(np.ascontiguousarray(rgb)))
