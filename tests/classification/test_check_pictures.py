"""What the folder report says of single pictures: odd ones, damaged ones, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from check_cases import kinds, only, picture
from picture_cases import png_that_claims
from PIL import Image

from convnext.api import check
from convnext.data.images import open_image
from convnext.errors import UserError


def test_odd_pictures_are_noted_not_refused(pets: Path) -> None:
    folder = pets / "train/cat"
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1001).convert("CMYK").save(folder / "cmyk.jpg")
    picture(1002).convert("L").save(folder / "grey.png")
    Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64).save(folder / "deep.png")
    picture(1003).quantize(32).save(folder / "palette.png")
    picture(1004).convert("RGBA").save(folder / "alpha.png")
    picture(1005).save(folder / "turned.jpg", exif=exif)
    picture(1006).save(folder / "moving.gif", save_all=True, append_images=[picture(1007), picture(1008)])
    picture(1009).resize((1, 1)).save(folder / "dot.png")
    picture(1010).convert("1").save(folder / "bits.png")
    report = check(pets)
    assert report.ok
    found = {Path(problem.path).name: (problem.kind, problem.detail) for problem in report.problems}
    assert found == {
        "cmyk.jpg": ("odd mode", "CMYK"),
        "deep.png": ("odd mode", "more than 8 bits a pixel (scaled to 8)"),
        "palette.png": ("odd mode", "palette"),
        "alpha.png": ("odd mode", "transparency (dropped)"),
        "turned.jpg": ("odd mode", "EXIF orientation 6 (turned upright)"),
        "moving.gif": ("odd mode", found["moving.gif"][1]),
        "dot.png": ("tiny", "1 x 1 pixels"),
        "bits.png": ("odd mode", "1"),
        "": ("levels", found[""][1]),
    }
    assert "animated (the first frame is used)" in found["moving.gif"][1]


def test_pictures_that_are_left_out_for_their_suffix_are_a_warning(pets: Path) -> None:
    for path in sorted(pets.rglob("*.png"))[:3]:
        path.rename(path.with_suffix(".heic"))
    report = check(pets)
    (warning,) = (problem for problem in report.problems if problem.kind == "left out")
    assert warning.severity == "warning"
    assert warning.detail.startswith("3 of 12 files are left out: 3 .heic; convert .heic to JPEG or PNG")
    assert kinds(report) == {"left out": 1, "not an image": 3}


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".jp2", ".JFIF"])
def test_other_names_of_jpeg_are_pictures(suffix: str, pets: Path) -> None:
    for i, path in enumerate(sorted(pets.rglob("*.png"))):
        picture(i).save(path.with_suffix(suffix), "JPEG2000" if suffix == ".jp2" else "JPEG")
        path.unlink()
    report = check(pets)
    assert report.ok
    assert report.total == 12


def test_unusable_pictures_are_told_as_they_are_found(pets: Path) -> None:
    (pets / "train/cat/0.png").write_bytes(b"")
    events: list[str] = []
    check(pets, progress=lambda done, total: events.append(str(done)), tell=lambda found: events.append(found.kind))
    assert events == ["empty", *map(str, range(1, 13))]


def test_a_picture_too_long_to_be_resized_is_one_finding_among_the_others(pets: Path) -> None:
    (pets / "train/cat/strip.png").write_bytes(png_that_claims(89_478_485, 1))
    report = check(pets)
    assert "strip.png claims 89,478,485 x 1 pixels" in only(report, "bomb").detail
    assert report.total == 13


def test_a_png_whose_pixels_are_damaged_is_not_taken_for_a_sound_one(pets: Path) -> None:
    path = pets / "train/cat/0.png"
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"IDAT") + 40] ^= 255
    path.write_bytes(whole)
    assert only(check(pets), "truncated").path == "train/cat/0.png"


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"a\.zip is not an image that can be read; unpack it first"):
        open_image(tmp_path / "a.zip")
