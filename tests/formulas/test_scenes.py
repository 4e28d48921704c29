"""Pictures by formula: the same for the same numbers, of every class, and asked what they show."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from narrow import instance_of

from convnext.classification.data import open_data
from convnext.data.learned import copies, learned_from
from convnext.formulas import scenes, shapes, source, textures


def rng(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(numbers)


def covered(parts: list[shapes.Part], side: int = 64) -> float:
    """Share of a picture that a shape covers."""
    cover = np.zeros((side, side))
    for part in parts:
        mask = scenes._mask(part, part.points * 0.45 * side + side / 2, 0.45 * side, side, 0.0)
        cover = np.maximum(cover, np.asarray(mask) / 255)
    return float(cover.mean())


@pytest.mark.parametrize("family", list(shapes.FAMILIES))
def test_every_shape_can_be_seen(family: str) -> None:
    first = sum(list(shapes.FAMILIES.values())[: list(shapes.FAMILIES).index(family)])
    for index in range(first, first + shapes.FAMILIES[family]):
        assert 0.01 < covered(shapes.shape(index, rng(index))) < 0.9, shapes.names()[index]


def test_a_class_is_more_like_itself_than_like_others() -> None:
    """What it is: the mean picture of a class is nearer to another picture of it than those of most other classes."""
    chosen = list(range(0, shapes.COUNT, 7))

    def picture(index: int, number: int) -> np.ndarray:
        whole = np.zeros((24, 24))
        for part in shapes.shape(index, rng(index, number)):
            mask = scenes._mask(part, part.points * 10 + 12, 10, 24, 0.0)
            whole = np.maximum(whole, np.asarray(mask) / 255)
        return whole

    means = np.stack([np.mean([picture(i, n) for n in range(6)], 0) for i in chosen])
    ranks = [
        int((np.square(means - picture(i, 99)).sum((1, 2)) < np.square(means[k] - picture(i, 99)).sum()).sum())
        for k, i in enumerate(chosen)
    ]
    assert np.median(ranks) == 0
    assert np.mean(ranks) < len(chosen) / 10


def test_textures_are_textures() -> None:
    bank = textures.bank()
    assert bank.shape == (len(textures.names()), textures.FIELDS, textures.SIDE, textures.SIDE)
    assert bank.std((2, 3)).min() > 10  # of 255: none is flat


def test_a_picture_follows_from_its_numbers_alone() -> None:
    first, again = source.splits(30, 5), source.splits(40, 5)
    for i in (0, 7, 29):
        assert first.train[i].image.tobytes() == first.train[i].image.tobytes()
    assert [first.train.labels[i] for i in range(30)] != [again.val.labels[i % 5] for i in range(30)]
    chosen = first.train.read.take([7])
    assert chosen(0).tobytes() == first.train[7].image.tobytes()
    assert first.train[0].image.size == (source.SIDE, source.SIDE)
    assert first.train[0].image.tobytes() != first.val[0].image.tobytes()


def test_the_answers_are_those_of_the_questions() -> None:
    data = source.splits(600, 5).train
    starts = np.cumsum([0, *data.groups])
    assert starts[-1] == len(data.classes) == len(set(data.classes))
    answers = [instance_of(tuple, label) for label in data.labels]
    for given in answers:
        asked = Counter(int(np.searchsorted(starts, answer, side="right")) for answer in given)
        assert max(asked.values()) == 1  # one answer to a question
    shown = [sum(answer < starts[1] for answer in given) for given in answers]
    assert 0.8 < np.mean(shown) < 0.95  # the others are all ground
    assert data.classes[0] == "shape: contour 0"


def test_a_plain_ground_has_the_colour_that_is_asked_for() -> None:
    red, plain = 0, 0
    plan = np.array([-1, -1, -1, -1, plain, red])
    pixels = np.mean([np.asarray(scenes.draw(plan, 32, rng(i))).mean((0, 1)) for i in range(8)], 0)
    assert pixels[0] > pixels[1] + 40
    assert pixels[0] > pixels[2] + 40


def test_nobody_has_these_pictures() -> None:
    data = source.splits(20, 5)
    record = learned_from(data.train)
    assert record is not None
    assert len(record) == 0
    assert copies(data.train, data.val) == 0


def test_they_are_a_data_set_by_name() -> None:
    splits = open_data("formulas")
    assert (len(splits.train), len(splits.val)) == (source.PICTURES, source.HELD_OUT)
    assert splits.train.native == "formulas"
