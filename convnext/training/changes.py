"""Which pictures a run began with, and how it goes on when some of them have been taken out since."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from .. import files
from ..data.source import Source, listed
from ..data.splits import Pictures, S, Splits
from ..errors import UserError

PICTURES = "pictures.json"  # {"train": {name: digest of its label}, "val": {…}}, in the run's folder
KEPT_UP_TO = 200_000  # pictures; of more only the fingerprint is kept
MAY_BE_GONE = 0.1  # of the pictures: what is mended by taking files out; with more gone it is other data


def keep(path: Path, splits: Splits[Pictures]) -> None:
    """Writes the names of a run's pictures, and something of their labels, to its folder."""
    if len(splits.train) + len(splits.val) <= KEPT_UP_TO:
        parts = {"train": _labels(splits.train), "val": _labels(splits.val)}
        files.write_text(path / PICTURES, json.dumps(parts, indent=0, ensure_ascii=False) + "\n")


def as_started(path: Path, now: Splits[S]) -> Splits[S]:
    """The splits of the run in `path` without the pictures that are gone, from those that its data has `now`.

    Each picture stays on the side where it was; new ones are left out, and so are those that the rule which holds out a
    share would put on the other side now. The note says what has changed. Raises UserError, which says it too, where
    labels or classes are others, where more than a tenth of the pictures is gone, or when it is not known which.
    """
    remedy = "bring back the same pictures, or start a new run"
    begun = _read(path)
    if begun is None:
        # Runs of earlier versions kept no names: whether the files have changed or their reading has, nobody knows.
        took = "took the test split for validation" if now.test is not None else "read it otherwise"
        raise UserError(
            f"the data at {now.name} has changed since {path} was started, or the earlier version that "
            f"started it {took}; {remedy}"
        )
    parts = {"train": _labels(now.train), "val": _labels(now.val)}
    there, was = parts["train"] | parts["val"], begun["train"] | begun["val"]
    gone, new = [name for name in was if name not in there], [name for name in there if name not in was]
    said = _said(gone, new)
    if changed := [name for name in was if name in there and there[name] != was[name]]:
        what = f"{len(changed):,} of {len(was):,} pictures have other labels, or the classes are others"
        raise UserError(
            f"the data at {now.name} has changed since {path} was started: {what} ({listed(changed, 3)}); {remedy}"
        )
    sides = {"train": now.train, "val": now.val}
    kept = {split: [i for i, name in enumerate(part.ids) if name in begun[split]] for split, part in sides.items()}
    if len(gone) > MAY_BE_GONE * len(was) or not kept["train"] or bool(kept["val"]) != bool(begun["val"]):
        raise UserError(f"the data at {now.name} has changed since {path} was started: {said}; {remedy}")
    train, val = (part.take(kept[split]) for split, part in (("train", now.train), ("val", now.val)))
    if not isinstance(train, Source) or train.holds_numbers or all(train.class_counts()):
        note = f"{now.name} has changed since the run was started: {said}; it goes on with {len(train):,} training and "
        note += f"{len(val):,} validation pictures, and the order of samples is another one from here"
        return replace(now, train=train, val=val, note=note)
    raise UserError(
        f"the data at {now.name} has changed since {path} was started: {said}, and with them the last "
        f"training picture of a class; {remedy}"
    )


def _said(gone: list[str], new: list[str]) -> str:
    parts = [f"{len(gone):,} picture{'s are' if len(gone) > 1 else ' is'} gone ({listed(gone, 3)})"] if gone else []
    parts += [f"{len(new):,} {'are' if len(new) > 1 else 'is'} new and left out ({listed(new, 3)})"] if new else []
    return ", ".join(parts) or "the held-out share is another one"


def _labels(source: Pictures) -> dict[str, str]:
    """A digest of each picture's label, with the classes' names, by the picture's name."""
    known: dict[object, str] = {}
    classes = tuple(source.classes)
    for label in set(source.labels):
        known[label] = blake2b(repr((label, classes)).encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    names: Iterable[str] = source.ids
    return {name: known[label] for name, label in zip(names, source.labels, strict=True)}


def _read(path: Path) -> dict[str, dict[str, str]] | None:
    try:
        found = json.loads((path / PICTURES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    sound = isinstance(found, dict) and all(isinstance(found.get(split), dict) for split in ("train", "val"))
    return found if sound else None
