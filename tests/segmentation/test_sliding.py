"""Windows, scales and bands: each equals its plain definition; a large picture stays within its memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from convnext.catalog.variants import Arch
from convnext.data.keep_ratio import KeepRatio
from convnext.models.convnext import ConvNeXt
from convnext.recipes.recipe import TestMode
from convnext.segmentation import sliding as label_maps
from convnext.segmentation.model import Segmenter, build_segmenter
from convnext.segmentation.sliding import MODES, SCALES, Logits, bands, label_map, logits_of, windows
from convnext.training.runtime import Runtime

RUN = Runtime(torch.device("cpu"))
PROTOCOL = KeepRatio(48, 192)


@pytest.fixture
def model() -> Segmenter:
    torch.manual_seed(0)
    made = build_segmenter(ConvNeXt(Arch((1, 1, 1, 1), (8, 8, 16, 16), layer_scale=1.0), out_norms=True), 6, 16).eval()
    made.decode_head.conv_seg.weight.data.mul_(50)
    return made


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (-(-height // 9), -(-width // 9), 3), dtype=np.uint8)
    return Image.fromarray(pixels.repeat(9, 0).repeat(9, 1)[:height, :width])


def one_at_a_time(model: Segmenter, x: Tensor, side: int) -> Tensor:
    """Sliding windows as mmsegmentation has them."""
    stride = int(side * 2 / 3)
    height, width = x.shape[-2:]
    total, count = torch.zeros(6, height, width), torch.zeros(1, height, width)
    for i in range(max(height - side + stride - 1, 0) // stride + 1):
        for j in range(max(width - side + stride - 1, 0) // stride + 1):
            bottom, right = min(i * stride + side, height), min(j * stride + side, width)
            top, left = max(bottom - side, 0), max(right - side, 0)
            total[:, top:bottom, left:right] += model(x[None, :, top:bottom, left:right])[0]
            count[:, top:bottom, left:right] += 1
    return total / count


@pytest.mark.parametrize("size", [(48, 131), (101, 75), (48, 48), (40, 90), (97, 33)])
@pytest.mark.parametrize("at_once", [1, 3])
def test_windows_equal_one_at_a_time(model: Segmenter, size: tuple[int, int], at_once: int) -> None:
    x = torch.randn(3, *size)
    with torch.inference_mode():
        found = logits_of(model, x, RUN, window=48, at_once=at_once).rows(0, size[0], size).permute(2, 0, 1)
        torch.testing.assert_close(found, one_at_a_time(model, x, 48), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("side", "stride"), [(512, 341), (640, 426)])
def test_strides_are_the_published_ones(side: int, stride: int) -> None:
    corners = [left for top, left in windows((side, 4 * side), side) if top == 0]
    assert corners[1] == stride
    assert corners[-1] == 3 * side


@pytest.mark.parametrize("size", [(64, 64), (33, 200), (150, 90), (7, 5), (40, 28)])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("values", [1, 5_000, 2**25])
def test_bands_are_the_two_whole_interpolations(
    size: tuple[int, int], mirrored: bool, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_maps, "BAND_VALUES", values)
    held = Logits(torch.randn(5, 10, 8), (40, 32), (40, 28), mirrored)
    whole = F.interpolate(held.values[None], size=(40, 32), mode="bilinear", align_corners=False)[..., :28]
    whole = whole.flip(-1) if mirrored else whole
    whole = F.interpolate(whole, size=size, mode="bilinear", align_corners=False)[0]
    found = torch.cat([held.rows(*band, size) for band in bands([held], size)])
    torch.testing.assert_close(found.permute(2, 0, 1), whole, rtol=1e-5, atol=1e-5)


def test_several_scales_are_averaged_as_probabilities(model: Segmenter) -> None:
    image = picture(91, 63)
    total = torch.zeros(6, 63, 91)
    with torch.inference_mode():
        for scale in SCALES:
            for mirrored in (False, True):
                x = PROTOCOL(image, scale)
                x = x.flip(-1) if mirrored else x
                height, width = x.shape[1:]
                padded = F.pad(x, (0, max(0, 32 - width), 0, max(0, 32 - height)))
                logits = model(padded[None])[..., :height, :width]
                logits = logits.flip(-1) if mirrored else logits
                total += F.interpolate(logits, size=(63, 91), mode="bilinear").softmax(1)[0]
    sure = total.topk(2, 0).values.diff(dim=0)[0].abs().numpy() > 1e-3
    found = label_map(model, image, PROTOCOL, "multiscale", RUN)
    assert (found == total.argmax(0).numpy())[sure].all()
    assert sure.mean() > 0.9


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (3, 400), (500, 2), (64, 48)])
def test_pictures_of_any_shape(model: Segmenter, mode: TestMode, size: tuple[int, int]) -> None:
    found = label_map(model, picture(*size), PROTOCOL, mode, RUN)
    assert found.shape == size[::-1]
    assert found.dtype == np.int16
    assert found.min() >= 0


LARGE = """
import torch
from pathlib import Path
from PIL import Image
from convnext.segmentation.data import protocol
from convnext.models.convnext import ConvNeXt
from convnext.segmentation.model import build_segmenter
from convnext.segmentation.sliding import label_map
from convnext.training.runtime import Runtime
from convnext.catalog.variants import Arch
model = build_segmenter(ConvNeXt(Arch((1, 1, 1, 1), (8, 8, 16, 16), layer_scale=1.0), out_norms=True), 150, 16).eval()
image, run = Image.new("RGB", ({width}, {height})), Runtime(torch.device("cpu"))
found = label_map(model, image, protocol({side}), "{mode}", run)
assert found.shape == ({height}, {width})
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 2**20)  # its own: the resource module's includes that of the process that started it
"""


def gigabytes_for(width: int, height: int, side: int, mode: str) -> float:
    """What a process of its own takes at most for a picture of 150 classes."""
    words = {"width": width, "height": height, "side": side, "mode": mode}
    script = LARGE
    for name, value in words.items():
        script = script.replace(f"{{{name}}}", str(value))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["slide", *(pytest.param(m, marks=pytest.mark.slow) for m in ("whole", "multiscale"))])
def test_a_large_picture_of_many_classes_takes_less_than_four_gigabytes(mode: str) -> None:
    assert gigabytes_for(4000, 3000, 512, mode) < 4


def test_what_several_scales_hold_grows_with_the_networks_maps_alone() -> None:
    """All twelve were held at the size of the network's input, and twelve bands at a time: 2.4 GB for this picture."""
    assert gigabytes_for(240, 160, 256, "multiscale") < 1.5
