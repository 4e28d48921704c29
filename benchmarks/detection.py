"""Mask R-CNN beside torchvision's: one image detected, one image learned from, on this machine.

Both have the same ConvNeXt as backbone, the same image, anchors, numbers of candidates, proposals and regions, sampling
ratio and thresholds, two classes and fresh weights; they are timed in turn. Results go to benchmarks/results.

    python benchmarks/detection.py [--model convnext_tiny] [--height 320] [--width 480] [--n 7]
"""

from __future__ import annotations

import argparse
import json
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from side_by_side import compared
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

import convnext
from convnext.detection.model.rcnn import build_detector
from convnext.detection.model.roi_align import Pooler
from convnext.models.convnext import Backbone
from convnext.training import runtime

CLASSES = 2
OBJECTS = 8
REGIONS = 512
STRIDES = (4, 8, 16, 32)
NAMES = ["0", "1", "2", "3"]
RESULTS = Path(__file__).parent / "results"


class Body(nn.Module):
    """Our backbone with torchvision's pyramid."""

    out_channels = 256

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.body = backbone
        self.fpn = FeaturePyramidNetwork(list(backbone.channels), self.out_channels, LastLevelMaxPool())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = OrderedDict((str(i), x) for i, x in enumerate(self.body.features(images)))
        return self.fpn(maps)


def body(model: str) -> Backbone:
    made = convnext.create_model(model, out_norms=True)
    assert isinstance(made, Backbone)
    return made


def theirs(model: str, height: int, width: int) -> nn.Module:
    sizes = tuple((8 * 4 * 2**i,) for i in range(5))
    return MaskRCNN(
        Body(body(model)),
        CLASSES + 1,
        min_size=min(height, width),
        max_size=max(height, width),
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=2000,
        rpn_pre_nms_top_n_test=1000,
        rpn_post_nms_top_n_train=1000,
        rpn_post_nms_top_n_test=1000,
        box_roi_pool=MultiScaleRoIAlign(NAMES, 7, 0, canonical_scale=224, canonical_level=4),
        mask_roi_pool=MultiScaleRoIAlign(NAMES, 14, 0, canonical_scale=224, canonical_level=4),
        box_batch_size_per_image=512,
        box_score_thresh=0.05,
        box_nms_thresh=0.5,
        box_detections_per_img=100,
    )


def target(height: int, width: int, first_label: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(OBJECTS, 2, generator=generator) * torch.tensor([width * 0.6, height * 0.6])
    boxes = torch.cat((corner, corner + 20 + torch.rand(OBJECTS, 2, generator=generator) * min(height, width) * 0.3), 1)
    masks = torch.zeros(OBJECTS, height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.long().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    labels = torch.arange(OBJECTS) % CLASSES + first_label
    return {"boxes": boxes, "labels": labels, "masks": masks}


def pooling(height: int, width: int, device: torch.device) -> dict[str, Callable[[], Any]]:
    """RoIAlign of 512 regions from the four levels of an image, and its backward pass: ours, and torchvision's."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(REGIONS, 2, generator=generator) * torch.tensor([width, height])
    half = (torch.randn(REGIONS, 2, generator=generator) * 0.7).exp() * 25
    boxes = torch.cat((centre - half, centre + half), 1).to(device)
    boxes = boxes.clamp(0).minimum(torch.tensor([width, height, width, height], device=device))
    shapes = [(-(-height // s), -(-width // s)) for s in STRIDES]
    maps = [torch.randn(1, 256, *shape, device=device, requires_grad=True) for shape in shapes]
    pooler = MultiScaleRoIAlign(NAMES, 7, 0)
    named = OrderedDict(zip(NAMES, maps, strict=True))
    push = torch.randn(REGIONS, 256, 7, 7, device=device)
    return {
        "convnext": lambda: Pooler(maps, STRIDES)([boxes], 7).backward(push),
        "torchvision": lambda: pooler(named, [boxes], [(height, width)]).backward(push),
    }


def detectors(model: str, height: int, width: int, device: torch.device) -> dict[str, dict[str, Callable[[], Any]]]:
    """One image detected, and one learned from (losses and gradients), by each of the two."""
    torch.manual_seed(0)
    models: dict[str, nn.Module] = {
        "convnext": build_detector("mask_rcnn", body(model), CLASSES),
        "torchvision": theirs(model, height, width),
    }
    models = {name: m.to(device).to(memory_format=torch.channels_last) for name, m in models.items()}
    image = torch.randn(3, height, width, device=device)
    first = {"convnext": 0, "torchvision": 1}  # torchvision's background comes first
    targets = {n: {k: v.to(device) for k, v in target(height, width, first[n]).items()} for n in models}

    def detect(name: str) -> None:
        with torch.inference_mode():
            models[name].eval()([image])

    def learn(name: str) -> None:
        losses = models[name].train()([image], [dict(targets[name])])
        torch.stack(list(losses.values())).sum().backward()
        models[name].zero_grad(set_to_none=True)

    acts = {"detect": detect, "learn": learn}
    return {what: {name: partial(act, name) for name in models} for what, act in acts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="convnext_tiny")
    parser.add_argument("--height", type=int, default=320)
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--n", type=int, default=7)
    options = parser.parse_args()
    device = runtime.default_device()
    rows: list[dict[str, Any]] = []
    cases = detectors(options.model, options.height, options.width, device)
    for what, acts in cases.items():
        for precision in ("fp32", "bf16"):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                rows.append({"what": what, "precision": precision, **compared(acts, options.n, device)})
            print(rows[-1], flush=True)
    found = compared(pooling(options.height, options.width, device), options.n, device)
    rows.append({"what": "RoIAlign, both ways", "precision": "fp32", **found})
    print(rows[-1], flush=True)
    shape = {"model": options.model, "height": options.height, "width": options.width}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"detection-{options.model.removeprefix('convnext_')}.json"
    path.write_text(json.dumps({"machine": runtime.describe(), "load": shape, "rows": rows}, indent=2) + "\n")
    print(f"ratio: torchvision's time over ours, pair by pair; written to {path}")


if __name__ == "__main__":
    main()
