"""What a session says before it trains."""

from dataclasses import replace

from convnext.recipe import Recipe
from convnext.session import few_each


def test_several_processes_with_few_pictures_each_are_said() -> None:
    recipe = replace(Recipe(), batch_size=32)
    (said,) = few_each(recipe, 8)
    assert "each of the 8 processes has 4 pictures a step" in said
    assert "a --batch-size of 128 or more" in said
    assert few_each(recipe, 1) == few_each(recipe, 2) == []
