"""A picture by formula: a ground, at times other things, one to four of a shape in front, and what a camera does to it.

What is asked of a picture: which shape, how many, of what texture and colour, on what texture and colour. A picture
without a shape is all ground. Each question has a block of columns in one list of classes.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from . import shapes, textures

HUES = 12
COLOURS = (*(f"hue {30 * i}" for i in range(HUES)), "black", "grey", "white")
PLAIN = "plain"  # the texture of what has none
MOST = 4  # of the same shape
SUPERSAMPLED = 2
ON_LEAVES = 0.18  # share of the pictures with a shape whose ground is many things of all sizes and colours
LEAVES_FIELDS, LEAVES_EACH = 64, 80
LEAVES_SEED = 202_601_129
WITHOUT_SHAPE = 0.12  # share of the pictures
ALONE = 0.75  # share of those with a shape that hold one of it

Rng = np.random.Generator


@dataclass(frozen=True)
class Thing:
    """What is drawn over a ground."""

    shape: int
    size: float  # half its side, as a share of the picture's
    surface: int
    colour: np.ndarray  # (3,) from 0 to 255


def questions() -> dict[str, tuple[str, ...]]:
    """The answers to each question, in the order of their columns."""
    surfaces = (PLAIN, *textures.names())
    return {
        "shape": shapes.names(),
        "count": tuple(map(str, range(1, MOST + 1))),
        "surface": surfaces,
        "colour": COLOURS,
        "ground": surfaces,
        "ground colour": COLOURS,
    }


def plans(count: int, rng: Rng) -> np.ndarray:
    """(N, 6) answers of `count` pictures; -1 where there is no shape, or no one ground, to ask of."""
    sizes = [len(answers) for answers in questions().values()]
    drawn = np.column_stack([rng.integers(0, size, count) for size in sizes])
    drawn[:, 1] = np.where(rng.random(count) < ALONE, 0, drawn[:, 1])
    drawn[:, 2] = np.where(rng.random(count) < 0.45, 0, drawn[:, 2])  # many things are of one colour
    drawn[:, 4] = np.where(rng.random(count) < 0.35, 0, drawn[:, 4])
    alike = drawn[:, 3] == drawn[:, 5]
    drawn[alike, 5] = (drawn[alike, 3] + rng.integers(3, 12, alike.sum())) % len(COLOURS)
    drawn[rng.random(count) < ON_LEAVES, 4:] = -1
    bare = rng.random(count) < WITHOUT_SHAPE
    drawn[bare, :4] = -1
    drawn[bare, 4] = rng.integers(1, sizes[4], bare.sum())
    drawn[bare, 5] = rng.integers(0, sizes[5], bare.sum())
    return drawn


def columns(plans: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """The classes of each picture, of all questions' answers one after the other."""
    starts = np.cumsum([0] + [len(answers) for answers in questions().values()])[:-1]
    return tuple(
        tuple(value for value in row if value >= 0) for row in np.where(plans < 0, -1, plans + starts).tolist()
    )


def draw(plan: np.ndarray, side: int, rng: Rng) -> Image.Image:
    """The picture of a plan, `side` pixels square."""
    shape, count, surface, colour, ground, ground_colour = (int(value) for value in plan)
    canvas = _leaves(side, rng) if ground < 0 else _painted(ground, _rgb(ground_colour, rng), side, rng)
    if shape >= 0:
        for _ in range(rng.choice(4, p=(0.55, 0.25, 0.12, 0.08))):
            _add(canvas, _anything(0.12, 0.3, rng), rng, blurred=True)
        size = rng.uniform(0.35, 0.95) if count == 0 else rng.uniform(0.3, 0.5)
        for place in _places(count + 1, rng):
            _add(canvas, Thing(shape, size / 2, surface, _rgb(colour, rng)), rng, place=place)
        if rng.random() < 0.15:
            _add(canvas, _anything(0.1, 0.2, rng), rng)
    return _taken(canvas, rng)


