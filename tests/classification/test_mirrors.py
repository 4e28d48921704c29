"""Which pictures a mirror makes into others: drawn ones, of which it is known."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixture_types import AsArguments
from PIL import Image, ImageDraw, ImageFont

from convnext import api
from convnext.classification import mirrors
from convnext.classification.data import open_data
from convnext.data.source import ArrayReader, Source

SIDE = 48
Draw = Callable[[ImageDraw.ImageDraw, random.Random], None]


def arrow(way: int) -> Draw:
    """A solid one; `way` is 1 to the right, -1 to the left."""

    def draw(pen: ImageDraw.ImageDraw, rng: random.Random) -> None:
        long, thick, x, y = rng.uniform(10, 19), rng.uniform(3, 6), rng.uniform(20, 28), rng.uniform(20, 28)
        outline = [(-long, -thick), (0, -thick), (0, -long), (long, 0), (0, long), (0, thick), (-long, thick)]
        pen.polygon([(x + way * a, y + b) for a, b in outline], fill=_colour(rng))

    return draw


def letter(which: str) -> Draw:
    def draw(pen: ImageDraw.ImageDraw, rng: random.Random) -> None:
        font = ImageFont.load_default(rng.uniform(26, 40))
        pen.text((rng.uniform(20, 28), rng.uniform(20, 28)), which, fill=_colour(rng), font=font, anchor="mm")

    return draw


def disc(pen: ImageDraw.ImageDraw, rng: random.Random) -> None:
    r, x, y = rng.uniform(8, 18), rng.uniform(20, 28), rng.uniform(20, 28)
    pen.ellipse((x - r, y - r, x + r, y + r), fill=_colour(rng))


def _colour(rng: random.Random) -> tuple[int, ...]:
    return tuple(rng.randint(140, 255) for _ in range(3))


def drawn(kinds: Sequence[Draw], each: int, seed: int = 0) -> list[list[Image.Image]]:
    rng = random.Random(seed)
    pictures = [[Image.new("RGB", (SIDE, SIDE), (rng.randint(0, 90),) * 3) for _ in range(each)] for _ in kinds]
    for draw, some in zip(kinds, pictures, strict=True):
        for image in some:
            draw(ImageDraw.Draw(image), rng)
    return pictures


def source_of(pictures: Sequence[Sequence[Image.Image]]) -> Source:
    names = tuple(f"class {k}" for k in range(len(pictures)))
    labels = tuple(k for k, some in enumerate(pictures) for _ in some)
    arrays = [np.asarray(image) for some in pictures for image in some]
    return Source(names, labels, tuple(map(str, range(len(arrays)))), ArrayReader(arrays), SIDE)


@pytest.mark.parametrize("each", [5, 20, 60])
@pytest.mark.parametrize("kinds", [(arrow(-1), arrow(1)), (letter("b"), letter("d"), letter("o"), disc)])
def test_twins_are_found(kinds: Sequence[Draw], each: int) -> None:
    pictures = source_of(drawn(kinds, each))
    told = mirrors.tell(pictures)
    assert told is not None
    assert len(told.own) <= len(kinds) * min(each, mirrors.EACH)
    assert (told.plain == told.own).mean() > 0.8
    assert mirrors.what_a_mirror_changes(pictures)
    if each >= 20:
        assert told.twins() == ("class 0", "class 1")


def test_letters_lose_what_they_are_without_becoming_another() -> None:
    pictures = source_of(drawn([letter(one) for one in "EFKPR"], 12))
    told = mirrors.tell(pictures)
    assert told is not None
    assert told.lost() is not None
    assert "look like their own class, mirrored" in mirrors.what_a_mirror_changes(pictures)


@pytest.mark.parametrize("each", [2, 5, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_the_same_in_a_mirror_is_mirrored(each: int, seed: int) -> None:
    assert mirrors.what_a_mirror_changes(source_of(drawn([letter(one) for one in "AHIOTX"], each, seed))) == ""


@pytest.mark.parametrize("copies", [1, 2, 3, 6])
def test_noise_says_nothing(copies: int) -> None:
    """Copies told each picture, and not its mirror image: of noise in pairs 75 % were right, mirrored 17."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        noise = [
            [Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(12 // copies)]
            for _ in range(4)
        ]
        assert mirrors.what_a_mirror_changes(source_of([some * copies for some in noise])) == ""


def test_copies_hide_no_twins() -> None:
    arrows = [[one for one in some for _ in range(3)] for some in drawn((arrow(-1), arrow(1)), 6)]
    told = mirrors.tell(source_of(arrows))
    assert told is not None
    assert told.twins() == ("class 0", "class 1")


def test_too_few_pictures_say_nothing() -> None:
    arrows = drawn((arrow(-1), arrow(1)), 2)
    assert mirrors.tell(source_of([arrows[0], arrows[1][:1]])) is None
    assert mirrors.tell(source_of([arrows[0][:1], arrows[1][:1]])) is None


def test_a_sample_is_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = source_of(drawn([disc] * 30, 3))
    monkeypatch.setattr(mirrors, "MOST", 20)
    told = mirrors.tell(pictures)
    assert told is not None
    assert len(told.own) == 20
    assert len(set(told.own.tolist())) == 10
    monkeypatch.undo()
    whole = mirrors.tell(pictures)
    large = mirrors.tell(replace(pictures, typical_size=3000))  # of which 150 million pixels are 16
    assert whole is not None
    assert large is not None
    assert len(whole.own) == 90
    assert len(large.own) == 16


def test_it_draws_no_random_number() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    mirrors.what_a_mirror_changes(source_of(drawn((arrow(-1), arrow(1)), 5)))
    assert torch.equal(torch.rand(1), expected)


@pytest.fixture
def arrows(tmp_path: Path) -> Path:
    for split, each, seed in (("train", 8, 0), ("val", 4, 1)):
        for name, some in zip(("left", "right"), drawn((arrow(-1), arrow(1)), each, seed), strict=True):
            (folder := tmp_path / "arrows" / split / name).mkdir(parents=True)
            for i, image in enumerate(some):
                image.save(folder / f"{i}.png")
    return tmp_path / "arrows"


def test_training_does_not_mirror_them_and_says_why(
    arrows: Path, tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tiny | {"steps": 2, "image_size": 24, "patch_size": 2}
    api.train(arrows, out=tmp_path / "run", settings=settings, report=False)
    said = "augment.hflip = 0.0: mirrored, pictures of 'left' look like those of 'right', and the other way round"
    assert said in capsys.readouterr().out
    api.train(arrows, out=tmp_path / "asked", settings=settings | {"augment.hflip": 0.5}, report=False)
    assert "augment.hflip" not in capsys.readouterr().out
    assert json.loads((tmp_path / "asked" / "recipe.json").read_text())["augment"]["hflip"] == 0.5


def test_two_processes_ask_without_waiting_for_each_other(
    arrows: Path, tiny: dict[str, Any], tmp_path: Path, as_arguments: AsArguments
) -> None:
    """The main process is first here; sent from it to the others, the answer was waited for without end."""
    words = as_arguments(tiny | {"steps": 1, "image_size": 24, "patch_size": 2})
    command = [sys.executable, "-m", "convnext", "train", str(arrows), "--nproc", "2", "--no-report"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run"), *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["augment"]["hflip"] == 0


def test_a_picture_that_cannot_be_read_is_left_to_whoever_learns_from_it(arrows: Path) -> None:
    (arrows / "train" / "left" / "3.png").write_bytes(b"no picture")
    told = mirrors.tell(open_data(arrows).train)
    assert told is not None
    assert len(told.own) == 15


def test_pictures_of_more_than_8_bits_are_seen_as_they_are_learned_from(tmp_path: Path) -> None:
    """In 16 bits the arrows' values from 200 to 215 are black, unless it is measured what is black and white."""
    for name, some in zip(("left", "right"), drawn((arrow(-1), arrow(1)), 12), strict=True):
        (folder := tmp_path / "train" / name).mkdir(parents=True)
        for i, image in enumerate(some):
            grey = 200 + np.asarray(image.convert("L")).astype(np.uint16) // 17
            Image.fromarray(grey).save(folder / f"{i}.png")
    assert "'left' look like those of 'right'" in mirrors.what_a_mirror_changes(open_data(tmp_path).train)


def test_a_folder_of_the_starts_name_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "starter").mkdir()
    monkeypatch.chdir(tmp_path)
    assert mirrors.what_a_mirror_changes(source_of(drawn((arrow(-1), arrow(1)), 5)))
