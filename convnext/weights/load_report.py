"""Weights under a model's own names -> the model, and what became of every entry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from torch import nn

from ..errors import UserError
from .adapt import some
from .keymaps import Weights


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did. `head`: "loaded", "reinitialised" (kept as created), "cut to rows" or "none"."""

    source: str
    naming: str
    entry: str
    loaded: int = 0
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[
        tuple[str, tuple[int, ...], tuple[int, ...]], ...
    ] = ()  # name, shape in the file, shape in the model
    fresh: tuple[str, ...] = ()  # the model's entries that stayed as they were created
    head: str = "loaded"
    notes: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)  # what the file says of itself

    @property
    def ok(self) -> bool:
        """Whether every entry of the file and of the model was accounted for."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        entry = f", entry {self.entry}" if self.entry else ""
        lines = [
            f"weights: {self.source} ({self.naming} naming{entry}): {self.loaded} entries loaded, head {self.head}"
        ]
        return "\n".join([*lines, *(f"  {line}" for line in (*self.problems(), *self.notes))])

    def problems(self) -> list[str]:
        """One line for each kind of disagreement, the first few entries by name."""
        shapes = [f"{name} {list(got)} in the file, {list(want)} in the model" for name, got, want in self.mismatched]
        rows = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", shapes))
        return [f"{len(names)} {kind}: {some(names)}" for kind, names in rows if names]


def fill(
    model: nn.Module,
    weights: Weights,
    report: LoadReport,
    *,
    strict: bool,
    fresh: Iterable[str] = (),
    outside: tuple[str, ...] = (),
) -> LoadReport:
    """Copies what fits into the model and completes the report; entries in `fresh` may stay as they are."""
    wanted = model.state_dict()
    usable = {name: value for name, value in weights.items() if name in wanted and value.shape == wanted[name].shape}
    wrong = [name for name in weights if name in wanted and name not in usable]
    report = replace(
        report,
        loaded=len(usable),
        fresh=tuple(name for name in wanted if name not in usable),
        missing=tuple(name for name in wanted if name not in weights and name not in set(fresh)),
        unexpected=(*(name for name in weights if name not in wanted), *outside),
        mismatched=tuple((name, tuple(weights[name].shape), tuple(wanted[name].shape)) for name in wrong),
    )
    for name, value in usable.items():
        if value.is_meta and not wanted[name].is_meta:
            raise UserError(f"{report.source} holds {name} without its values (a meta tensor); save it again with them")
        if not value.is_meta and not bool(value.isfinite().all()):
            raise UserError(
                f"{report.source} holds values in {name} that are no numbers or infinite; it is damaged, or its "
                "training diverged: fetch or save it again"
            )
    if strict and not report.ok:
        problems = "; ".join(report.problems())
        raise UserError(f"{report.source} does not fit the model: {problems}; create the model that it was made for")
    model.load_state_dict(usable, strict=False)
    return report


def require_whole(report: LoadReport) -> LoadReport:
    """The report of a model that is to answer. Raises UserError where something in it was freshly made."""
    if report.fresh:
        why = "; ".join((*report.problems(), *report.notes)) or "the file does not hold them"
        raise UserError(
            f"{report.source} leaves {some(report.fresh)} as they were made, at random ({why}), so it would answer at "
            f"random; train from it with --weights {report.source}"
        )
    return report
