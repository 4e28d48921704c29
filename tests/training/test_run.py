"""What a session says before it trains."""

import shutil
from dataclasses import replace

from fixture_types import MakeDense, MakePictures

from convnext.classification.data import open_data
from convnext.detection.data import open_detection
from convnext.recipes.recipe import Recipe
from convnext.segmentation.data import open_masks
from convnext.training.run import few_each, known_already


def test_several_processes_with_few_pictures_each_are_said() -> None:
    recipe = replace(Recipe(), batch_size=32)
    (said,) = few_each(recipe, 8, 16)
    assert "each of the 8 processes has 4 pictures a step" in said
    assert "a --batch-size of 128 or more" in said
    assert few_each(recipe, 1, 16) == few_each(recipe, 2, 16) == []


def test_held_out_pictures_that_are_learned_from_too_are_said(pictures: MakePictures) -> None:
    root = pictures()
    assert known_already(open_data(root)) == []
    for name in ("class 0", "class 1"):
        shutil.copy(root / "train" / name / f"{int(name[-1]):03d}.png", root / "val" / name / "copy.png")
    (said,) = known_already(open_data(root))
    assert said.startswith("2 of 9 validation pictures are copies of training pictures, byte for byte")
    (root / "val").rename(root / "test")
    assert any(line.startswith("2 of 9 test pictures are copies") for line in known_already(open_data(root)))
    assert known_already(open_data("digits")) == []


def test_copies_among_pictures_with_boxes_and_masks_are_said(annotated: MakeDense, masked: MakeDense) -> None:
    boxes, masks = annotated(), masked()
    assert known_already(open_detection(boxes)) == known_already(open_masks(masks)) == []
    shutil.copy(boxes / "train2017" / "000.png", boxes / "val2017" / "000.png")
    one = min((masks / "images" / "train").iterdir())
    shutil.copy(one, masks / "images" / "val" / one.name)
    assert known_already(open_detection(boxes))[0].startswith("1 of 4 validation pictures is a copy")
    assert known_already(open_masks(masks))[0].startswith("1 of 3 validation pictures is a copy")
