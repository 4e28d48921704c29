"""What classical classifiers reach on the raw pixels: the floor that a network on tiny images has to beat."""

from __future__ import annotations

import numpy as np

from ..data.source import Source

LARGEST_SIDE = 16  # pixels; beyond that, raw pixels say little and the fit takes long
MOST_IMAGES = 5000


def pixel_baselines(train: Source, val: Source) -> list[tuple[str, float]]:
    """Top-1 in percent of logistic regression and an RBF support-vector machine; empty for larger data."""
    if train.multi_label or train.typical_size > LARGEST_SIDE or len(train) > MOST_IMAGES:
        return []
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    x, y = _pixels(train), np.asarray(train.labels)
    x_val, y_val = _pixels(val), np.asarray(val.labels)
    methods = [
        ("logistic regression on pixels", LogisticRegression(max_iter=2000)),
        ("RBF support-vector machine on pixels", SVC(C=10, gamma="scale")),
    ]
    return [(name, 100 * float(model.fit(x, y).score(x_val, y_val))) for name, model in methods]


def _pixels(source: Source) -> np.ndarray:
    side = source.typical_size
    images = (source[i].image.convert("L").resize((side, side)) for i in range(len(source)))
    return np.stack([np.asarray(image, dtype=np.float32).ravel() / 255 for image in images])
