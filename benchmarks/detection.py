"""Mask R-CNN beside torchvision's: one image detected, one image learned from, on this machine.

Both have the same ConvNeXt as backbone, the same image, anchors, numbers of candidates, proposals and regions, sampling
ratio and thresholds, two classes and fresh weights; they are timed in turn. Results go to benchmarks/results.

    python benchmarks/detection.py [--model convnext_tiny] [--height 320] [--width 480] [--n 7]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

import convnext
from convnext.models.rcnn import build_detector
from convnext.training import runtime

CLASSES = 2
OBJECTS = 8
RESULTS = Path(__file__).parent / "results"


class Body(nn.Module):
    """Our backbone with torchvision's pyramid."""

    out_channels = 256

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.body = backbone
        self.fpn = FeaturePyramidNetwork(list(backbone.channels), self.out_channels, LastLevelMaxPool())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = OrderedDict((str(i), x) for i, x in enumerate(self.body.features(images)))
        return self.fpn(maps)  # type: ignore[no-any-return]


def theirs(model: str, height: int, width: int) -> nn.Module:
    sizes = tuple((8 * 4 * 2**i,) for i in range(5))
    names = ["0", "1", "2", "3"]
    return MaskRCNN(
        Body(convnext.create_model(model, out_norms=True)), CLASSES + 1,
        min_size=min(height, width), max_size=max(height, width), image_mean=[0.0] * 3, image_std=[1.0] * 3,
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=2000, rpn_pre_nms_top_n_test=1000,
        rpn_post_nms_top_n_train=1000, rpn_post_nms_top_n_test=1000,
        box_roi_pool=MultiScaleRoIAlign(names, 7, 0, canonical_scale=224, canonical_level=4),
        mask_roi_pool=MultiScaleRoIAlign(names, 14, 0, canonical_scale=224, canonical_level=4),
        box_batch_size_per_image=512, box_score_thresh=0.05, box_nms_thresh=0.5, box_detections_per_img=100,
    )  # fmt: skip


def target(height: int, width: int, first_label: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(OBJECTS, 2, generator=generator) * torch.tensor([width * 0.6, height * 0.6])
    boxes = torch.cat((corner, corner + 20 + torch.rand(OBJECTS, 2, generator=generator) * min(height, width) * 0.3), 1)
    masks = torch.zeros(OBJECTS, height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.long().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    labels = torch.arange(OBJECTS) % CLASSES + first_label
    return {"boxes": boxes, "labels": labels, "masks": masks}


def timed(act: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    mark = time.perf_counter()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - mark


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="convnext_tiny")
    parser.add_argument("--height", type=int, default=320)
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--n", type=int, default=7)
    options = parser.parse_args()
    device = runtime.default_device()
    image = torch.randn(3, options.height, options.width, device=device)
    torch.manual_seed(0)
    models = {
        "convnext": build_detector("mask_rcnn", convnext.create_model(options.model, out_norms=True), CLASSES).to(
            device
        ),  # type: ignore[arg-type]
        "torchvision": theirs(options.model, options.height, options.width).to(device),
    }
    models = {name: model.to(memory_format=torch.channels_last) for name, model in models.items()}  # type: ignore[call-overload]
    targets = {
        name: {k: v.to(device) for k, v in target(options.height, options.width, first).items()}
        for name, first in (("convnext", 0), ("torchvision", 1))  # torchvision's background comes first
    }

    def detect(name: str) -> None:
        with torch.inference_mode():
            models[name]([image])

    def learn(name: str) -> None:
        losses = models[name]([image], [dict(targets[name])])
        torch.stack(list(losses.values())).sum().backward()
        models[name].zero_grad(set_to_none=True)

    rows: list[dict[str, Any]] = []
    for what, act, training in (("detect", detect, False), ("learn", learn, True)):
        for precision in ("fp32", "bf16"):
            times: dict[str, list[float]] = {name: [] for name in models}
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                for i in range(options.n + 1):
                    for name, model in models.items():
                        model.train(training)
                        seconds = timed(lambda name=name, act=act: act(name), device)  # type: ignore[misc]
                        if i:  # the first of each warms up
                            times[name].append(seconds)
            ratios = [t / o for o, t in zip(times["convnext"], times["torchvision"], strict=True)]
            row = {"what": what, "precision": precision, "n": options.n}
            row |= {f"{name}_s": round(statistics.median(values), 4) for name, values in times.items()}
            row |= {
                "ratio": round(statistics.median(ratios), 3),
                "spread": [round(min(ratios), 3), round(max(ratios), 3)],
            }
            rows.append(row)
            print(row, flush=True)
    shape = {"model": options.model, "height": options.height, "width": options.width}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "detection.json"
    path.write_text(json.dumps({"machine": runtime.describe(), "load": shape, "rows": rows}, indent=2) + "\n")
    print(f"ratio: torchvision's time over ours, pair by pair; written to {path}")


if __name__ == "__main__":
    main()
