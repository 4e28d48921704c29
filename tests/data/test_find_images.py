"""The pictures that `predict` is given: the same that `train` and `check` would read, and no place is lost silently."""

import os
from pathlib import Path

import pytest
from fixture_types import MakePictures

from convnext.data.find_images import find_images, list_images
from convnext.errors import UserError


def test_patterns_find_pictures_in_folders_and_each_once(pictures: MakePictures) -> None:
    data = pictures(train=6, val=3)
    direct = find_images(str(data / "train"))
    assert len(direct) == 6
    (data / "train" / "none").mkdir()
    assert find_images(str(data / "train" / "*")) == direct
    assert sorted(find_images(str(data / "train" / "**"))) == direct


def test_hidden_files_are_not_read_as_train_and_check_do_not_read_them(pictures: MakePictures) -> None:
    data = pictures(train=6, val=3)
    picture = Path(find_images(str(data))[0])
    for hidden in (picture.with_name("._a.png"), data / ".cache" / "a.png"):
        hidden.parent.mkdir(exist_ok=True)
        hidden.write_bytes(picture.read_bytes())
    assert len(find_images(str(data))) == 9


def test_a_place_without_pictures_is_a_line_beside_others_and_an_error_alone(
    pictures: MakePictures, tmp_path: Path
) -> None:
    one = find_images(str(pictures(train=3, val=3)))[0]
    (tmp_path / "none").mkdir()
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "a.HEIC").touch()
    places = [str(tmp_path / name) for name in ("gone.png", "*.tif", "none", "phone")]
    listing = list_images([places[0], one, *places[1:]])
    assert listing.paths == (places[0], one, *places[1:])
    assert [listing.lost[place].split(" ")[0] for place in places] == ["nothing", "nothing", places[2], places[3]]
    assert listing.lost[places[3]].endswith(
        "1 of 1 files are left out: 1 .heic; convert .heic to JPEG or PNG to use them)"
    )
    with pytest.raises(UserError, match=r"nothing found at .*gone\.png; .*\(and nothing at 3 other places\)"):
        list_images(places)
    with pytest.raises(UserError, match="no image was named"):
        list_images([])


def test_a_dangling_link_that_is_named_is_one_of_the_answers(tmp_path: Path) -> None:
    os.symlink(tmp_path / "nowhere", tmp_path / "a.png")
    assert find_images(str(tmp_path / "a.png")) == [str(tmp_path / "a.png")]


def test_what_is_left_out_of_folders_is_counted(pictures: MakePictures, tmp_path: Path) -> None:
    data = pictures(train=3, val=3)
    assert list_images([data]).left_out == ""
    for name in ("a.HEIC", "b.heic", "Thumbs.db"):
        (data / name).touch()
    (tmp_path / "other.heic").touch()  # its folder was not named
    assert list_images([data / "train", data]).left_out == (
        "3 of 12 files are left out: 2 .heic, 1 .db; convert .heic to JPEG or PNG to use them"
    )
