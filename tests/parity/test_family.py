"""The family is the peers' network: same weights through `load_weights`, same logits, same gradients."""

from typing import Any, TypeVar

import pytest
import timm
import torch
import torchvision
from narrow import backbone_of, not_none
from torch import Tensor, nn
from transformers import ConvNextConfig, ConvNextForImageClassification
from transformers.modeling_outputs import ImageClassifierOutput

from convnext import create_model, load_weights
from convnext.catalog.variants import VARIANTS
from convnext.weights.keymaps import from_official, to_official

CLASSES = 10
M = TypeVar("M", bound=nn.Module)


def transformers_config(name: str, classes: int = CLASSES) -> ConvNextConfig:
    arch = VARIANTS[name]
    # Its final norm defaults to 1e-12, unlike the official code and its own other norms.
    options: dict[str, Any] = {"depths": list(arch.depths), "hidden_sizes": list(arch.dims), "num_labels": classes}
    return ConvNextConfig(**options, layer_norm_eps=1e-6)


def make_peer(library: str, name: str, classes: int = CLASSES) -> nn.Module:
    if library == "timm":
        return timm.create_model(name, num_classes=classes)
    if library == "torchvision":
        return torchvision.models.get_model(name, num_classes=classes, stochastic_depth_prob=0.0)
    return ConvNextForImageClassification(transformers_config(name, classes))


def materialised(model: M) -> M:
    """A network made on the meta device, with memory and with nothing at its neutral start.

    Layer scale lies about 0.3, norms and biases away from 1 and 0, and the head tells classes apart. Drawing values
    once here spares the library's own initialisation, which takes longer than the test.
    """
    generator = torch.Generator().manual_seed(3)
    model = model.to_empty(device="cpu")
    for name, value in model.named_parameters():
        if "gamma" in name or "scale" in name:
            nn.init.uniform_(value, 0.2, 0.4, generator=generator)
        elif value.ndim == 1:
            centre = 1.0 if name.endswith("weight") else 0.0
            nn.init.uniform_(value, centre - 0.1, centre + 0.1, generator=generator)
        else:
            spread = 0.1 if value.shape[0] == CLASSES else 0.035
            nn.init.uniform_(value, -spread, spread, generator=generator)
    return model


def logits(output: Tensor | ImageClassifierOutput) -> Tensor:
    return output if isinstance(output, Tensor) else not_none(output.logits)


def relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


def backward(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    x = x.clone().requires_grad_()
    out = logits(model(x))
    (out * torch.linspace(-1, 1, CLASSES)).sum().backward()
    return out.detach(), not_none(x.grad), {name: not_none(p.grad) for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["convnext_tiny", "convnext_base"])
@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers"])
def test_logits_and_gradients_agree(library: str, name: str) -> None:
    with torch.device("meta"):
        peer, ours = make_peer(library, name), create_model(name, num_classes=CLASSES)
    peer, ours = materialised(peer).eval(), ours.to_empty(device="cpu").eval()
    report = load_weights(ours, peer.state_dict())
    assert report.ok
    assert (report.naming, report.head) == (library, "loaded")
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    expected, input_gradient, theirs = backward(peer, x)
    found, our_input_gradient, gradients = backward(ours, x)
    assert expected.std() > 0.1  # inputs and classes are told apart, so equality means something
    assert relative(found, expected) < 1e-5
    assert relative(our_input_gradient, input_gradient) < 1e-4
    theirs = to_official(theirs, "gradients").weights
    assert theirs.keys() == gradients.keys()
    worst = max(relative(gradients[key], theirs[key]) for key in gradients)
    assert worst < 1e-4


def test_features_only_agrees_with_timm() -> None:
    with torch.device("meta"):
        peer = timm.create_model("convnext_atto", features_only=True)
    peer = materialised(peer).eval()
    ours = create_model("convnext_atto", features_only=True).eval()
    assert load_weights(ours, peer.state_dict()).ok
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for found, expected in zip(ours(x), peer(x), strict=True):
            assert relative(found, expected) < 1e-5


def test_out_norms_agree_with_transformers_backbone() -> None:
    from transformers import ConvNextBackbone

    config = transformers_config("convnext_atto")
    config.out_features = ["stage1", "stage2", "stage3", "stage4"]
    with torch.device("meta"):
        peer = ConvNextBackbone(config)
    peer = materialised(peer).eval()
    ours = create_model("convnext_atto", out_norms=True).eval()
    report = load_weights(ours, peer.state_dict())
    assert report.ok
    assert report.naming == "transformers"
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for found, expected in zip(ours(x), peer(x).feature_maps, strict=True):
            assert relative(found, expected) < 1e-5


HIERARCHICAL = [name for name, arch in VARIANTS.items() if not arch.isotropic]
PAIRS = [
    (library, name)
    for library in ("timm", "torchvision", "transformers")
    for name in HIERARCHICAL
    if library != "torchvision" or hasattr(torchvision.models, name)
]


@pytest.mark.parametrize(("library", "name"), PAIRS)
def test_every_size_has_the_peers_names_and_shapes(library: str, name: str) -> None:
    with torch.device("meta"):
        theirs = make_peer(library, name, classes=1000).state_dict()
        ours = backbone_of(create_model(name))
    written = from_official(ours.state_dict(), library, ours.arch, ours.dense)
    assert {k: v.shape for k, v in written.items()} == {k: v.shape for k, v in theirs.items()}
    read = to_official(theirs, "shapes").weights
    assert {k: v.shape for k, v in read.items()} == {k: v.shape for k, v in ours.state_dict().items()}
