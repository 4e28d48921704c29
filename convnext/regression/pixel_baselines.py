"""What ridge regression reaches on the raw pixels: the floor that a network has to beat."""

from __future__ import annotations

import numpy as np

from ..data.source import Source
from .metrics import result_of, rows_of

SIDE = 16  # pixels that every picture is made into
MOST_IMAGES = 5000
STRENGTHS = np.logspace(-2, 6, 17)  # of the penalty; leave-one-out chooses


def pixel_baselines(train: Source, val: Source) -> list[tuple[str, float]]:
    """R² of ridge regression on colours; empty where pictures are too many for it to be quick."""
    if len(train) > MOST_IMAGES or not len(val):
        return []
    predicted = ridge(train, val)
    true = np.array(val.labels, dtype=np.float64)
    rows = rows_of(predicted, true, val.classes)
    return [("ridge regression on pixels", result_of(rows, len(true))["r2"])]


def ridge(train: Source, val: Source) -> np.ndarray:
    """(N, T) predictions for `val`; each target learns from the pictures that have it."""
    from sklearn.linear_model import RidgeCV

    x, x_val = _pixels(train), _pixels(val)
    values = np.array(train.labels, dtype=np.float64)
    columns = []
    for k in range(values.shape[1]):
        there = ~np.isnan(values[:, k])
        columns.append(RidgeCV(STRENGTHS).fit(x[there], values[there, k]).predict(x_val))
    return np.stack(columns, 1)


def _pixels(source: Source) -> np.ndarray:
    small = (source[i].image.convert("RGB").resize((SIDE, SIDE)) for i in range(len(source)))
    return np.stack([np.asarray(image, dtype=np.float32).ravel() / 255 for image in small])
