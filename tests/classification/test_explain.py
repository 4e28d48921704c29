"""Class-activation maps light up where the evidence was planted, in our networks and in baselines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from narrow import backbone_of, not_none
from PIL import Image
from small_models import ModelOptions
from torch import Tensor, nn
from torchvision.models import densenet121, resnet18, squeezenet1_1

from convnext.classification.explain import class_activation_map, embeddings, overlay
from convnext.errors import UserError
from convnext.models.convnext import Backbone
from convnext.weights.backbone import create_model

SIZE = 128


def small_convnext(patch_size: int = 4) -> Backbone:
    torch.manual_seed(0)
    shape: ModelOptions = {"num_classes": 3, "depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32), "patch_size": patch_size}
    return backbone_of(create_model("convnext_atto", **shape))


def spotted(rows: list[int], columns: list[int]) -> Tensor:
    """Dim images with one bright 32-pixel square each, at these cells of a 4 x 4 grid."""
    images = torch.full((len(rows), 3, SIZE, SIZE), 0.1)
    for image, row, column in zip(images, rows, columns, strict=True):
        image[:, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = 2.0
    return images


def brightest_cell(cam: Tensor) -> tuple[int, int]:
    cells = nn.functional.avg_pool2d(cam[None, None], 32)[0, 0]
    return divmod(int(cells.argmax()), 4)


class Detector(nn.Module):
    """Class 0 is brightness, class 1 darkness; the map is a local mean, and one ReLU module serves twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu, self.fc = nn.Conv2d(3, 2, 16, stride=16), nn.ReLU(inplace=True), nn.Linear(2, 2)
        with torch.no_grad():
            self.stem.weight.fill_(1 / 768)
            self.stem.weight[1].neg_()
            not_none(self.stem.bias).copy_(torch.tensor([0.0, 1.0]))
            self.fc.weight.copy_(torch.eye(2))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.relu(self.relu(self.stem(images))).mean((-2, -1)))


def test_the_map_shows_the_planted_square() -> None:
    cams = class_activation_map(Detector(), spotted([0, 3], [1, 2]), torch.tensor([0, 0]))
    assert cams.shape == (2, SIZE, SIZE)
    assert [brightest_cell(cam) for cam in cams] == [(0, 1), (3, 2)]
    assert cams[0, 16, 48] == 1
    assert float(cams[0, 100, 100]) == pytest.approx(0.05, abs=1e-4)  # 0.1 of brightness over 2.0


def test_the_map_depends_on_the_class() -> None:
    """The dark class is seen everywhere but in the bright square."""
    dark = class_activation_map(Detector(), spotted([2], [2]), torch.tensor([1]))[0]
    assert dark[80, 80] == 0
    assert dark[16, 16] == 1


def red_square_on_noise(cells: list[int]) -> Tensor:
    """Noise with one red 32-pixel square each, at these cells of a 4 x 4 grid."""
    images = 0.5 * torch.randn(len(cells), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))
    for image, cell in zip(images, cells, strict=True):
        row, column = divmod(cell, 4)
        image[0, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32] += 4.0
    return images


def test_our_network_points_at_what_its_head_was_taught() -> None:
    """The first class is the direction that tells a red square in cell 5 from the rest; tested in every cell."""
    model = small_convnext().eval()
    with torch.no_grad():
        taught = model.forward_features(red_square_on_noise([5] * 32))  # (8, C, 4, 4): stride 32, one position a cell
        model.get_parameter("head.weight")[0] = (taught[:, :, 1, 1] - taught.mean((-2, -1))).mean(0)
    cams = class_activation_map(model, red_square_on_noise(list(range(16))), torch.zeros(16, dtype=torch.int64))
    assert [brightest_cell(cam) for cam in cams] == [divmod(cell, 4) for cell in range(16)]


def test_equals_the_definition_on_our_last_map() -> None:
    model, images, target = small_convnext().eval(), torch.randn(2, 3, SIZE, SIZE), torch.tensor([2, 0])
    map_nchw = model.forward_features(images).detach().requires_grad_()
    logits = model.forward_head(map_nchw)
    (gradient,) = torch.autograd.grad(logits[0, 2] + logits[1, 0], map_nchw)
    cam = torch.einsum("nc,nchw->nhw", gradient.mean((-2, -1)), map_nchw).relu()
    expected = nn.functional.interpolate(cam[:, None], (SIZE, SIZE), mode="bilinear")[:, 0]
    expected = expected / expected.amax((-2, -1), keepdim=True)
    torch.testing.assert_close(class_activation_map(model, images, target), expected)


