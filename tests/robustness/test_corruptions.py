"""The corruptions of ImageNet-C: they agree with the port of the authors' code, repeat themselves, and say no."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from convnext.errors import UserError
from convnext.robustness.corruptions import CORRUPTIONS, EXTRA, STANDARD, corrupt, frost_over

REFERENCE = Path(__file__).parents[1] / "fixtures" / "corruptions.npz"  # made by make_corruptions.py beside it
LIMIT = 0.1  # grey levels of 255, in the mean; whole levels are cut, not rounded, so the last bit of a float can show
SEVERITIES = (1, 2, 3, 4, 5)


class OldRandomness:
    """numpy's old generator, which the reference draws from, behind the methods of the new one."""

    def __init__(self, seed: int) -> None:
        state = np.random.RandomState(seed)
        self.normal, self.uniform, self.poisson, self.integers = (
            state.normal,
            state.uniform,
            state.poisson,
            state.randint,
        )


@pytest.fixture(scope="module")
def reference() -> Mapping[str, np.ndarray]:
    with np.load(REFERENCE) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def frost(reference: Mapping[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frost")
    for i in range(5):
        Image.fromarray(reference[f"frost_{i}"]).save(folder / f"frost_{i}.png")
    (folder / "notes.txt").write_text("not a picture", encoding="utf-8")
    return folder


def randomness(name: str, seed: int) -> np.random.Generator:
    """What the reference draws from: the old generator, but for impulse noise the new one (see make_corruptions.py)."""
    return np.random.default_rng(seed) if name == "impulse_noise" else cast(np.random.Generator, OldRandomness(seed))


def picture(height: int = 64, width: int = 48) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 5), np.cos(y / 7), np.sin((x + y) / 3)], axis=-1)
    return (127 + 80 * waves).astype(np.uint8)


def grey_levels(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def test_the_names_are_those_of_the_paper_in_its_order() -> None:
    assert STANDARD == (
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "defocus_blur",
        "glass_blur",
        "motion_blur",
        "zoom_blur",
        "snow",
        "frost",
        "fog",
        "brightness",
        "contrast",
        "elastic_transform",
        "pixelate",
        "jpeg_compression",
    )
    assert EXTRA == ("speckle_noise", "gaussian_blur", "spatter", "saturate")
    assert tuple(CORRUPTIONS) == STANDARD + EXTRA


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_pictures_agree_with_the_reference(
    name: str, severity: int, reference: Mapping[str, np.ndarray], frost: Path
) -> None:
    image, seed = reference["image"], int(reference["seeds"][list(CORRUPTIONS).index(name), severity - 1])
    chosen = partial(frost_over, folder=frost) if name == "frost" else CORRUPTIONS[name]
    ours = chosen(image, severity, randomness(name, seed))[::4, ::3]
    theirs = reference[name][severity - 1]
    assert grey_levels(ours, theirs) <= LIMIT
    assert grey_levels(image[::4, ::3], theirs) > 1.5  # so that doing nothing would not pass


@pytest.mark.parametrize("shape", [(32, 32), (33, 90), (130, 41)])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_any_size_comes_back_as_it_was_and_the_source_is_left_alone(
    name: str, shape: tuple[int, int], frost: Path
) -> None:
    image = picture(*shape)
    image.flags.writeable = False  # so that a change in place would raise
    for severity in (1, 5):
        result = corrupt(image, name, severity, seed=0, frost=frost)
        assert result.shape == image.shape
        assert result.dtype == np.uint8
        assert not np.array_equal(result, image)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_seed_decides(name: str, frost: Path) -> None:
    state = np.random.get_state(legacy=False)["state"]["key"].copy()
    first, again, other = (corrupt(picture(), name, 3, seed=seed, frost=frost) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    fixed = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "gaussian_blur"}
    assert np.array_equal(first, other) == (name in fixed | {"saturate"})
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], state)


# Left out: frost's picture and spatter's kind of drop change with severity, saturate turns from less to more.
@pytest.mark.parametrize("name", sorted({*CORRUPTIONS} - {"frost", "spatter", "saturate"}))
def test_severity_takes_the_picture_further_from_the_original(name: str, reference: Mapping[str, np.ndarray]) -> None:
    image = reference["image"]
    far = [np.mean([grey_levels(image, corrupt(image, name, s, seed=i)) for i in range(3)]) for s in SEVERITIES]
    assert far[4] > 1.2 * far[0]
    assert sum(later > earlier for earlier, later in pairwise(far)) >= 3


@pytest.mark.parametrize("grey", [0, 255])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_plain_black_and_white_need_no_care(name: str, grey: int, frost: Path) -> None:
    plain = np.full((40, 32, 3), grey, np.uint8)
    for severity in SEVERITIES:  # a division by zero would warn, and so fail
        assert corrupt(plain, name, severity, seed=1, frost=frost).shape == plain.shape


def test_blurs_keep_a_plain_picture_plain() -> None:
    plain = np.full((32, 34, 3), 100, np.uint8)
    for name in ("glass_blur", "motion_blur", "zoom_blur", "gaussian_blur", "elastic_transform"):
        assert np.abs(corrupt(plain, name, 5, seed=2).astype(int) - 100).max() <= 1


def test_brightness_and_contrast_on_values_worked_out_by_hand() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:16] = (100, 50, 0)
    bright = corrupt(image, "brightness", 2, seed=0)  # 0.2 of 255 is 51: the largest channel goes from 100 to 151
    assert np.abs(bright[0, 0] - np.array([151, 75.5, 0])).max() <= 1
    assert np.abs(bright[31, 31] - np.array([51, 51, 51])).max() <= 1
    flat = corrupt(image, "contrast", 4, seed=0)  # means are 50, 25, 0; a tenth of the distance is kept
    assert np.abs(flat[0, 0] - np.array([55, 27.5, 0])).max() <= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "gausian_noise"}, "did you mean 'gaussian_noise'"),
        ({"name": "zzz"}, "choose one of gaussian_noise"),
        ({"severity": 0}, "severity 0"),
        ({"severity": 6}, "severity 6"),
        ({"severity": 2.5}, "severity 2.5"),
        ({"image": Image.new("RGB", (40, 40))}, "is a Image"),
        ({"image": picture().astype(float)}, "float64"),
        ({"image": picture()[..., 0]}, r"\(64, 48\)"),
        ({"image": picture()[..., :2]}, r"\(64, 48, 2\)"),
        ({"image": picture(31, 40)}, "40 x 31"),
        ({"name": "frost"}, "name a folder"),
        ({"name": "frost", "frost": "nowhere"}, "nowhere is not a folder"),
        ({"seed": -1}, "choose 0 or more"),
    ],
)
def test_mistakes_are_explained(change: dict[str, Any], words: str) -> None:
    right: dict[str, Any] = {"image": picture(), "name": "fog", "severity": 3, "seed": 0}
    with pytest.raises(UserError, match=words):
        corrupt(**{**right, **change})


def test_a_frost_folder_without_pictures_or_with_a_broken_one_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no images"):
        corrupt(picture(), "frost", 1, seed=0, frost=tmp_path)
    (tmp_path / "ice.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"ice\.png"):
        corrupt(picture(), "frost", 1, seed=0, frost=tmp_path)
