"""The paper's Table 3: what detectors cost and reach, as published, and what ours of the same name cost here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from . import files
from .bench import FLOPS_PER_MULTIPLY_ADD, GPU_TIMED, Cost
from .models import create_model
from .models.rcnn import Detector, build_detector
from .models.roi import BOX_SIDE, MASK_SIDE
from .recipes import get_recipe
from .training import runtime

IMAGE = (800, 1280)  # height and width that the published figures are for
BOX_REGIONS, MASK_REGIONS = 1000, 100  # read by each box head and by each mask head: the published counts assume it
GPU_WARM_UP, CPU_TIMED = 10, 3  # images


def make_detector(recipe: str) -> Detector:
    """The detector of a recipe such as "coco/cascade_mask_rcnn/tiny", with fresh weights."""
    rules = get_recipe(recipe)
    return build_detector(rules.detection.detector, create_model(rules.model, out_norms=True))  # type: ignore[arg-type]


def count_detector(recipe: str) -> Cost:
    """Parameters, and multiply-adds of convolutions and linear layers for one image of 1280 x 800 pixels."""
    with torch.device("meta"):
        model = make_detector(recipe).eval()
        image = torch.empty(1, 3, *IMAGE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        pyramid = model.neck(model.backbone.features(image))
        for features in pyramid:
            hidden = model.rpn_head.rpn_conv(features)
            model.rpn_head.rpn_cls(hidden)
            model.rpn_head.rpn_reg(hidden)
        width = pyramid[0].shape[1]
        for box_head, mask_head, _ in model.roi_head.heads:
            box_head(torch.empty(BOX_REGIONS, width, BOX_SIDE, BOX_SIDE, device="meta"))
            mask_head.maps(torch.empty(MASK_REGIONS, width, MASK_SIDE, MASK_SIDE, device="meta"))
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(parameters, counter.get_total_flops() // FLOPS_PER_MULTIPLY_ADD)


def table3_rows(*, speed: bool = True, say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Table 3: what was printed; our counts, and with `speed` images a second, of the detectors that are ours."""
    rows = []
    for printed in json.loads(files.asset("table3.json"))["rows"]:
        labels = {"gflops": "GFLOPs (paper)", "fps_a100": "images/s (paper, A100)"}
        row = {labels.get(key, key): value for key, value in printed.items() if key != "detector"}
        if name := printed["detector"]:
            cost = count_detector(name)
            row |= {"GFLOPs": round(cost.gmacs, 1), "M parameters": round(cost.parameters / 1e6, 1)}
            if speed:
                say(f"{name} …")
                row |= _speed(name)
        rows.append(row)
    return rows


def _speed(recipe: str) -> dict[str, Any]:
    """Images a second of whole detections, one image of noise at a time, fresh weights."""
    device = runtime.default_device()
    accelerator = device.type != "cpu"
    model = make_detector(recipe).eval().to(device)
    image = torch.randn(3, *IMAGE, device=device)
    rates = []
    with torch.inference_mode():
        for i in range((GPU_WARM_UP + GPU_TIMED) if accelerator else 1 + CPU_TIMED):
            if accelerator:
                torch.accelerator.synchronize()
            mark = time.perf_counter()
            model([image])
            if accelerator:
                torch.accelerator.synchronize()
            if i >= (GPU_WARM_UP if accelerator else 1):
                rates.append(1 / (time.perf_counter() - mark))
    spread = f"{min(rates):.3g}-{max(rates):.3g}, n = {len(rates)}, {device}"
    return {"images/s": round(median(rates), 3), "spread": spread}
