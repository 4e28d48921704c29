"""What a segmenter is shown: picture and labels move together, crops are mixed, colours change as mmsegmentation's."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from segmenter_cases import picture

from convnext.data.keep_ratio import KeepRatio
from convnext.recipes.recipe import Segmentation
from convnext.segmentation.data import SegmentationSample
from convnext.segmentation.mask_coding import IGNORED
from convnext.segmentation.photometric import distorted, saturated, turned
from convnext.segmentation.transforms import SegmentationTransform, nearest

PLAIN = KeepRatio(48, 192, (0.0,) * 3, (1.0,) * 3)
FIXTURE = Path(__file__).parents[1] / "fixtures" / "segmenters.npz"


def two_halves(height: int = 60, width: int = 90) -> SegmentationSample:
    """Left black and class 0, right white and class 1."""
    labels = np.zeros((height, width), np.int16)
    labels[:, width // 2 :] = 1
    pixels = np.repeat((labels * 255).astype(np.uint8)[..., None], 3, 2)
    return SegmentationSample(Image.fromarray(pixels), labels, "halves")


@pytest.mark.parametrize("seed", range(12))
def test_picture_and_labels_move_together(seed: int) -> None:
    rules = Segmentation(photometric=False)
    image, target = SegmentationTransform(rules, PLAIN)(two_halves(), np.random.default_rng(seed))
    assert image.shape == (3, 48, 48)
    assert target.shape == (48, 48)
    inside = target != IGNORED
    assert torch.equal(image[:, ~inside], torch.zeros_like(image[:, ~inside]))
    agree = ((image[0] > 0.5).long() == target)[inside].float().mean()
    assert agree > 0.96  # but for the blurred edge


def test_what_is_smaller_than_the_crop_is_padded() -> None:
    rules = Segmentation(scale=(0.5, 0.5), photometric=False, hflip=0)
    _, target = SegmentationTransform(rules, PLAIN)(two_halves(), np.random.default_rng(0))
    assert (target[:24, :36] != IGNORED).all()
    assert (target[24:] == IGNORED).all()
    assert (target[:, 36:] == IGNORED).all()


def test_crops_of_one_class_are_avoided() -> None:
    sample = two_halves(200, 1600)
    sample.labels[:] = 0
    sample.labels[:, 700:800] = 1

    def mixed(share: float) -> float:
        rules = Segmentation(scale=(1, 1), most_of_one_class=share, photometric=False)
        transform = SegmentationTransform(rules, KeepRatio(100, 800))
        return float(np.mean([len(transform(sample, np.random.default_rng(s))[1].unique()) > 1 for s in range(40)]))

    assert mixed(0.75) > mixed(1.0) + 0.3


def test_randomness_follows_from_the_generator_alone() -> None:
    transform = SegmentationTransform(Segmentation(), PLAIN)
    first, again, other = (transform(two_halves(), np.random.default_rng(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nearest_takes_what_lies_there() -> None:
    labels = np.arange(12, dtype=np.int16).reshape(3, 4)
    assert nearest(labels, (6, 8))[::2, ::2].tolist() == labels.tolist()
    assert nearest(labels, (6, 8))[1::2, 1::2].tolist() == labels.tolist()
    assert nearest(labels, (2, 2)).tolist() == [[0, 2], [4, 6]]


def test_saturation_and_hue_by_the_book() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 3)).astype(np.float32)[None]
    pixels[0, :3] = ((0, 0, 0), (255, 255, 255), (90, 90, 90))
    for factor in (0.5, 1.0, 1.5):
        for pixel, found in zip(pixels[0], saturated(pixels, factor)[0], strict=True):
            h, s, v = colorsys.rgb_to_hsv(*(pixel / 255))
            np.testing.assert_allclose(found / 255, colorsys.hsv_to_rgb(h, min(1, factor * s), v), atol=1e-5)
    for share in (-0.1, 0.05, 0.1):
        for pixel, found in zip(pixels[0], turned(pixels, share)[0], strict=True):
            h, s, v = colorsys.rgb_to_hsv(*(pixel / 255))
            np.testing.assert_allclose(found / 255, colorsys.hsv_to_rgb((h + share) % 1, s, v), atol=1e-5)


def test_colours_change_as_mmsegmentations() -> None:
    """Theirs goes through 8-bit HSV, which rounds hues to two degrees."""
    with np.load(FIXTURE) as theirs:
        pixels = picture().astype(np.float32)
        for i, factor in enumerate((1.5, 0.6)):
            assert np.abs(saturated(pixels, factor) - theirs[f"saturation/{i}"]).mean() < 1.5
        for i, steps in enumerate((12, -9)):
            assert np.abs(turned(pixels, steps / 180) - theirs[f"hue/{i}"]).mean() < 1.5
            assert np.abs(pixels - theirs[f"hue/{i}"]).mean() > 5


def test_distortion_stays_within_range_and_leaves_black() -> None:
    for seed in range(30):
        changed = distorted(picture(), np.random.default_rng(seed))
        assert changed.dtype == np.uint8
        assert changed.shape == picture().shape
    assert len({distorted(picture(), np.random.default_rng(s)).tobytes() for s in range(10)}) > 5


@pytest.mark.parametrize("most", [0.75, 1.0])
def test_ten_crops_are_tested_and_an_eleventh_is_taken(most: float) -> None:
    """As mmsegmentation's RandomCrop draws: of one class alone no crop is good, so it is the eleventh; without a limit
    the first is taken."""
    transform = SegmentationTransform(Segmentation(most_of_one_class=most), KeepRatio(8, 32))
    corners = np.random.default_rng(5)
    drawn = [(int(corners.integers(0, 41)), int(corners.integers(0, 31))) for _ in range(11)]
    found = transform._corner(np.zeros((48, 38), np.int16), 8, np.random.default_rng(5))
    assert found == drawn[10 if most < 1 else 0]
