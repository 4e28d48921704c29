"""Mask values and colours to labels and back; every form of a list of classes; what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext import UserError
from convnext.data.images import BadImage
from convnext.data.palette import spread_colours
from convnext.segmentation.mask_coding import IGNORED, MaskCoding, ade20k_coding, coding_of, read_classes, read_mask
from convnext.segmentation.mask_values import values_of

NAMES = ("road", "traffic light", "sky")
COLOURS = ((128, 64, 128), (250, 170, 30), (70, 130, 180))


@pytest.mark.parametrize(
    "text",
    [
        "road\ntraffic light\nsky\n",
        "# classes\n\nroad 128 64 128\ntraffic light 250 170 30\nsky 70 130 180\n",
        "128 64 128\troad\n250 170 30\ttraffic light\n70 130 180\tsky\n",
        "name,r,g,b\nroad,128,64,128\ntraffic light,250,170,30\nsky,70,130,180\n",
        "# label:color_rgb:parts:actions\nroad:128,64,128::\ntraffic light:250,170,30::\nsky:70,130,180::\n",
        '{"road": [128, 64, 128], "traffic light": [250, 170, 30], "sky": [70, 130, 180]}',
        '["road", "traffic light", "sky"]',
        '{"sky": 2, "road": 0, "traffic light": 1}',
    ],
)
def test_every_form_of_a_list_of_classes(tmp_path: Path, text: str) -> None:
    path = tmp_path / ("classes.json" if text[0] in "{[" else "classes.txt")
    path.write_text(text)
    coding = read_classes(path)
    assert coding.classes == NAMES
    assert coding.values == (0, 1, 2)
    assert coding.in_colour == ("128" in text)
    if coding.in_colour:
        assert coding.colours == COLOURS
    assert MaskCoding.from_dict(coding.to_dict()) == coding


def test_void_is_no_class(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("road\nvoid\nsky\n")
    coding = read_classes(path, ignore=(9,))
    assert coding.classes == ("road", "sky")
    labels = coding.labels(np.array([[0, 1, 2, 9, 255]], np.uint8), "a")
    assert labels.tolist() == [[0, IGNORED, 1, IGNORED, IGNORED]]
    path.write_text("Unlabelled 0 0 0\nroad 128 64 128\n")
    coding = read_classes(path)
    assert coding.labels(np.array([[[0, 0, 0], [128, 64, 128]]], np.uint8), "a").tolist() == [[IGNORED, 0]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no class"),
        ("road\nroad\n", "a class twice"),
        ("road 1 2 3\nsky\n", "colours for 1 of 2 classes"),
        ("road 1 2 3\nsky 1 2 3\n", "the same colour"),
        ("{", "must be a list of names"),
        ('{"road": [1, 2]}', "must be a list of names"),
        ('{"road": -1}', "must be a list of names"),
    ],
)
def test_bad_lists_of_classes(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / ("classes.json" if text.startswith("{") else "classes.txt")
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_classes(path)
    with pytest.raises(UserError, match="cannot read the classes"):
        read_classes(tmp_path)


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "I", "RGB", "LA", "1"])
def test_index_masks_of_every_kind_of_file(tmp_path: Path, mode: str) -> None:
    coding, path = coding_of(["a", "b", "c"], [None] * 3), tmp_path / ("m.tif" if mode == "I" else "m.png")
    values = np.array([[0, 1], [2, 255]]) if mode != "1" else np.array([[0, 1], [1, 0]])
    if mode in ("I;16", "I"):
        image = Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.int32))
    elif mode == "P":
        image = Image.fromarray(values.astype(np.uint8)).convert("P")
        image.putpalette([9, 9, 9] * 256)
        image.frombytes(values.astype(np.uint8).tobytes())
    else:
        image = Image.fromarray(values.astype(bool) if mode == "1" else values.astype(np.uint8)).convert(mode)
    image.save(path)
    expected = np.where(values == 255, IGNORED, values)
    assert read_mask(path, coding).tolist() == expected.tolist()


def test_colour_masks_and_colours_that_no_class_has(tmp_path: Path) -> None:
    coding = MaskCoding(NAMES, (0, 1, 2), COLOURS, True)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (7, 9))
    pixels = np.array(COLOURS, np.uint8)[labels]
    Image.fromarray(pixels).save(tmp_path / "m.png")
    assert (read_mask(tmp_path / "m.png", coding) == labels).all()
    pixels[3, 4] = (1, 2, 3)
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "m.png")
    with pytest.raises(BadImage, match=r"m\.png holds the colour \(1, 2, 3\), which the palette does not have"):
        read_mask(tmp_path / "m.png", coding)


def test_values_that_are_no_class_are_named(tmp_path: Path) -> None:
    coding = coding_of(["a", "b"], [None] * 2)
    for values, words in (
        ([[0, 7]], "holds the value 7; classes have the values 0 to 1 and 255"),
        ([[0, 40_000]], "holds the value 40000"),
    ):
        Image.fromarray(np.array(values, np.uint16)).save(tmp_path / "m.png")
        with pytest.raises(BadImage, match=words):
            read_mask(tmp_path / "m.png", coding)
    Image.fromarray(np.array([[[0, 0, 0], [9, 8, 7]]], np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(BadImage, match="no palette says what its colours mean"):
        read_mask(tmp_path / "m.png", coding)
    Image.fromarray(np.array([[0.5, 1]], np.float32)).save(tmp_path / "m.tif")
    with pytest.raises(BadImage, match="values with fractions"):
        read_mask(tmp_path / "m.tif", coding)


@pytest.mark.parametrize(
    "coding",
    [
        coding_of(["a", "b", "c"], [None] * 3, (7,)),
        MaskCoding(NAMES, (0, 1, 2), COLOURS, True, ignored_colours=((0, 0, 0),)),
        ade20k_coding(),
        MaskCoding(("x", "y"), (3, 900), COLOURS[:2]),
    ],
)
def test_labels_come_back_as_they_went(tmp_path: Path, coding: MaskCoding) -> None:
    labels = np.random.default_rng(0).integers(-1, len(coding.classes), (20, 30))
    coding.image(labels).save(tmp_path / "m.png")
    assert (read_mask(tmp_path / "m.png", coding) == labels).all()


def test_the_largest_value_of_16_bits_counts_for_nothing(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1, 255, 65535]], np.uint16)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", coding_of(["a", "b"], [None] * 2)).tolist() == [[0, 1, IGNORED, IGNORED]]
    assert values_of([tmp_path / "m.png"])[0].masks.keys() == {0, 1, 255, 65535}


def palette_file(path: Path, values: list[list[int]], colours: dict[int, tuple[int, int, int]]) -> Path:
    palette = [0] * 768
    for value, colour in colours.items():
        palette[3 * value : 3 * value + 3] = colour
    image = Image.fromarray(np.array(values, np.uint8)).convert("P")
    image.putpalette(palette)
    image.frombytes(np.array(values, np.uint8).tobytes())
    image.save(path)
    return path


def test_palette_files_are_read_by_colour_where_the_classes_have_colours(tmp_path: Path) -> None:
    """PASCAL VOC's and CVAT's: 255 is the border, and the order of the palette need not be that of the list."""
    coding = coding_of(NAMES, COLOURS)
    shown = {5: COLOURS[2], 1: COLOURS[0], 255: (224, 224, 192), 7: (9, 9, 9)}
    path = palette_file(tmp_path / "m.png", [[5, 1, 255]], shown)
    assert read_mask(path, coding).tolist() == [[2, 0, IGNORED]]
    assert read_mask(path, coding_of([*NAMES, "void"], [*COLOURS, (224, 224, 192)])).tolist() == [[2, 0, IGNORED]]
    assert read_mask(path, coding_of([str(i) for i in range(6)], [None] * 6)).tolist() == [[5, 1, IGNORED]]
    palette_file(path, [[5, 7, 255]], shown)
    with pytest.raises(BadImage, match=r"holds the colour \(9, 9, 9\), which the palette does not have"):
        read_mask(path, coding)


def test_a_segmenter_of_colour_masks_writes_indices_and_colours(tmp_path: Path) -> None:
    coding = coding_of(["void", *NAMES], [(0, 0, 0), *COLOURS])
    labels = np.array([[0, 1, 2, IGNORED]])
    coding.image(labels).save(tmp_path / "m.png")
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == [[1, 2, 3, 255]]
        seen = [image.convert("RGB").getpixel((x, 0)) for x in range(4)]
    assert seen == [*COLOURS, (0, 0, 0)]
    coding.coloured(labels).save(tmp_path / "c.png")
    for name in ("m.png", "c.png"):
        assert (read_mask(tmp_path / name, coding) == labels).all()


def test_index_masks_show_the_classes_colours(tmp_path: Path) -> None:
    coding = ade20k_coding()
    shown = coding.image(np.array([[0, 2]])).convert("RGB")
    assert [shown.getpixel((x, 0)) for x in (0, 1)] == [coding.colours[0], coding.colours[2]]
    assert len(set(spread_colours(200))) == 200
