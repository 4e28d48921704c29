"""The parts that every run's page is made of: one self-contained HTML file, its tables, pictures and tiles."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .. import files
from ..training.log import LogRow, read
from . import figures

TALL = 16  # rows beyond which a table scrolls in its place
PIXELS_UP_TO = 64  # a picture this small is shown with its pixels, not smoothed
THUMBNAIL = 256  # pixels of the longer side of a picture on the page
THIN = "\u202f"  # no-break space before a per cent sign

Part = tuple[str, str, str]  # anchor, heading, HTML; left out where there is nothing to say


@dataclass(frozen=True)
class RunRecord:
    """What a run's folder says of it: the rows of its log, the first of them, and its recipe.json as it was written."""

    rows: list[LogRow]
    start: LogRow
    recipe: dict[str, object]

    @classmethod
    def of(cls, run: Path) -> RunRecord:
        """Of the run in a folder; a log without a first row has an empty one."""
        rows = read(run / "log.jsonl")
        start = next((row for row in rows if row["kind"] == "start"), LogRow(kind="start", step=0))
        return cls(rows, start, json.loads((run / "recipe.json").read_text(encoding="utf-8")))


def write_page(run: Path, command: str, parts_of: Callable[[RunRecord], Sequence[Part]]) -> Path:
    """Writes `run`/report/index.html: the parts that `parts_of` makes of what the folder says, the recipe, and the
    `command` that trains such a run again.
    """
    record = RunRecord.of(run)
    recipe = ("recipe", "Recipe", recipe_section(record))
    repeat = ("repeat", "Repeat this run", repeat_section(command))
    target = run / "report" / "index.html"
    parts = [part for part in (*parts_of(record), recipe, repeat) if part[2]]
    files.write_text(target, page(run, record, parts))
    return target


def page(run: Path, record: RunRecord, parts: Sequence[Part]) -> str:
    css = files.asset("report.css")
    data = f" on {Path(record.start['data']).name}" if record.start.get("data") else ""
    title = escaped(f"{record.recipe.get('model', 'model')}{data}")
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, heading, _ in parts[1:])
    sections = "\n".join(
        f'<section id="{name}">{"" if name == "result" else f"<h2>{heading}</h2>"}{body}</section>'
        for name, heading, body in parts
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title>\n<style>\n{css}</style></head>\n<body><main>\n"
        f'<header><p class="eyebrow">Training report · {escaped(run.resolve().name)}</p><h1>{title}</h1>'
        f"<nav>{links}</nav></header>\n{sections}\n"
        "<footer>Written by convnext. The page is this one file.</footer>\n</main></body></html>\n"
    )


def run_tiles(record: RunRecord) -> list[tuple[str, str, str]]:
    """Which weights, how long, on what."""
    rows, recipe = record.rows, record.recipe
    tiles = []
    best = [row for row in rows if row["kind"] == "eval" and row.get("best")]
    if best:
        which = {"ema": "EMA", "raw": "raw"}.get(best[-1].get("which", ""), "best")
        tiles.append(("Weights", which, f"epoch {best[-1]['epoch']:.4g}, step {best[-1]['step']:,}"))
    train = [row for row in rows if row["kind"] == "train"]
    if train:
        minutes = figures.elapsed_minutes(rows)[-1]
        speed = f"{train[-1]['images_per_s']:,.0f} images/s"
        tiles.append(("Training time", duration(minutes), f"{train[-1]['epoch']:.4g} epochs, {speed}"))
    size = recipe.get("image_size")
    tiles.append(("Images", f"{size} px", f"batch {recipe.get('batch_size')}, {recipe.get('precision')}"))
    machine = record.start.get("machine") or {}
    device = machine.get("cpu") if machine.get("gpu", "none") == "none" else machine.get("gpu")
    if device:
        tiles.append(("Machine", str(device), f"torch {machine.get('torch', '?')}"))
    return tiles


def tile(label: str, value: str, note: str) -> str:
    style = ' class="long"' if len(value) > 14 else ""
    return f"<div><dt>{escaped(label)}</dt><dd{style}>{escaped(value)}<small>{escaped(note)}</small></dd></div>"


def recipe_section(record: RunRecord) -> str:
    recipe, start = record.recipe, record.start
    whys = {str(choice["field"]): str(choice["why"]) for choice in start.get("choices") or []}
    columns = [("field", "name"), ("value", "name"), ("why", "name")]
    rows = [(escaped(name), escaped(_plain(value)), escaped(whys.get(name, ""))) for name, value in _flat(recipe)]
    facts = [(escaped(name), escaped(str(value))) for name, value in (start.get("machine") or {}).items()]
    machine = details("The machine", html_table(columns[:2], facts)) if facts else ""
    how = "Every setting as it was used, after the recipe was fitted to the data; where that decided a value, why."
    return note(how) + details(f"{len(rows)} settings", html_table(columns, rows)) + machine


def repeat_section(command: str) -> str:
    return note("The same data, recipe and seed:") + f"<pre>{escaped(command)}</pre>"


def _flat(values: dict[str, object], prefix: str = "") -> Iterable[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def html_table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> str:
    """Rows of HTML cells under (heading, CSS class) columns; a long table scrolls in its place."""
    head = "".join(f'<th class="{style}">{heading}</th>' for heading, style in columns)
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{style}">{cell}</td>' for (_, style), cell in zip(columns, row, strict=True))
        + "</tr>"
        for row in rows
    )
    scroll = "scroll tall" if len(rows) > TALL else "scroll"
    return f'<div class="{scroll}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def shot(picture: Image.Image, caption: str) -> str:
    """A picture inside the page, with an HTML caption."""
    buffer, small = io.BytesIO(), max(picture.size) <= PIXELS_UP_TO
    shown = picture.convert("RGB")
    shown.thumbnail((THUMBNAIL, THUMBNAIL))
    if small:
        shown.save(buffer, "PNG")
    else:
        shown.save(buffer, "JPEG", quality=85)
    source = f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    style = ' class="pixels"' if small else ""
    return f'<figure><img{style} src="{source}" alt=""><figcaption>{caption}</figcaption></figure>'


def details(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>{body}</details>"


def note(text: str) -> str:
    return f'<p class="how">{text}</p>'


def percent(value: float) -> str:
    return f"{value:.1f}{THIN}%"


def duration(minutes: float) -> str:
    seconds = round(60 * minutes)
    hours, rest = divmod(seconds, 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


def escaped(value: str) -> str:
    """Escaped; bytes of a file name that are no UTF-8 become question marks."""
    return html.escape(value.encode("utf-8", "replace").decode("utf-8"))