def _anything(least: float, most: float, rng: Rng) -> Thing:
    """Something that is not asked for, of a size between the two."""
    shape, size = int(rng.integers(shapes.COUNT)), rng.uniform(least, most)
    surface = 0 if rng.random() < 0.6 else int(rng.integers(1, 1 + len(textures.names())))
    return Thing(shape, size, surface, _rgb(int(rng.integers(len(COLOURS))), rng))


def _places(count: int, rng: Rng) -> np.ndarray:
    """Centres as shares of the side; several keep apart, in the quarters of the picture."""
    if count == 1:
        return 0.5 + rng.uniform(-0.14, 0.14, (1, 2))
    quarters = np.array([(0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)])[rng.permutation(4)[:count]]
    return quarters + rng.uniform(-0.08, 0.08, (count, 2))


def _rgb(colour: int, rng: Rng) -> np.ndarray:
    """One of the colours that a name stands for, (3,) from 0 to 255."""
    if colour < HUES:
        hue = (colour + rng.uniform(-0.4, 0.4)) / HUES % 1
        values = colorsys.hsv_to_rgb(hue, rng.uniform(0.4, 1), rng.uniform(0.35, 1))
    else:
        grey = ((0, 0.2), (0.35, 0.65), (0.8, 1))[colour - HUES]
        values = tuple(np.clip(rng.uniform(*grey) + rng.normal(0, 0.015, 3), 0, 1))
    return 255 * np.array(values)


