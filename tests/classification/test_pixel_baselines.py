"""What classical classifiers reach on the digits' pixels, and when nobody is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from narrow import instance_of

from convnext.classification.data import open_data
from convnext.classification.pixel_baselines import LARGEST_SIDE, MOST_IMAGES, pixel_baselines
from convnext.data.source import Source
from convnext.data.splits import Splits


@pytest.fixture(scope="module")
def digits() -> Splits[Source]:
    return open_data("digits")


def test_the_digits_floor_is_what_scikit_learn_reaches(digits: Splits[Source]) -> None:
    rows = pixel_baselines(digits.train, digits.val)
    assert [value for _, value in rows] == pytest.approx([96.67, 99.44], abs=0.6)
    assert "logistic regression" in rows[0][0]
    assert "support-vector" in rows[1][0]


def test_an_unlearnable_labelling_scores_what_guessing_does(digits: Splits[Source]) -> None:
    """The validation labels are only compared with: shifted by one, nothing is right but by mistake."""
    train, val = digits.train.take(range(300)), digits.val.take(range(100))
    shifted = replace(val, labels=tuple((instance_of(int, label) + 1) % 10 for label in val.labels))
    assert all(value < 20 for _, value in pixel_baselines(train, shifted))


def test_large_pictures_have_no_pixel_baseline(digits: Splits[Source]) -> None:
    large = replace(digits.train, typical_size=LARGEST_SIDE + 1)
    assert pixel_baselines(large, digits.val) == []


def test_many_pictures_have_no_pixel_baseline(digits: Splits[Source]) -> None:
    many = digits.train.take([0] * (MOST_IMAGES + 1))
    assert pixel_baselines(many, digits.val) == []


def test_several_labels_have_no_pixel_baseline(digits: Splits[Source]) -> None:
    several = replace(digits.train, labels=((0, 1),) * len(digits.train), multi_label=True)
    assert pixel_baselines(several, digits.val) == []
