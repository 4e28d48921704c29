"""What every naming of weights keeps: a model comes back from a file bit for bit, or the naming is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from narrow import backbone_of
from small_models import small
from torch import nn

from convnext import load_weights, save_weights
from convnext.detection.model.rcnn import build_detector
from convnext.errors import UserError
from convnext.regression.model import Regressor
from convnext.segmentation.model import build_segmenter
from convnext.weights.keymaps import WRITTEN


def dense() -> nn.Module:
    return small(out_norms=True)


KINDS: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {  # how one is made; namings of libraries that have it
    "classifier": (small, {"official", "timm", "torchvision", "transformers", "mmpretrain"}),
    "maps": (lambda: small(features_only=True), {"official", "timm", "torchvision", "transformers", "mmdet", "mmseg"}),
    "normed maps": (dense, {"official", "transformers", "mmdet", "mmseg"}),
    "a stem that pools": (lambda: small(stem="pool"), {"official"}),
    "regressor": (
        lambda: Regressor(small(num_classes=2), [3.0, -1.0], [2.0, 0.5]),
        {"official", "timm", "torchvision", "transformers", "mmpretrain"},
    ),
    "detector": (lambda: build_detector("mask_rcnn", backbone_of(dense()), 3), {"official", "mmdet"}),
    "segmenter": (lambda: build_segmenter(backbone_of(dense()), 3, 16), {"official", "mmseg", "transformers"}),
}


def drawn(kind: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = KINDS[kind][0]()
    with torch.no_grad():
        for value in model.parameters():
            value.normal_()
    return model.eval()


@pytest.mark.parametrize("naming", WRITTEN)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_comes_back_or_the_naming_is_refused(kind: str, naming: str, tmp_path: Path) -> None:
    model, path = drawn(kind, 0), tmp_path / "model.safetensors"
    if naming not in KINDS[kind][1]:
        with pytest.raises(UserError):
            save_weights(model, path, naming=naming)
        assert not path.exists()
        return
    back = drawn(kind, 1)
    assert load_weights(back, save_weights(model, path, naming=naming)).ok
    if kind == "regressor":  # its scale is folded into the head for other libraries: the same answers, other numbers
        x = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(back(x), model(x), rtol=1e-4, atol=1e-4)
        return
    ours, theirs = model.state_dict(), back.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_every_kind_has_a_library() -> None:
    assert set().union(*(namings for _, namings in KINDS.values())) == set(WRITTEN)
