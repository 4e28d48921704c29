"""The report is one complete, escaped page for any number of classes, and says what the evidence says."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from convnext.classification.report import Evidence, write_report
from convnext.errors import UserError
from convnext.recipes.recipe import Recipe, to_json
from convnext.reports import figures
from convnext.reports.figures import plot_curves
from convnext.training.log import Figures, LogRow

VOID = {"meta", "img", "br"}


def scores(value: float) -> Figures:
    return {"top1": value, "macro_f1": value, "loss": 2 - value / 100}


def eval_row(step: int, raw: float, ema: float | None, best: bool) -> LogRow:
    return {
        "kind": "eval",
        "step": step,
        "epoch": step / 10,
        "raw": scores(raw),
        "ema": None if ema is None else scores(ema),
        "which": "raw" if ema is None or raw >= ema else "ema",
        "best": best,
        "time_s": 6.0 * step,
    }


def log_rows() -> list[LogRow]:
    fixed: LogRow = {"kind": "train", "lr": 1e-3, "images_per_s": 81.0, "step": 0}
    train = [fixed | {"step": s, "epoch": s / 10, "loss": 2 / s, "time_s": 6.0 * s} for s in (5, 10, 15, 20)]
    machine = {"cpu": "Some CPU, 2 cores", "gpu": "none", "torch": "2.11"}
    choice: dict[str, object] = {"field": "optim.lr", "value": 0.001, "why": "because <it> fits"}
    start: LogRow = {"kind": "start", "step": 0, "data": "/some/where/pets", "machine": machine, "choices": [choice]}
    return [
        start,
        *train[:2],
        eval_row(10, 60.0, 50.0, True),
        *train[2:],
        eval_row(20, 70.0, 81.5, True),
        {"kind": "end", "step": 20, "time_s": 125.0},
    ]


def make_run(folder: Path, rows: Sequence[LogRow] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.json").write_text(to_json(Recipe(model="convnext_atto")))
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows or log_rows()))
    return folder


def picture(name: str) -> Image.Image:
    return Image.new("L", (8, 8), len(name))


def evidence(classes: int = 3, images: int = 60, **changes: Any) -> Evidence:
    """Every fourth image is given the next class."""
    targets = np.arange(images) % classes
    given = np.where(np.arange(images) % 4 == 0, (targets + 1) % classes, targets)
    probs = np.full((images, classes), 0.1 / classes, dtype=np.float32)
    probs[np.arange(images), given] += 0.9
    names, ids = [f"kind {k}" for k in range(classes)], [f"val/{i}.png" for i in range(images)]
    values: dict[str, Any] = {
        "classes": names,
        "ids": ids,
        "probs": probs,
        "targets": targets,
        "loader": picture,
        "command": "convnext train pets --recipe 'a b.json'",
    }
    return Evidence(**(values | changes))


class Page(HTMLParser):
    """Checks that elements close in order; collects the text, the section ids and every address."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.words: list[str] = []
        self.sections: list[str] = []
        self.addresses: list[str] = []
        self.feed(self.source)
        assert not self.open

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\u202f", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.addresses += [values[name] for name in ("src", "href", "xlink:href", "data") if name in values]
        if tag == "section":
            self.sections.append(values["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


ALL = ["result", "curves", "confusion", "classes", "mistakes", "calibration", "maps", "recipe", "repeat"]


def test_the_page_is_complete(tmp_path: Path) -> None:
    shown = evidence(cams=[(Image.new("RGB", (100, 80)), "kind 1 (90%)")], comparisons=[("logistic regression", 66.7)])
    path = write_report(make_run(tmp_path / "run"), shown)
    page = Page(path)
    assert path == tmp_path / "run" / "report" / "index.html"
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]
    assert page.sections == ALL
    assert "convnext_atto on pets" in page.text
    assert "Top-1 accuracy 75.0 %" in page.text
    assert "60 validation images, 3 classes" in page.text
    assert "Weights EMA epoch 2, step 20" in page.text
    assert "Training time 2 min 5 s 2 epochs, 81 images/s" in page.text
    assert "Some CPU, 2 cores" in page.text
    assert page.text.index("this network 75.0 %") < page.text.index("logistic regression 66.7 %")
    assert "kind 1 (90%)" in page.text
    assert "15 of 60 images are wrong" in page.text
    assert "optim.lr 0.004 because <it> fits" in page.text
    assert "convnext train pets --recipe 'a b.json'" in page.text


def test_nothing_is_loaded_from_outside(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path), evidence()))
    assert page.addresses
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses)
    assert "url(http" not in page.source
    assert "@import" not in page.source
    assert "<script" not in page.source
    targets = {address[1:] for address in page.addresses if address.startswith("#")}
    assert targets <= set(re.findall(r'id="([^"]+)"', page.source))


