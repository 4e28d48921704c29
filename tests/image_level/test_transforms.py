"""The picture a model sees: sizes, determinism, and what each step of the training transform may and may not do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from convnext.data.normalise import IMAGENET_MEAN, to_tensor
from convnext.data.preprocess import Preprocess, views
from convnext.errors import UserError
from convnext.image_level import randaugment
from convnext.image_level.randaugment import NAMES, RandAugment, apply_op
from convnext.image_level.transforms import TrainTransform, erase, random_crop, shifted
from convnext.recipes.recipe import Augment

PLAIN = Augment(crop="none", hflip=0.0, randaugment=0.0, erase=0.0)
HALF = (0.5, 0.5, 0.5)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("size", "mode"), [(8, "whole"), (127, "whole"), (128, "crop"), (383, "crop"), (384, "warp"), (512, "warp")]
)
def test_the_protocol_follows_from_the_size(size: int, mode: str) -> None:
    assert Preprocess.for_size(size).mode == mode


@pytest.mark.parametrize("shape", [(1, 1), (300, 200), (20, 90), (3000, 2), (2, 3000)])
@pytest.mark.parametrize("size", [32, 128, 384])
def test_any_image_becomes_a_square_of_the_size(shape: tuple[int, int], size: int) -> None:
    tensor = Preprocess.for_size(size)(picture(*shape))
    assert tensor.shape == (3, size, size)
    assert tensor.dtype == torch.float32
    assert tensor.isfinite().all()


def test_an_image_of_the_right_size_is_not_resampled() -> None:
    image = picture(32, 32)
    assert Preprocess.for_size(32).resize(image) is image


def test_crop_keeps_the_middle_and_warp_keeps_everything() -> None:
    image = Image.new("RGB", (300, 100), "black")
    image.paste("white", (0, 0, 80, 100))  # far left: outside any centre crop
    assert np.asarray(Preprocess.for_size(128).resize(image)).max() == 0
    assert np.asarray(Preprocess.for_size(384).resize(image)).max() == 255


def test_a_strip_is_not_blown_up_before_the_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels: list[int] = []
    real = Image.Image.resize

    def watched(image: Image.Image, size: tuple[int, int], *rest: Any, **more: Any) -> Image.Image:
        pixels.append(size[0] * size[1])
        return real(image, size, *rest, **more)

    monkeypatch.setattr(Image.Image, "resize", watched)
    Preprocess.for_size(224)(picture(1, 30_000))
    assert max(pixels) <= 16 * 256 * 256


def test_preprocessing_survives_json() -> None:
    before = Preprocess.for_size(224, HALF, (0.2, 0.3, 0.4))
    assert Preprocess.from_dict(json.loads(json.dumps(before.to_dict()))) == before


@pytest.mark.parametrize(
    "change", [{"mode": "stretch"}, {"interpolation": "magic"}, {"mean": [0.5]}, {"size": "big"}, {"std": None}]
)
def test_odd_stored_preprocessing_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UserError, match="stored preprocessing"):
        Preprocess.from_dict({**Preprocess.for_size(64).to_dict(), **change})


def test_missing_stored_preprocessing_is_refused() -> None:
    with pytest.raises(UserError, match="it needs size"):
        Preprocess.from_dict({"size": 64})


@pytest.mark.parametrize("size", [64, 224, 384])
def test_views_are_the_protocol_the_corners_and_their_mirrors(size: int) -> None:
    protocol, image = Preprocess.for_size(size), picture(90, 70)
    many = views(image, protocol, flip=True, crops=5)
    assert many.shape == (10, 3, size, size)
    assert torch.equal(many[0], protocol(image))
    assert torch.equal(many[5:], many[:5].flip(-1))
    assert len({tuple(view.flatten()[:50].tolist()) for view in many}) == 10
    assert torch.equal(views(image, protocol), many[:1])


def test_the_four_corners_touch_the_corners() -> None:
    image = Image.new("RGB", (256, 256), "black")
    for x, y in [(0, 0), (255, 0), (0, 255), (255, 255)]:
        image.putpixel((x, y), (255, 255, 255))
    crops = views(image, Preprocess(224, "crop", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), crops=5)
    assert crops[:, 0].sum((1, 2)).tolist() == [0, 1, 1, 1, 1]


def test_other_numbers_of_crops_are_refused() -> None:
    with pytest.raises(UserError, match="crops 3"):
        views(picture(8, 8), Preprocess.for_size(8), crops=3)


def test_a_sample_is_a_function_of_its_key_alone() -> None:
    transform, image = TrainTransform(Augment(), 48), picture(64, 56)
    first = [transform(image, np.random.default_rng((0, 3, i))) for i in range(30)]
    np.random.seed(1)
    torch.manual_seed(1)
    again = [transform(image, np.random.default_rng((0, 3, i))) for i in reversed(range(30))]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))
    assert len({float(x.sum()) for x in first}) == 30


def test_global_random_numbers_are_left_alone() -> None:
    before = (np.random.get_state(legacy=False)["state"]["key"].copy(), torch.get_rng_state())
    for seed in range(20):
        TrainTransform(Augment(), 32)(picture(40, 40), rng(seed))
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_the_source_image_is_left_alone() -> None:
    image = picture(32, 32)
    before = image.tobytes()
    for seed in range(20):
        TrainTransform(replace(Augment(erase=1.0), crop="shift"), 32)(image, rng(seed))
    assert image.tobytes() == before


def test_with_everything_off_the_image_is_only_normalised() -> None:
    image = picture(24, 24)
    assert torch.equal(TrainTransform(PLAIN, 24)(image, rng()), Preprocess.for_size(24)(image))


@pytest.mark.parametrize("crop", ["resized", "shift", "none"])
@pytest.mark.parametrize("shape", [(1, 1), (200, 3), (3, 200), (40, 40)])
def test_training_pictures_have_the_size(crop: Literal["resized", "shift", "none"], shape: tuple[int, int]) -> None:
    transform = TrainTransform(Augment(crop=crop), 32)
    for seed in range(10):
        assert transform(picture(*shape), rng(seed)).shape == (3, 32, 32)


def test_flip_happens_as_often_as_asked() -> None:
    image = picture(8, 8)
    transform, straight = TrainTransform(replace(PLAIN, hflip=0.3), 8), Preprocess.for_size(8)(image)
    seen = [transform(image, rng(seed)) for seed in range(1000)]
    flipped = [torch.equal(x, straight.flip(-1)) for x in seen]
    assert all(f or torch.equal(x, straight) for f, x in zip(flipped, seen, strict=True))
    assert 0.25 < np.mean(flipped) < 0.35


def test_a_shift_moves_by_up_to_an_eighth_and_mirrors_the_border() -> None:
    side, reach = 23, 2  # a seventh would reach 3
    image = picture(side, side)
    padded = np.pad(np.asarray(image), ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    allowed = {padded[y : y + side, x : x + side].tobytes() for y in range(2 * reach + 1) for x in range(2 * reach + 1)}
    assert {shifted(image, rng(seed)).tobytes() for seed in range(400)} == allowed


def test_a_random_crop_keeps_to_its_area_and_aspect() -> None:
    for seed in range(300):
        left, top, right, bottom = random_crop(200, 160, (0.2, 0.5), (0.5, 2.0), rng(seed))
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 160
        assert 0.19 < (right - left) * (bottom - top) / (200 * 160) < 0.51
        assert 0.49 < (right - left) / (bottom - top) < 2.05


def test_erase_replaces_one_rectangle_by_unit_noise() -> None:
    noise, areas = [], []
    for seed in range(300):
        image = torch.full((3, 120, 150), 7.0)
        erase(image, rng(seed))
        gone = (image != 7.0).all(0)
        rows, columns = gone.any(1), gone.any(0)
        assert torch.equal(gone, rows[:, None] & columns[None])
        noise.append(image[:, gone].flatten())
        areas.append(float(gone.float().mean()))
    values = torch.cat(noise)
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01
    assert 0.019 < min(areas) < 0.025
    assert 0.31 < max(areas) < 0.345


def test_erase_happens_as_often_as_asked_and_after_normalising() -> None:
    image = Image.new("RGB", (16, 16), "white")
    transform = TrainTransform(replace(PLAIN, erase=0.25), 16)
    white = Preprocess.for_size(16)(image)
    erased = [not torch.equal(transform(image, rng(seed)), white) for seed in range(1000)]
    assert 0.21 < np.mean(erased) < 0.29


def test_to_tensor_normalises_each_channel() -> None:
    image = Image.new("RGB", (2, 1), (255, 0, 51))
    expected = torch.tensor([2.0, -1.0, -1.5])
    tensor = to_tensor(image, (0.0, 0.5, 0.5), (0.5, 0.5, 0.2))
    assert torch.allclose(tensor, expected[:, None, None].expand(3, 1, 2))


def test_randaugment_draws_as_the_policy_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of fifteen with replacement, each with probability 0.5, levels N(9, 0.5) clipped at 10, signs even."""
    drawn: list[tuple[str, float, bool]] = []

    def spy(name: str, image: Image.Image, level: float, *, negative: bool, fill: tuple[int, int, int]) -> Image.Image:
        drawn.append((name, level, negative))
        return image

    monkeypatch.setattr(randaugment, "apply_op", spy)
    policy, image, generator = RandAugment(), picture(4, 4), rng()
    pictures = 6000
    counts = []
    for _ in range(pictures):
        before = len(drawn)
        policy(image, generator)
        counts.append(len(drawn) - before)
    shares = np.bincount(counts, minlength=3) / pictures
    assert np.allclose(shares, [0.25, 0.5, 0.25], atol=0.02)
    names = np.array([NAMES.index(name) for name, _, _ in drawn])
    assert np.allclose(np.bincount(names, minlength=15) / len(names), 1 / 15, atol=0.012)
    levels = np.array([level for _, level, _ in drawn])
    assert abs(np.median(levels) - 9) < 0.03
    assert levels.max() == 10.0  # 2.3 % are clipped
    assert 0.015 < np.mean(levels == 10.0) < 0.03
    assert abs(np.mean([negative for _, _, negative in drawn]) - 0.5) < 0.02


def test_uncovered_corners_take_the_mean_colour() -> None:
    image = Image.new("RGB", (40, 40), "black")
    rotated = apply_op("Rotate", image, 10.0, fill=(10, 200, 30))
    assert rotated.getpixel((0, 0)) == (10, 200, 30)
    transform = TrainTransform(Augment(), 32)
    assert transform.policy is not None
    assert transform.policy.fill == tuple(round(255 * value) for value in IMAGENET_MEAN)


def test_no_bits_kept_is_black() -> None:
    assert np.asarray(apply_op("PosterizeIncreasing", picture(9, 9), 10.0)).max() == 0


def test_magnitude_zero_turns_the_policy_off() -> None:
    assert TrainTransform(PLAIN, 8).policy is None
