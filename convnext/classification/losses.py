"""Losses as pure functions; computed in fp32 whatever the logits' type, inside autocast too.

Shapes: N images, K classes, R boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(logits: Tensor, targets: Tensor, sample_weights: Tensor | None = None) -> Tensor:
    """Mean over N of -w sum_k t_k log p_k; (N, K) logits, (N, K) soft labels, (N,) weights.

    A weight multiplies the whole sample: weights on the labels themselves would let the little that smoothing puts on a
    rare class outweigh a common sample's own class.
    """
    log_p = F.log_softmax(logits.float(), dim=-1)
    losses = -(targets * log_p).sum(-1)
    return (losses if sample_weights is None else losses * sample_weights).mean()


def binary_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over N and K: each class is a question of its own; (N, K) logits, (N, K) labels in [0, 1].

    `weights` are (K,), of the questions, or (N, 1), of the samples. A mean over K too keeps the loss comparable between
    data sets; AdamW's step does not depend on its scale.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), targets.float(), weight=weights)


def balanced_class_weights(counts: Sequence[int] | np.ndarray) -> Tensor:
    """(K,) images a class -> (K,) weights inverse to them, with mean 1 over the images; an empty class weighs 0."""
    images = np.asarray(counts, dtype=np.float64)
    present = images > 0
    weights = np.zeros_like(images)
    weights[present] = images.sum() / (present.sum() * images[present])
    return torch.tensor(weights, dtype=torch.float32)
