"""What is drawn on pictures: masks in their colours, names that stay on the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext import UserError
from convnext.data.output_paths import targets
from convnext.detection.coco_format import NamedRow
from convnext.detection.draw import MASK_SHARE, draw_objects
from convnext.segmentation.draw import LABEL_SHARE, draw_labels
from convnext.segmentation.mask_coding import IGNORED, coding_of


def test_each_pixel_has_its_classes_colour() -> None:
    coding = coding_of(["", ""], [(250, 0, 0), (0, 0, 250)])
    labels = np.zeros((30, 40), np.int16)
    labels[:, 20:], labels[:5] = 1, IGNORED
    pixels = np.array(draw_labels(Image.new("RGB", (40, 30), (100, 100, 100)), labels, coding))
    assert (pixels[:5] == 100).all()
    assert pixels[10, 5].tolist() == [round(100 + LABEL_SHARE * 150), round(100 * (1 - LABEL_SHARE)), 45]
    assert pixels[29, 39].tolist() == [45, 45, round(100 + LABEL_SHARE * 150)]


def test_names_stay_on_the_picture() -> None:
    """A narrow region at the border had half of its name cut off."""
    labels = np.zeros((60, 90), np.int16)
    labels[:, :4] = 1
    coding = coding_of(["", "pedestrian"], [None, None])
    drawn = np.array(draw_labels(Image.new("RGB", (90, 60)), labels, coding)).astype(int)
    unnamed = np.array(draw_labels(Image.new("RGB", (90, 60)), labels, coding_of(["", " "], [None, None]))).astype(int)
    touched = np.flatnonzero((drawn != unnamed).any((0, 2)))
    wide = touched.max() - touched.min()
    labels = labels[:, ::-1].copy()
    other = np.array(draw_labels(Image.new("RGB", (90, 60)), labels, coding)).astype(int)
    unnamed = np.array(draw_labels(Image.new("RGB", (90, 60)), labels, coding_of(["", " "], [None, None]))).astype(int)
    mirrored = np.flatnonzero((other != unnamed).any((0, 2)))
    assert abs((mirrored.max() - mirrored.min()) - wide) <= 1  # whole at either border
    assert wide > 40


def test_an_objects_mask_has_its_classs_colour() -> None:
    from convnext.detection.rle import run_lengths

    inside = np.zeros((1, 60, 80), bool)
    inside[0, 30:50, 20:60] = True
    row: NamedRow = {
        "class": "box",
        "category_id": 1,
        "bbox": [20, 30, 40, 20],
        "score": 0.9,
        "segmentation": run_lengths(inside)[0],
    }
    pixels = np.array(draw_objects(Image.new("RGB", (80, 60), (100, 100, 100)), [row]))
    expected = (1 - MASK_SHARE) * 100 + MASK_SHARE * np.array((230, 159, 0))
    assert np.abs(pixels[40, 40] - expected).max() <= 1
    assert pixels[55, 70].tolist() == [100] * 3


@pytest.mark.parametrize("box", [[85, 50, 5, 10], [-3, -2, 9, 5], [40, 20, 200, 5]])
def test_the_name_of_an_object_at_the_border_is_whole(box: list[float]) -> None:
    """It ran off the right edge."""

    def letters(place: list[float], size: tuple[int, int]) -> int:
        row: NamedRow = {"class": "mug", "category_id": 1, "bbox": place, "score": 0.5}
        picture = draw_objects(Image.new("RGB", size, (255, 255, 255)), [row])
        return int((np.array(picture)[..., 0] < 115).sum())  # of the letters: half black on orange

    assert letters(box, (90, 60)) == letters([100, 100, 5, 10], (300, 300)) > 20


def test_drawings_are_called_as_their_pictures(tmp_path: Path) -> None:
    out = Path("drawn")
    assert targets(["a/x.jpg", "b/y.v2.jpeg"], out) == {"a/x.jpg": out / "x.png", "b/y.v2.jpeg": out / "y.v2.png"}
    assert targets(["a/x.jpg", "a/x.jpg"], out) == {"a/x.jpg": out / "x.png"}
    assert targets([], out) == {}


def test_pictures_of_one_name_keep_their_folders() -> None:
    """One drawing took the other's place."""
    out = Path("drawn")
    found = targets(["p/a/img.jpg", "p/b/img.jpg", "p/c/d/other.jpg"], out)
    assert list(found.values()) == [out / "a" / "img.png", out / "b" / "img.png", out / "c" / "d" / "other.png"]
    assert len(set(targets(["a/IMG.jpg", "b/img.jpg"], out).values())) == 2  # one file where case is ignored
    with pytest.raises(
        UserError, match=r"a/img\.jpg and .*a/img\.png would both be drawn as drawn/img\.png; rename one"
    ):
        targets(["a/img.jpg", "a/img.png"], out)


def test_no_picture_is_drawn_over(tmp_path: Path) -> None:
    photo, other = tmp_path / "a.png", tmp_path / "b.jpg"
    for path in (photo, other):
        Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(UserError, match=r"a\.png is a picture already, which would be lost; choose another --out"):
        targets([str(photo)], tmp_path)
    assert targets([str(other)], tmp_path)  # b.png is not there yet
    (tmp_path / "b_more.jpg").touch()
    with pytest.raises(UserError, match=r"b_more\.jpg is a picture already"):
        targets([str(other)], tmp_path, (".png", "_more.jpg"))
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "a.png").touch()  # of an earlier run
    assert targets([str(photo)], tmp_path / "drawn") == {str(photo): tmp_path / "drawn" / "a.png"}
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="choose another --out"):
        targets([str(photo)], tmp_path / "link")