def test_ids_are_unique(tmp_path: Path) -> None:
    """Several figures stand on one page: a clip path of one must not cut another."""
    ids = re.findall(r' id="([^"]+)"', Page(write_report(make_run(tmp_path), evidence())).source)
    assert len(ids) == len(set(ids))


def test_figures_follow_the_scheme_of_the_page(tmp_path: Path) -> None:
    source = Page(write_report(make_run(tmp_path), evidence())).source
    drawn = "".join(re.findall(r"<svg.*?</svg>", source, flags=re.DOTALL))
    assert "var(--ink)" in drawn
    assert "var(--ema)" in drawn
    assert "#00010" not in drawn
    assert "DejaVu" not in drawn


@pytest.mark.parametrize("classes", [2, 30, 120, 1000])
def test_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    page = Page(write_report(make_run(tmp_path), evidence(classes, images=1200)))
    assert page.sections == [name for name in ALL if name != "maps"]
    assert page.text.count(f"kind {classes - 1} ") >= 1
    assert ("Top-5" in page.text) == (classes > 5)
    labels = re.findall(r"<text[^>]*>kind \d+</text>", page.source)
    assert len(labels) == (2 * classes if classes <= 30 else 0)
    assert len(page.source) < 1_000_000


def test_names_are_escaped(tmp_path: Path) -> None:
    bad = "<script>alert('x')</script> & $a_b$ 犬\n\udcff"
    shown = evidence(classes=2, ids=[f"{bad}/{i}" for i in range(60)], command=f"convnext train {bad!r} <b>")
    shown.classes[0] = bad
    rows = log_rows()
    rows[0]["data"] = "/x/<i>pets</i>"
    page = Page(write_report(make_run(tmp_path, rows), shown))
    assert "<script" not in page.source
    assert "<i>pets" not in page.source
    assert "&lt;script&gt;" in page.source
    assert "$a_b$ 犬" in page.text


def test_mistakes_are_the_most_confident_first(tmp_path: Path) -> None:
    shown = evidence()
    shown.probs[8], shown.probs[12] = (0.01, 0.0, 0.99), (0.02, 0.96, 0.02)  # of classes 2 and 0: 8 becomes right
    shown.targets[8] = 0
    asked: list[str] = []

    def loader(name: str) -> Image.Image:
        asked.append(name)
        return Image.new("RGB", (8, 8), (1, 2, 3))

    page = Page(write_report(make_run(tmp_path), evidence(probs=shown.probs, targets=shown.targets, loader=loader)))
    assert asked[:2] == ["val/8.png", "val/12.png"]
    assert len(asked) == 15
    assert "kind 2 99% is kind 0 1% val/8.png" in page.text
    image = next(a for a in page.addresses if a.startswith("data:image/png") and Image.open(_bytes(a)).mode == "RGB")
    assert Image.open(_bytes(image)).getpixel((4, 4)) == (1, 2, 3)


def _bytes(address: str) -> io.BytesIO:
    return io.BytesIO(base64.b64decode(address.partition(",")[2]))


def test_large_pictures_are_shrunk(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path), evidence(loader=lambda _: Image.effect_noise((1200, 900), 80))))
    photos = [a for a in page.addresses if a.startswith("data:image/jpeg")]
    assert len(photos) == 15
    assert Image.open(_bytes(photos[0])).size == (256, 192)


def test_no_mistakes(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path), evidence(probs=np.eye(3, dtype=np.float32)[np.arange(60) % 3])))
    assert "all 60 validation images are right" in page.text
    assert "No image was given a wrong class" in page.text
    assert "95 % interval 94.0 to 100.0 %" in page.text


