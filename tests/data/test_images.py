"""Every kind of picture file becomes the RGB pixels that it means."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile

from convnext.data.images import BadImage, cropped, open_image, read_header, readable
from convnext.data.levels import to_8_bit

RAMP = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)  # 64 different greys
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=2)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


def test_a_path_its_bytes_and_an_opened_picture_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(COLOURS).save(path)
    with Image.open(path) as opened:
        for source in (path, str(path), path.read_bytes(), opened):
            np.testing.assert_array_equal(pixels(open_image(source)), COLOURS)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "PA", "YCbCr", "HSV"])
def test_every_mode_is_converted_as_pillow_does(mode: str) -> None:
    image = Image.fromarray(COLOURS).convert(mode)
    np.testing.assert_array_equal(pixels(open_image(image)), np.asarray(image.convert("RGB")))


def test_transparency_is_dropped_not_blended() -> None:
    image = Image.fromarray(np.concatenate([COLOURS, np.zeros((8, 8, 1), np.uint8)], axis=2))
    assert image.mode == "RGBA"
    np.testing.assert_array_equal(pixels(open_image(encoded(image, "PNG"))), COLOURS)


def test_a_palette_with_transparency_in_bytes_draws_no_warning() -> None:
    image = Image.fromarray(COLOURS).quantize(16)
    data = encoded(image, "PNG", transparency=bytes(range(16)))
    np.testing.assert_array_equal(pixels(open_image(data)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    deep = (np.arange(64, dtype=np.uint16) * 1023 + 5).reshape(8, 8)
    grey = pixels(open_image(encoded(Image.fromarray(deep), kind)))[:, :, 0]
    np.testing.assert_array_equal(grey, deep >> 8)
    assert len(np.unique(grey)) == 64  # Pillow's own conversion leaves almost all of them at 255


def test_dark_16_bit_grey_alone_is_not_taken_for_fewer_bits() -> None:
    dark = np.full((8, 8), 255, np.uint16)
    assert pixels(open_image(encoded(Image.fromarray(dark), "PNG"))).max() == 0


@pytest.mark.parametrize(("white", "step"), [(255, 4), (1023, 16), (4095, 64), (16383, 256), (65535, 1023)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_the_levels_say_what_is_white(kind: str, white: int, step: int) -> None:
    data = encoded(Image.fromarray((np.arange(64, dtype=np.uint16) * step).reshape(8, 8)), kind)
    grey = pixels(open_image(data, levels=(0, white)))[:, :, 0]
    np.testing.assert_array_equal(grey, np.arange(64).reshape(8, 8) * step * 256 // (white + 1))
    assert pixels(open_image(data, levels=(0, 3)))[0, 1].tolist() == [255] * 3  # what lies beyond is white


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "RGBA"])
def test_pictures_of_8_bits_have_no_use_for_levels(mode: str) -> None:
    data = encoded(Image.fromarray(COLOURS).convert(mode), "PNG")
    np.testing.assert_array_equal(pixels(open_image(data, levels=(0, 15))), pixels(open_image(data)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.0, 255.0]], np.float32), [0, 100, 255]),
        (np.array([[-2.0, 0.0, 2.0]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, np.inf, 1.0]], np.float32), [0, 0, 255]),
        (np.array([[np.nan, 1000.0, 1005.0, 1010.0]], np.float32), [0, 0, 128, 255]),
        (np.array([[-3.4e38, -30.0, -20.0, -10.0]], np.float32), [0, 0, 128, 255]),
        (np.array([[np.nan, np.inf]], np.float32), [0, 0]),
        (np.array([[7000.0, 7000.0]], np.float32), [0, 0]),
        (np.array([[0, 1000, 4095]], np.int32), [0, 3, 15]),
        (np.array([[0, 32768, 65535]], np.int32), [0, 128, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[0, 1 << 30, (1 << 31) - 1]], np.int32), [0, 128, 255]),
    ],
)
def test_deep_greys_keep_their_order_in_8_bits(values: np.ndarray, expected: list[int]) -> None:
    np.testing.assert_array_equal(to_8_bit(values)[0], expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    tall = Image.fromarray(np.tile(COLOURS, (2, 1, 1)))
    data = encoded(tall, kind, exif=exif, **({"quality": 100} if kind == "JPEG" else {}))
    with Image.open(io.BytesIO(data)) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert expected.size == ((8, 16) if orientation < 5 else (16, 8))
    np.testing.assert_array_equal(pixels(open_image(data)), np.asarray(expected))


def test_damaged_exif_does_not_lose_the_picture() -> None:
    data = encoded(Image.fromarray(COLOURS), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    assert open_image(data).size == (8, 8)
    assert open_image(encoded(Image.fromarray(COLOURS), "PNG", exif=b"Exif\0\0nonsense")).size == (8, 8)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    path = tmp_path / f"a.{kind.lower()}"
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], **options)
    assert read_header(path).animated
    assert (pixels(open_image(path)) == (255, 0, 0)).all()


@pytest.mark.parametrize("size", [(1, 1), (4000, 1), (1, 4000)])
def test_extreme_shapes_open(size: tuple[int, int]) -> None:
    assert open_image(encoded(Image.new("RGB", size), "PNG")).size == size


def test_a_picture_of_108_megapixels_is_read_and_cropped_without_remarks(tmp_path: Path) -> None:
    path = tmp_path / "phone.png"
    Image.new("1", (12_000, 9_000), 1).save(path)
    image = open_image(path)
    assert image.size == (12_000, 9_000)
    assert cropped(image, (0, 0, 12_000, 8_999)).size == (12_000, 8_999)  # Pillow warns, which is an error here


def test_the_header_says_what_is_odd(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGBA", (5, 7)).save(path, exif=exif)
    header = read_header(path)
    assert (header.size, header.mode, header.transparent, header.orientation) == ((5, 7), "RGBA", True, 6)
    assert not header.animated


def test_names_are_readable_and_distinct() -> None:
    names = ["plain name.jpg", "héé.jpg", "a\nb.jpg", "a\\nb.jpg", "\udcff.jpg", "tab\t.jpg", "it's.jpg"]
    shown = [readable(name) for name in names]
    assert shown[:2] == names[:2]
    assert len(set(shown)) == len(names)
    for text in shown:
        assert text.isprintable()
        text.encode()


def test_the_error_survives_a_process_border() -> None:
    error = pickle.loads(pickle.dumps(BadImage("x.jpg is empty", "empty")))
    assert (str(error), error.kind) == ("x.jpg is empty", "empty")


def test_the_header_of_a_png_is_read_without_decoding_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOURS).save(tmp_path / "plain.png")
    Image.fromarray(COLOURS).save(tmp_path / "before.png", exif=exif)
    whole = (tmp_path / "before.png").read_bytes()
    start = whole.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(whole[start : start + 4])
    (tmp_path / "behind.png").write_bytes(whole[:start] + whole[end:-12] + whole[start:end] + whole[-12:])
    decoded: list[Path] = []
    plain = PngImageFile.load_prepare

    def watched(image: PngImageFile) -> None:
        decoded.append(Path(os.fsdecode(image.filename)))
        plain(image)

    monkeypatch.setattr(PngImageFile, "load_prepare", watched)
    found = {name: read_header(tmp_path / f"{name}.png").orientation for name in ("plain", "before", "behind")}
    assert found == {"plain": 1, "before": 6, "behind": 6}
    assert [path.stem for path in decoded] == ["behind"]
    assert open_image(tmp_path / "behind.png").getpixel((0, 0)) == tuple(COLOURS[-1, 0])
