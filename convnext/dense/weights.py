"""What detectors and segmenters share: a backbone under them, and checkpoint files that hold it beside heads.

The released files and ours have the same names. Other libraries call the backbone's parts and perhaps the heads' by
names of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import UserError
from ..weights.adapt import require_stem, some
from ..weights.backbone import load_backbone
from ..weights.checkpoint import Checkpoint
from ..weights.keymaps import Weights, from_official, to_official
from ..weights.load_report import LoadReport, fill
from .model import BODY, DenseModel


@dataclass(frozen=True)
class Heads:
    """How the files of one kind of model name what is not the backbone."""

    called: str  # the kind, for messages
    prefixes: tuple[str, ...]
    per_class: re.Pattern[str]  # entries with as many rows as there are classes
    namings: dict[str, tuple[tuple[str, str], ...]]  # naming -> (ours, theirs) parts of names that differ

    def ours(self, weights: Weights) -> Weights:
        """Heads under any known names -> under ours."""
        return {self._renamed(name, reverse=True): value for name, value in weights.items()}

    def theirs(self, weights: Weights, naming: str) -> Weights:
        return {self._renamed(name, self.namings[naming]): value for name, value in weights.items()}

    def _renamed(self, name: str, rows: tuple[tuple[str, str], ...] | None = None, *, reverse: bool = False) -> str:
        pairs = [pair for known in self.namings.values() for pair in known] if rows is None else rows
        for ours, theirs in pairs:
            name = name.replace(theirs, ours) if reverse else name.replace(ours, theirs)
        return name


def load_dense(
    model: DenseModel, opened: Checkpoint, head: str, strict: bool, heads: Heads, *, without: Sequence[str] = ()
) -> LoadReport:
    """Loads a whole checkpoint of the model's kind.

    What depends on the classes is kept as it was created where their number differs, or always with `head="drop"`.
    Entries whose names begin as in `without` may be missing from the file.
    """
    translated = to_official(opened.weights, opened.source)
    require_stem(model.backbone.arch, opened, translated.weights)
    prefix = translated.prefix.removesuffix(BODY)
    weights = {BODY + name: value for name, value in translated.weights.items()}
    weights |= heads.ours({name.removeprefix(prefix): opened.weights[name] for name in translated.outside})
    notes, fresh = [*opened.notes, *translated.notes], set()
    if opened.release:
        notes.append(f"licence {opened.release.licence}, from {opened.release.url}")
    own = model.state_dict()
    of_classes = [name for name in weights if heads.per_class.search(name) and name in own]
    other = [name for name in of_classes if weights[name].shape[0] != own[name].shape[0]]
    if other or head == "drop":
        fresh = set(of_classes)
        weights = {name: value for name, value in weights.items() if name not in fresh}
        notes.append(f"the rows of classes start fresh: {some(sorted(fresh))}")
    for part in without:
        lacking = {name for name in own if name.startswith(part)}
        if lacking and not lacking & weights.keys():
            fresh |= lacking
            notes.append(f"the file has no {part.removesuffix('.')}; it starts fresh")
    fate = "reinitialised" if other or head == "drop" else "loaded"
    naming = translated.naming.name.replace("mmdet/mmseg", "mmdet" if heads.called == "detector" else "mmseg")
    return fill(
        model,
        weights,
        LoadReport(opened.source, naming, opened.entry, head=fate, notes=tuple(notes)),
        fresh=fresh,
        strict=strict,
    )


def load_body(model: DenseModel, opened: Checkpoint, strict: bool, note: str) -> LoadReport:
    """A classifier's weights into the backbone alone."""
    report = load_backbone(model.backbone, opened, "auto", None, strict)
    return replace(report, head="reinitialised", notes=(*report.notes, note))


def refuse_rows(model: DenseModel, rows: Sequence[int] | None) -> None:
    """UserError where the heads of places are to be cut as a classifier's can be."""
    if rows is not None:
        raise UserError(f"a {type(model).__name__.lower()}'s heads cannot be cut to rows; leave out rows")


def dense_weights(model: DenseModel, naming: str, heads: Heads) -> Weights:
    """The weights under the names of a library; UserError for one without such a model."""
    if naming != "official" and naming not in heads.namings:
        known = " or ".join(("official", *heads.namings))
        raise UserError(f"a {heads.called} cannot be written in {naming!r} naming; use {known}")
    weights = dict(model.state_dict())
    if naming == "official":
        return weights
    body = from_official(
        {name.removeprefix(BODY): value for name, value in weights.items() if name.startswith(BODY)},
        naming,
        model.backbone.arch,
        True,
    )
    rest = {name: value for name, value in weights.items() if name.startswith(heads.prefixes)}
    whole = {name if name.startswith(BODY) else BODY + name: value for name, value in body.items()}
    return whole | heads.theirs(rest, naming)