def test_multi_label(tmp_path: Path) -> None:
    targets = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 0]])
    probs = np.array([[0.9, 0.1, 0.8], [0.2, 0.7, 0.6], [0.9, 0.3, 0.1], [0.1, 0.2, 0.1]])
    shown = evidence(images=4, targets=targets, probs=probs)
    page = Page(write_report(make_run(tmp_path), shown))
    assert page.sections == [name for name in ALL if name not in ("confusion", "maps")]
    assert "Macro F1 77.8 %" in page.text  # 1, 2/3, 2/3
    assert "50.0 % of the images have every label right" in page.text
    assert "missed kind 1 30% val/2.png" in page.text
    assert "added kind 2 60% val/1.png" in page.text


def test_a_run_without_evaluations_or_average(tmp_path: Path) -> None:
    rows = log_rows()
    assert "curves" not in Page(write_report(make_run(tmp_path / "a", rows[:1]), evidence())).sections
    rows = [row | {"ema": None, "which": "raw"} if row["kind"] == "eval" else row for row in rows]
    assert "validation, EMA" not in Page(write_report(make_run(tmp_path / "b", rows), evidence())).text


def test_the_mark_on_the_curve_is_the_published_weights_and_best_only_where_they_were_chosen(tmp_path: Path) -> None:
    """Of a fold the last average is published: `best: 70.0` stood beside it, the raw weights' figure, below 81.5."""
    rows = log_rows()
    assert "best: 81.5" in write_report(make_run(tmp_path / "chosen", rows), evidence()).read_text()
    evals = [eval_row(10, 60.0, 81.5, True), eval_row(20, 70.0, 65.0, True)]
    fold = [*rows[:1], *(row | {"which": "ema", "chosen": False} for row in evals)]
    page = write_report(make_run(tmp_path / "fold", fold), evidence()).read_text()
    assert "published: 65.0" in page
    assert "best: " not in page


def test_a_single_row_of_the_log_is_seen_on_the_curves() -> None:
    """A line through one point is nothing: loss and learning rate of a run of one step were empty axes."""
    rows = [row for row in log_rows() if row["kind"] == "train"]
    assert all("<use " in drawn for drawn in figures.curves(rows[:1], "top1", "Top-1"))  # a marker
    assert not any("<use " in drawn for drawn in figures.curves(rows, "top1", "Top-1"))


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    first = write_report(run, evidence()).read_bytes()
    assert write_report(run, evidence()).read_bytes() == first


def test_matplotlib_is_left_as_it_was(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    write_report(make_run(tmp_path), evidence())
    assert dict(matplotlib.rcParams) == before


def test_clock_of_a_resumed_run_goes_on() -> None:
    rows: list[LogRow] = [{"kind": "start", "step": 0}]
    rows += [{"kind": "train", "step": 0, "time_s": seconds} for seconds in (60, 120, 30, 90, 6)]
    assert figures.elapsed_minutes(rows) == pytest.approx([0, 1, 2, 2.5, 3.5, 3.6])


def test_groups_of_classes_keep_every_image() -> None:
    confusion = np.random.default_rng(0).integers(0, 5, (450, 450))
    grouped = figures._grouped(confusion)
    assert grouped.shape == (150, 150)
    assert grouped[0, 1] == confusion[0:3, 3:6].sum()
    assert grouped.sum() == confusion.sum()


def test_comparison_of_runs(tmp_path: Path) -> None:
    logs: dict[str, Path | tuple[Path, str]] = {
        name: make_run(tmp_path / name) / "log.jsonl" for name in ("ours $1", "theirs $2")
    }
    out = plot_curves(logs, tmp_path / "docs" / "curves.png")
    with Image.open(out) as drawn:
        assert drawn.size == (1500, 630)
    (tmp_path / "empty.jsonl").write_text('{"kind": "start", "step": 0}\n')
    with pytest.raises(UserError, match=r"empty\.jsonl holds no evaluation"):
        plot_curves({"empty": tmp_path / "empty.jsonl"}, out)


def test_cells_hold_counts_or_where_those_are_long_shares() -> None:
    few, many = np.array([[12, 3], [0, 1200]]), np.array([[79_000, 2_533], [100, 200_000]])
    texts = [figures._cell_texts(c, c / c.sum(1, keepdims=True)).tolist() for c in (few, many)]
    assert texts == [[["12", "3"], ["", "1,200"]], [["97", "3"], ["<1", "100"]]]