def _painted(surface: int, colour: np.ndarray, side: int, rng: Rng) -> np.ndarray:
    """(S, S, 3) float32: a colour, brighter towards one side, or a texture between it and a shade or another."""
    if surface == 0:
        canvas = np.broadcast_to(colour, (side, side, 3)).astype(np.float32)
        if rng.random() < 0.5:
            slope = np.linspace(-1, 1, side, dtype=np.float32) * rng.uniform(0, 50)
            canvas += slope[:, None, None] if rng.random() < 0.5 else slope[None, :, None]
        return canvas
    fields = textures.bank()[surface - 1]
    cut = int(rng.integers(min(side, textures.SIDE) // 2, textures.SIDE + 1))
    top, left = rng.integers(0, textures.SIDE - cut + 1, 2)
    field = Image.fromarray(fields[rng.integers(len(fields)), top : top + cut, left : left + cut])
    share = np.asarray(field.resize((side, side), Image.Resampling.BILINEAR), np.float32)[..., None] / 255
    other = colour * rng.uniform(0.1, 0.75) if rng.random() < 0.6 else 255 * rng.random(3)
    other = colour + (other - colour) * rng.uniform(0.35, 1)
    return (other + (colour - other) * share).astype(np.float32)


@lru_cache(1)
def _leaf_bank() -> np.ndarray:
    """(F, S, S, 3) uint8 fields of things that cover each other, small ones far more often than large ones."""
    fields = []
    for number in range(LEAVES_FIELDS):
        rng = np.random.default_rng((LEAVES_SEED, number))
        common = 255 * rng.random(3)
        image = Image.new("RGB", (textures.SIDE, textures.SIDE), tuple(int(255 * value) for value in rng.random(3)))
        pen = ImageDraw.Draw(image)
        for _ in range(LEAVES_EACH):
            size = textures.SIDE * min(0.35, 0.03 / np.sqrt(max(rng.random(), 1e-3)))
            mix, place = rng.uniform(0, 0.8), rng.uniform(0, textures.SIDE, 2)
            colour = mix * common + (1 - mix) * 255 * rng.random(3)
            for part in shapes.shape(int(rng.integers(shapes.COUNT)), rng):
                fill = tuple(int(value) for value in np.clip(colour * (1 + 0.5 * part.tone), 0, 255))
                corners = [(x, y) for x, y in (part.points * size + place).tolist()]
                if part.kind == "area":
                    pen.polygon(corners, fill=fill)
                elif part.kind == "line":
                    pen.line(corners, fill=fill, width=max(1, round(part.width * size)))
                else:
                    pen.point(corners, fill=fill)
        fields.append(np.asarray(image))
    return np.array(fields)


def _leaves(side: int, rng: Rng) -> np.ndarray:
    """A cut of such a field, at times turned over, its channels exchanged, out of focus."""
    cut = int(rng.integers(textures.SIDE // 3, textures.SIDE + 1))
    top, left = rng.integers(0, textures.SIDE - cut + 1, 2)
    field = _leaf_bank()[rng.integers(LEAVES_FIELDS), top : top + cut, left : left + cut][..., rng.permutation(3)]
    image = Image.fromarray(np.ascontiguousarray(field[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]))
    image = image.resize((side, side), Image.Resampling.BILINEAR)
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2.5)))
    return np.array(image, np.float32)


def _add(canvas: np.ndarray, thing: Thing, rng: Rng, *, place: np.ndarray | None = None, blurred: bool = False) -> None:
    """Draws one thing over the canvas, in place."""
    side = len(canvas)
    place = rng.uniform(0.05, 0.95, 2) if place is None else place
    turn, lean, tall = rng.normal(0, 0.2), rng.normal(0, 0.12), rng.uniform(0.8, 1.25)
    turned = np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
    matrix = thing.size * side * turned @ np.array([(1, lean), (0, tall)])
    parts = shapes.shape(thing.shape, rng)
    outlined = parts[0].kind == "area" and rng.random() < 0.25
    paint = _painted(thing.surface, thing.colour, side, rng)
    for part in parts:
        points = part.points @ matrix.T + place * side
        mask = _mask(part, points, thing.size * side, side, rng.uniform(0.06, 0.16) if outlined else 0.0)
        if blurred:
            mask = mask.filter(ImageFilter.BoxBlur(1))
        share = np.asarray(mask, np.float32)[..., None] / 255
        shade = paint * (1 + 0.6 * part.tone) if part.tone <= 0 else paint + (255 - paint) * 0.6 * part.tone
        canvas += (shade - canvas) * share


def _mask(part: shapes.Part, points: np.ndarray, scale: float, side: int, outline: float) -> Image.Image:
    """Where a part covers the picture, from 0 to 255."""
    large = Image.new("L", (side * SUPERSAMPLED,) * 2)
    pen = ImageDraw.Draw(large)
    corners = [(x, y) for x, y in (points * SUPERSAMPLED).tolist()]
    if part.kind == "cloud":
        places = np.round(points * SUPERSAMPLED).astype(int)
        inside = places[((places >= 0) & (places < large.width)).all(1)]
        cloud = np.zeros((large.height, large.width), np.uint8)
        cloud[inside[:, 1], inside[:, 0]] = 255
        large = Image.fromarray(cloud).filter(ImageFilter.MaxFilter(3))
    elif part.kind == "line" or outline:
        width = max(1, round((part.width or outline) * scale * SUPERSAMPLED))
        closed = corners if part.kind == "line" else [*corners, corners[0]]
        pen.line(closed, fill=255, width=width, joint="curve")
        for x, y in (closed[0], closed[-1]):
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    else:
        pen.polygon(corners, fill=255)
    return large.reduce(SUPERSAMPLED)


def _taken(canvas: np.ndarray, rng: Rng) -> Image.Image:
    """The picture as a camera would take it: light from a side, contrast, colour cast, blur, noise."""
    side = len(canvas)
    if rng.random() < 0.4:
        light = np.linspace(1 - rng.uniform(0, 0.35), 1 + rng.uniform(0, 0.2), side, dtype=np.float32)
        canvas = canvas * (light[:, None, None] if rng.random() < 0.5 else light[None, :, None])
    canvas = (canvas - 128) * rng.uniform(0.75, 1.15) + 128 + rng.normal(0, 8) + rng.normal(0, 4, 3)
    if rng.random() < 0.35:
        canvas = canvas + rng.normal(0, rng.uniform(2, 14), canvas.shape)
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3))) if rng.random() < 0.3 else image
