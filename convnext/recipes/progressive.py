"""How large training pictures are at which point of a run, where they grow (Touvron et al. 2019; Tan and Le 2021)."""

from __future__ import annotations

from math import ceil

from .recipe import Recipe

SIZE_STEP = 16  # pixels between the sizes of progressive training
GROWN_AT = 0.75  # share of the run after which progressive training has reached the full size


def training_size(recipe: Recipe, progress: float) -> int:
    """Side of the training images at `progress` in [0, 1] of the run, in steps of 16 pixels (less for small images)."""
    grid = min(SIZE_STEP, max(1, recipe.image_size // 8))
    share = recipe.progressive + (1 - recipe.progressive) * min(1.0, progress / GROWN_AT)
    return min(recipe.image_size, max(grid, round(recipe.image_size * share / grid) * grid))


def mean_area(recipe: Recipe, epochs: float) -> float:
    """Mean over the epochs of the training images' area over the full one: what progressive training saves."""
    count = max(1, ceil(epochs))
    sizes = (training_size(recipe, (epoch + 1) / count) for epoch in range(count))
    return sum((size / recipe.image_size) ** 2 for size in sizes) / count