@pytest.mark.parametrize("size", [8, 32, 72])
def test_tiny_images_are_explained_on_an_earlier_map(size: int) -> None:
    """Their last map has one or two positions a side, where no place can be seen."""
    cams = class_activation_map(small_convnext(patch_size=1 if size == 8 else 4), torch.randn(4, 3, size, size))
    assert cams.shape == (4, size, size)
    assert all(float(cam.std()) > 0.05 for cam in cams)


@pytest.mark.parametrize("build", [resnet18, densenet121])
def test_baselines_equal_the_definition(build: type) -> None:
    torch.manual_seed(0)
    model, images = build(num_classes=4).eval(), torch.randn(2, 3, 128, 128)
    torch.nn.init.normal_(model.get_submodule("fc" if build is resnet18 else "classifier").weight, std=0.1)
    if build is resnet18:
        map_nchw, head = nn.Sequential(*list(model.children())[:-2])(images), model.fc
    else:
        map_nchw, head = model.features(images).relu(), model.classifier
    logits = head(map_nchw.mean((-2, -1)))
    cam = torch.einsum("nc,nchw->nhw", head.weight[logits.argmax(-1)], map_nchw).relu()
    expected = nn.functional.interpolate(cam[:, None], (128, 128), mode="bilinear")[:, 0]
    expected = (expected / expected.amax((-2, -1), keepdim=True)).detach()
    torch.testing.assert_close(class_activation_map(model, images), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224"])
def test_timm_networks_are_explained(name: str) -> None:
    timm = pytest.importorskip("timm")
    cams = class_activation_map(timm.create_model(name, num_classes=5), torch.randn(1, 3, 224, 224))
    assert cams.shape == (1, 224, 224)
    assert 0 <= float(cams.min()) < float(cams.max()) <= 1


def test_nothing_is_left_behind() -> None:
    """No hooks, no gradients, and every module in the mode it was in; frozen parameters are no hindrance."""
    model = small_convnext().train().requires_grad_(False)
    model.head.eval()
    class_activation_map(model, torch.randn(1, 3, SIZE, SIZE))
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert not model.head.training


def test_a_class_that_nothing_speaks_for_is_dark() -> None:
    model = Detector()
    cams = class_activation_map(model, torch.full((1, 3, SIZE, SIZE), 2.0), torch.tensor([1]))
    assert float(cams.max()) == 0


def test_a_model_without_maps_is_refused() -> None:
    with pytest.raises(UserError, match="makes no maps"):
        class_activation_map(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.randn(1, 3, 2, 2))


def test_overlay_colours_only_where_the_map_is_high() -> None:
    image = Image.new("L", (300, 200), 128)
    cam = torch.zeros(20, 30)
    cam[:, 15:] = 1.0
    shown = np.asarray(overlay(image, cam)).astype(int)
    assert shown.shape == (200, 300, 3)
    assert shown[100, 20].tolist() == [128, 128, 128]
    red, _, blue = shown[100, 280]
    assert red > blue + 80


def test_overlay_enlarges_digits_without_smoothing() -> None:
    image = Image.new("RGB", (8, 8))
    image.putpixel((0, 0), (255, 255, 255))
    shown = overlay(image, np.zeros((8, 8), dtype=np.float32))
    assert shown.size == (192, 192)
    assert np.asarray(shown)[:24, :24].min() == 255
    assert np.asarray(shown).sum() == 24 * 24 * 3 * 255


def test_embeddings_feed_the_classifier() -> None:
    for model, head in ((small_convnext(), "head"), (resnet18(num_classes=3), "fc")):
        images = torch.randn(2, 3, 64, 64)
        features = embeddings(model, images)
        with torch.no_grad():
            torch.testing.assert_close(model.get_submodule(head)(features), model.eval()(images))


def test_embeddings_without_a_linear_layer_are_refused() -> None:
    with pytest.raises(UserError, match="linear"):
        embeddings(squeezenet1_1(num_classes=2), torch.randn(1, 3, 64, 64))
