"""The sections that the pages of several tasks have: the score at the top, learning curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..training.log import LogRow
from . import figures
from .page import THIN, escaped, note, tile

Tile = tuple[str, str, str]  # label, value, what it says


def score(label: str, value: float, how: str, said: Sequence[str], scale: str = "", unit: str = "%") -> str:
    """The main figure, `how` it is meant (HTML), and sentences on how good it is; `scale` lies between."""
    written = f"{value:.1f}<small>{THIN}%</small>" if unit == "%" else f"{value:.4f}"
    return (
        f'<div><p class="eyebrow">{label}</p><div class="score">{written}</div>{scale}'
        f'<p class="how">{how}</p>{"".join(note(escaped(line)) for line in said)}</div>'
    )


def headline(main: str, tiles: Iterable[Tile]) -> str:
    """A score with tiles of other figures beside it."""
    return f'<div class="headline">{main}<dl class="tiles">{"".join(tile(*one) for one in tiles)}</dl></div>'


def curves(rows: list[LogRow], metric: str, label: str, how: str = "", unit: str = "%") -> str:
    """The loss and a metric over the epochs; empty where a log has too little for them."""
    drawn = figures.curves(rows, metric, f"{label}, {unit}" if unit else label)
    if not drawn:
        return ""
    pictures = "".join(f"<figure>{svg}</figure>" for svg in drawn)
    return f'{note(how) if how else ""}<div class="figures">{pictures}</div>'
