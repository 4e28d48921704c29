"""The cases on which the detectors are compared with mmdetection: used by the tests and by the fixtures' script."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from convnext.catalog.variants import Arch
from convnext.detection.model.rcnn import pad

ARCH = Arch((1, 1, 2, 1), (8, 16, 24, 32), layer_scale=1.0)
CLASSES = 5
SIZES = ((96, 120), (110, 70))  # height, width of each image
GRADIENTS = (
    "backbone.downsample_layers.0.0.weight",
    "backbone.norm2.weight",
    "neck.lateral_convs.0.conv.weight",
    "rpn_head.rpn_conv.weight",
)


def numbers(name: str, *shape: int) -> Tensor:
    """Normal values that depend on the name alone, the same on every machine and release."""
    return torch.from_numpy(np.random.RandomState(crc32(name.encode())).standard_normal(shape).astype(np.float32))


def drawn_weights(model: nn.Module) -> dict[str, Tensor]:
    """A state dict whose signals neither vanish nor explode, and whose classes differ."""
    drawn = {}
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            drawn[name] = torch.zeros_like(value)
            continue
        noise = numbers(name, *value.shape)
        if name.endswith("running_var") or (value.ndim == 1 and name.endswith(("weight", "gamma"))):
            drawn[name] = 1 + 0.1 * noise.abs()
        elif value.ndim == 1:
            drawn[name] = 0.1 * noise
        else:
            drawn[name] = noise * (1.5 / value[0].numel()) ** 0.5
    return drawn


def images() -> list[Tensor]:
    """Noise with large flat shapes in it."""
    made = []
    for i, (height, width) in enumerate(SIZES):
        image = 0.3 * numbers(f"image {i}", 3, height, width)
        for box in truth_of(i)["boxes"].long().tolist():
            image[:, box[1] : box[3], box[0] : box[2]] += numbers(f"colour {box}", 3)[:, None, None]
        made.append(image)
    return made


def batch_of_images() -> Tensor:
    return pad(images())


def truth_of(image: int) -> dict[str, Tensor]:
    """Two objects in the first image, one in the second; their masks are ellipses."""
    boxes = torch.tensor(([[10, 12, 70, 61], [40, 30, 111.5, 90]], [[5.5, 20, 60, 100.25]])[image])
    height, width = SIZES[image]
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    centre, radius = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    masks = [((x - c[0]) / r[0]) ** 2 + ((y - c[1]) / r[1]) ** 2 <= 1 for c, r in zip(centre, radius, strict=True)]
    return {"boxes": boxes, "labels": torch.tensor([1, 4])[: len(boxes)], "masks": torch.stack(masks)}


def parts_inputs() -> dict[str, Tensor]:
    """Boxes of all kinds near an image of 60 x 80: inside, across the border, tiny; and what goes with them."""
    centre = numbers("centre", 64, 2) * 20 + torch.tensor([40.0, 30.0])
    half = (numbers("half", 64, 2) * 0.8).exp() * 8
    boxes = torch.cat((centre - half, centre + half), 1)
    near = boxes[:6] + numbers("near", 6, 4)  # overlaps high enough to match
    truth = torch.cat((near, torch.tensor([[30.0, 20, 50, 45], [0.0, 0, 3, 2]])))
    side = torch.tensor([1.0, 20, 55.9, 56, 57, 111, 112.5, 224, 449, 2000])
    return {
        "boxes": boxes,
        "truth": truth,
        "deltas": numbers("deltas", 64, 4 * 3) * 4,
        "regions": torch.stack((side * 0, side * 0, side, side), 1),
        "masks": (numbers("masks", 3, 60, 80) > 0).to(torch.uint8),
        "probabilities": numbers("probabilities", 64, 1, 28, 28).sigmoid(),
    }
