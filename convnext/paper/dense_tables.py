"""The paper's Tables 3, 4 and 7: what detectors and segmenters cost, as published and here, and reach, as published."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .. import files
from ..detection.model.rcnn import Detector, build_detector
from ..detection.model.roi_head import BOX_SIDE, MASK_SIDE
from ..models.convnext import Backbone
from ..recipes import get_recipe
from ..segmentation.data import LONGEST
from ..segmentation.model import Segmenter, build_segmenter
from ..system.tables import Row
from ..training import runtime
from ..weights.backbone import create_model
from . import timing
from .costs import FLOPS_PER_MULTIPLY_ADD, Cost

Act = Callable[[], object]
IMAGE = (800, 1280)  # height and width that the published figures are for
SURE = 6.0  # a logit that makes one of 81 classes more likely than the other 80 together
BOX_REGIONS, MASK_REGIONS = 1000, 100  # read by each box head and by each mask head: the published counts assume it


def make_detector(recipe: str) -> Detector:
    """The detector of a recipe such as "coco/cascade_mask_rcnn/tiny", with fresh weights."""
    rules = get_recipe(recipe)
    return build_detector(rules.detection.detector, _backbone(rules.model))


def make_segmenter(recipe: str) -> Segmenter:
    """The segmenter of a recipe such as "ade20k/upernet/tiny", with fresh weights."""
    return build_segmenter(_backbone(get_recipe(recipe).model))


def _backbone(name: str) -> Backbone:
    network = create_model(name, out_norms=True)
    assert isinstance(network, Backbone)  # the tables have no detector or segmenter on a baseline
    return network


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
            if mask_head is not None:
                mask_head.maps(torch.empty(MASK_REGIONS, width, MASK_SIDE, MASK_SIDE, device="meta"))
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(parameters, counter.get_total_flops() // FLOPS_PER_MULTIPLY_ADD)


def count_segmenter(recipe: str) -> Cost:
    """Parameters, and multiply-adds for one image of four crops in a row, without the auxiliary head, as published."""
    with torch.device("meta"):
        model = make_segmenter(recipe).eval()
        image = torch.empty(1, 3, *segmenter_image(recipe))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image, coarse=True)
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(parameters, counter.get_total_flops() // FLOPS_PER_MULTIPLY_ADD)


def segmenter_image(recipe: str) -> tuple[int, int]:
    """Height and width that the published figures of a segmenter are for."""
    side = get_recipe(recipe).image_size
    return side, LONGEST * side


def table3_rows(*, speed: bool = True, say: Callable[[str], None] = print) -> list[Row]:
    """Table 3: what was printed; our counts, and with `speed` images a second, of the detectors that are ours."""
    labels = {"gflops": "GFLOPs (paper)", "fps_a100": "images/s (paper, A100)"}
    return _rows("table3.json", "detector", labels, count_detector, _detect if speed else None, say)


def segmentation_rows(table: str, *, speed: bool = True, say: Callable[[str], None] = print) -> list[Row]:
    """Tables 4 (six scales and mirrored) and 7 (one scale), in the same way."""
    labels = {"gflops": "GFLOPs (paper)", "params": "M parameters (paper)", "miou_ms": "mIoU ms", "miou_ss": "mIoU"}
    return _rows(f"table{table}.json", "segmenter", labels, count_segmenter, _segment if speed else None, say)


def _rows(
    asset: str,
    key: str,
    labels: dict[str, str],
    count: Callable[[str], Cost],
    run: Callable[[str], Act] | None,
    say: Callable[[str], None],
) -> list[Row]:
    rows: list[Row] = []
    for printed in json.loads(files.asset(asset))["rows"]:
        row = {labels.get(name, name): value for name, value in printed.items() if name != key}
        if recipe := printed[key]:
            cost = count(recipe)
            row |= {"GFLOPs": round(cost.gmacs, 1), "M parameters": round(cost.parameters / 1e6, 1)}
            if run is not None:
                say(f"{recipe} …")
                row |= timing.of_act(run(recipe), 1, timing.SINGLE, runtime.default_device()).cells
        rows.append(row)
    return rows


def _detect(recipe: str) -> Act:
    """Detects in one image of noise with fresh weights, made to find as much as the published counts assume.

    Fresh weights give every class 1/81, below the least score: nothing would be found, and no mask head would run. So
    one class is made likely, which leaves a candidate for each region, and none suppresses another.
    """
    device = runtime.default_device()
    model, image = make_detector(recipe).eval().to(device), torch.randn(3, *IMAGE, device=device)
    model.roi_head.test = replace(model.roi_head.test, nms=1.0, most=MASK_REGIONS)
    for box_head, _, _ in model.roi_head.heads:
        nn.init.constant_(box_head.fc_cls.bias[:1], SURE)
    return lambda: model([image])


def _segment(recipe: str) -> Act:
    """Labels one image of noise, seen whole, with fresh weights."""
    device = runtime.default_device()
    model = make_segmenter(recipe).eval().to(device)
    image = torch.randn(1, 3, *segmenter_image(recipe), device=device)
    return lambda: model(image).argmax(1)
