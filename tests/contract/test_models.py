"""What every network of the family keeps: its maps, logits and groups fit each other, and a file holds it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from narrow import backbone_of, instance_of
from small_models import SMALL, ModelOptions
from torch import nn

from convnext import create_model, from_pretrained, save_weights
from convnext.catalog.variants import VARIANTS
from convnext.models.convnext import Backbone
from convnext.weights.backbone import list_models

FORMS: dict[str, tuple[str, ModelOptions]] = {
    "patches": ("convnext_atto", SMALL),
    "a stem that pools": ("convnext_atto", {**SMALL, "stem": "pool", "patch_size": 4}),
    "no layer scale": ("convnext_atto", {**SMALL, "layer_scale_init_value": 0.0}),
    "four channels": ("convnext_atto", {**SMALL, "in_chans": 4}),
    "one resolution": ("convnext_isotropic_small", {"depths": (3,), "dims": (16,), "num_classes": 5}),
}


def made(form: str, maps: ModelOptions | None = None) -> Backbone:
    name, options = FORMS[form]
    torch.manual_seed(0)
    model = backbone_of(create_model(name, **options | (maps or {}))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


def pictures(model: Backbone) -> torch.Tensor:
    return torch.randn(2, model.in_chans, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_size_has_maps_logits_and_groups_that_fit_each_other(name: str) -> None:
    with torch.device("meta"):
        model = backbone_of(create_model(name, num_classes=7))
        x = torch.zeros(2, 3, 64, 64)
        maps, logits = model.features(x), model(x)
    assert logits.shape == (2, 7)
    shapes = [
        (2, width, 64 // stride, 64 // stride) for width, stride in zip(model.channels, model.strides, strict=True)
    ]
    assert [tuple(one.shape) for one in maps] == shapes
    assert model.variant == name
    for rule in ("layer", "stage"):
        groups = [model.layer_id(parameter, rule) for parameter, _ in model.named_parameters()]
        assert min(groups) == 0
        assert max(groups) <= model.num_layer_ids - 1
    assert model.layer_id("head.weight") == model.num_layer_ids - 1


def test_every_size_is_listed() -> None:
    assert list_models() == list(VARIANTS)


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_those_of_the_last_map(form: str) -> None:
    model = made(form)
    x = pictures(model)
    with torch.no_grad():
        last = model.forward_features(x)
        torch.testing.assert_close(model.forward_head(last), model(x))
        assert torch.equal(model.features(x)[-1], last)
        torch.testing.assert_close(model(x)[:1], model(x[:1]), rtol=1e-4, atol=1e-5)  # no picture sees another


@pytest.mark.parametrize("form", FORMS)
def test_recomputed_activations_change_neither_loss_nor_gradients(form: str) -> None:
    plain, saving = made(form).train(), made(form).train()
    saving.set_grad_checkpointing(True)
    for model in (plain, saving):
        model(pictures(model)).square().sum().backward()
    for (name, one), (_, other) in zip(plain.named_parameters(), saving.named_parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad, msg=name)


@pytest.mark.parametrize("maps", [{}, {"features_only": True}, {"out_norms": True}], ids=["logits", "maps", "normed"])
@pytest.mark.parametrize("form", FORMS)
def test_a_file_holds_the_network(form: str, maps: ModelOptions, tmp_path: Path) -> None:
    model = made(form, maps)
    again = backbone_of(from_pretrained(save_weights(model, tmp_path / "model.safetensors")))
    x = pictures(model)
    with torch.no_grad():
        ours, theirs = model(x), again(x)
    for one, other in zip(
        *((each,) if isinstance(each, torch.Tensor) else each for each in (ours, theirs)), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("form", FORMS)
def test_another_head_leaves_the_rest(form: str) -> None:
    model = made(form)
    before = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("head.")}
    model.reset_classifier(9)
    assert instance_of(nn.Linear, model.head).out_features == model.num_classes == 9
    assert model(pictures(model)).shape == (2, 9)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
