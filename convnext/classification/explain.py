"""Where a classifier looked, and how it sees its images: class-activation maps and embeddings, for any CNN.

Grad-CAM (Selvaraju et al. 2017): a map's channels, each weighted by the mean gradient of the class's logit, added up
and cut at zero. Behind global average pooling and one linear layer it is the class-activation map of Zhou et al. 2016.

Shapes: N images, C channels, h x w positions of a map, H x W pixels, K classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ..errors import UserError

# A coarser map shows no place. Behind ConvNeXt's last norm a map of one position explains nothing at all: the norm's
# gradient has no component along its input, so that the weighted sum there is zero for every class.
SMALLEST_SIDE = 3
STRONGEST = 0.7  # share of the colour where a map is 1
SMALLEST_OVERLAY = 192  # pixels; smaller pictures are enlarged so that a smooth map can be seen on them
COLOURS = np.array([[48, 18, 130], [38, 120, 240], [30, 210, 170], [250, 200, 50], [215, 40, 20]])  # low to high

Hook = Callable[[int, Tensor], Tensor | None]  # (number of the module call, its 4-D output) -> a replacement


def class_activation_map(model: nn.Module, images: Tensor, target: Tensor | None = None) -> Tensor:
    """(N, 3, H, W) normalised images, (N,) classes -> (N, H, W) in [0, 1]: where each class is seen.

    The map explained is the last one of at least 3 x 3 positions (for images of a few pixels: the largest). `target`
    defaults to what the model predicts. Each map reaches 1 unless nothing speaks for its class; then it is 0.
    Raises UserError for a model without maps.
    """
    with _in_eval_mode(model):
        call, predicted = _last_map(model, images)
        classes = predicted if target is None else target.to(predicted)
        map_nchw, logits = _forward_from(model, images, call)
        (gradient_nchw,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), map_nchw)
    map_nchw = map_nchw.detach()
    if _is_channels_last(model, map_nchw):
        map_nchw, gradient_nchw = map_nchw.permute(0, 3, 1, 2), gradient_nchw.permute(0, 3, 1, 2)
    weights = gradient_nchw.mean((-2, -1), keepdim=True)
    cam = (weights * map_nchw).sum(1, keepdim=True).relu().float()
    cam = F.interpolate(cam, images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    highest = cam.amax((-2, -1), keepdim=True)
    return torch.where(highest > 0, cam / highest, 0.0).clamp_(0, 1)


def overlay(image: Image.Image, cam: Tensor | np.ndarray) -> Image.Image:
    """A picture with its (H, W) map in colour over it, blue to red; RGB, in the picture's shape, small ones enlarged.

    The picture must be what the model was shown (`Preprocess.resize`), or the map lies beside what it explains.
    """
    factor = max(1, -(-SMALLEST_OVERLAY // max(image.size)))
    size = (image.width * factor, image.height * factor)
    picture = np.asarray(image.convert("RGB").resize(size, Image.Resampling.NEAREST), dtype=np.float32)
    values = torch.as_tensor(cam).detach().cpu().float().numpy()
    heat = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)
    stops = np.linspace(0, 1, len(COLOURS))
    colour = np.stack([np.interp(heat, stops, channel) for channel in COLOURS.T], axis=-1)
    share = STRONGEST * heat[..., None]
    return Image.fromarray(((1 - share) * picture + share * colour).round().astype(np.uint8))


@torch.inference_mode()
def embeddings(model: nn.Module, images: Tensor) -> Tensor:
    """(N, 3, H, W) normalised images -> (N, C) pooled features, as the classifier gets them.

    Raises UserError for a model that does not end in a linear layer.
    """
    with _in_eval_mode(model):
        if hasattr(model, "forward_features") and hasattr(model, "forward_head"):  # ours, and timm's
            return model.forward_head(model.forward_features(images), pre_logits=True)  # type: ignore[operator]
        return _input_of_last_linear(model, images)


def _last_map(model: nn.Module, images: Tensor) -> tuple[int, Tensor]:
    """Number of the module call whose output is explained, and the (N,) predicted classes."""
    sides: dict[int, int] = {}

    def note(call: int, output: Tensor) -> None:
        sides[call] = min(_positions(model, output))

    with torch.no_grad(), _hooked(model, note):
        predicted = model(images).argmax(-1)
    if not sides:
        raise UserError(f"{type(model).__name__} makes no maps (N, C, h, w), so there is nothing to show as one")
    needed = min(SMALLEST_SIDE, max(sides.values()))
    return max(call for call, side in sides.items() if side >= needed), predicted


def _forward_from(model: nn.Module, images: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """The map of a module call, where the graph begins, and the (N, K) logits that depend on it."""
    found: list[Tensor] = []

    def replace(call: int, output: Tensor) -> Tensor | None:
        if call != target:
            return None
        found.append(output.detach().requires_grad_().clone())  # the layer that follows may change it in place
        return found[0]

    with torch.enable_grad(), _hooked(model, replace):
        logits = model(images)
    return found[0], logits


@contextlib.contextmanager
def _hooked(model: nn.Module, hook: Hook) -> Iterator[None]:
    """Calls `hook` for every 4-D output of a module. Calls are numbered, for one module may be called several times."""
    calls = 0

    def forward_hook(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
        nonlocal calls
        calls += 1
        return hook(calls, output) if isinstance(output, Tensor) and output.ndim == 4 else None

    handles = [module.register_forward_hook(forward_hook) for module in model.modules() if module is not model]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _positions(model: nn.Module, output: Tensor) -> tuple[int, int]:
    axes = (1, 2) if _is_channels_last(model, output) else (2, 3)
    return output.shape[axes[0]], output.shape[axes[1]]


def _is_channels_last(model: nn.Module, output: Tensor) -> bool:
    """Whether a map is (N, h, w, C), as in Swin: known by the width of the model's last map, where it says that."""
    width = getattr(model, "num_features", None)
    return output.shape[-1] == width and output.shape[1] != width


def _input_of_last_linear(model: nn.Module, images: Tensor) -> Tensor:
    inputs: list[Tensor] = []
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    handles = [layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for layer in linear]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    if not inputs or inputs[-1].ndim != 2:
        raise UserError(f"{type(model).__name__} does not end in a linear layer, so it has no pooled features to give")
    return inputs[-1]
