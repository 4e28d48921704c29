"""UPerNet beside transformers' and segmentation_models.pytorch's: a training step, an image labelled, peak memory.

All have the same ConvNeXt, width, classes and image; transformers' has an auxiliary head as ours, the other has none,
and then ours has none. They are timed in turn; memory is the growth of a process of its own over what it had after
importing and building. Results go to benchmarks/results.

    pip install transformers segmentation-models-pytorch timm
    python benchmarks/segmentation.py [--model convnext_tiny] [--height 256] [--width 384] [--n 5]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from side_by_side import compared
from torch import Tensor, nn

import convnext
from convnext.catalog.variants import VARIANTS
from convnext.models.convnext import Backbone
from convnext.segmentation.loss import pixel_cross_entropy
from convnext.segmentation.model import build_segmenter
from convnext.training import runtime

CLASSES, WIDTH, BATCH = 150, 512, 2
AUXILIARY = 0.4
RESULTS = Path(__file__).parent / "results"
PEERS = {"transformers": True, "smp": False}  # whether it has an auxiliary head
ACTS = ("learn", "label")


def ours(model: str, auxiliary: bool) -> nn.Module:
    body = convnext.create_model(model, out_norms=True)
    assert isinstance(body, Backbone)
    return build_segmenter(body, CLASSES, WIDTH, auxiliary)


def transformers_model(model: str) -> nn.Module:
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    arch = VARIANTS[model]
    body: dict[str, Any] = {"depths": list(arch.depths), "hidden_sizes": list(arch.dims)}
    body["out_features"] = ["stage1", "stage2", "stage3", "stage4"]
    heads: dict[str, Any] = {"hidden_size": WIDTH, "num_labels": CLASSES, "auxiliary_in_channels": arch.dims[2]}
    return UperNetForSemanticSegmentation(UperNetConfig(backbone_config=ConvNextConfig(**body), **heads))


def smp_model(model: str) -> nn.Module:
    import segmentation_models_pytorch

    return segmentation_models_pytorch.UPerNet(
        f"tu-{model}", encoder_weights=None, decoder_channels=WIDTH, classes=CLASSES
    )


def build(name: str, model: str, auxiliary: bool) -> nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = {"transformers": transformers_model, "smp": smp_model}
        network = ours(model, auxiliary) if name == "convnext" else made[name](model)
    return network.to(runtime.default_device()).to(memory_format=torch.channels_last)


def act(what: str, name: str, network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """One training step's losses and gradients, or one image labelled."""
    if what == "label":
        with torch.inference_mode():
            found = network.eval()(images[:1])
            (found.logits if name == "transformers" else found).argmax(1)
        return
    network.train()
    if name == "transformers":
        loss = network(images, labels=labels).loss
    elif name == "smp":
        loss = nn.functional.cross_entropy(network(images), labels)
    else:
        main, auxiliary = network(images, coarse=True)
        loss = pixel_cross_entropy(main, labels)
        if auxiliary is not None:
            loss = loss + AUXILIARY * pixel_cross_entropy(auxiliary, labels)
    loss.backward()
    network.zero_grad(set_to_none=True)


def data(height: int, width: int) -> tuple[Tensor, Tensor]:
    device = runtime.default_device()
    images = torch.randn(BATCH, 3, height, width, device=device).to(memory_format=torch.channels_last)
    return images, torch.randint(0, CLASSES, (BATCH, height, width), device=device)


def memory(what: str, name: str, options: argparse.Namespace) -> None:
    """Prints the growth of this process in MiB while it does `what` (on a GPU: of the memory there)."""
    network, (images, labels) = build(name, options.model, options.auxiliary), data(options.height, options.width)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of importing and building
    before = resident("VmRSS")
    for _ in range(2):
        act(what, name, network, images, labels)
    grown = resident("VmHWM") - before
    print(torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else grown)


def resident(what: str) -> float:
    """MiB of this process, now ("VmRSS") or at most ("VmHWM"); Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def measured_memory(what: str, name: str, auxiliary: bool, options: argparse.Namespace) -> list[float]:
    """MiB of three processes of their own, rising."""
    command = [
        sys.executable,
        __file__,
        "--memory",
        what,
        "--of",
        name,
        "--model",
        options.model,
        "--height",
        str(options.height),
        "--width",
        str(options.width),
    ]
    command += ["--auxiliary"] * auxiliary
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]
    return sorted(round(float(done.stdout.splitlines()[-1]), 1) for done in runs)


def cases(peer: str, auxiliary: bool, options: argparse.Namespace) -> dict[str, dict[str, Callable[[], Any]]]:
    networks = {name: build(name, options.model, auxiliary) for name in ("convnext", peer)}
    images, labels = data(options.height, options.width)
    return {
        what: {name: partial(act, what, name, network, images, labels) for name, network in networks.items()}
        for what in ACTS
    }


def loss_cases(height: int, width: int) -> dict[str, Callable[[], Any]]:
    """Loss and gradient of logits at a quarter of the sides: in bands, and interpolated to every pixel first."""
    device = runtime.default_device()
    logits = torch.randn(BATCH, CLASSES, height // 4, width // 4, device=device).to(memory_format=torch.channels_last)
    logits, (_, labels) = logits.requires_grad_(), data(height, width)

    def interpolated_first() -> None:
        whole = nn.functional.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
        torch.autograd.grad(nn.functional.cross_entropy(whole.float(), labels), logits)

    return {
        "convnext": lambda: torch.autograd.grad(pixel_cross_entropy(logits, labels), logits),
        "interpolated first": interpolated_first,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="convnext_tiny")
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--n", type=int, default=5)
    parser.add_argument("--memory", choices=ACTS, help=argparse.SUPPRESS)
    parser.add_argument("--of", help=argparse.SUPPRESS)
    parser.add_argument("--auxiliary", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        memory(options.memory, options.of, options)
        return
    device = runtime.default_device()
    found = compared(loss_cases(options.height, options.width), options.n, device)
    rows: list[dict[str, Any]] = [
        {"peer": "plain PyTorch", "what": "loss and its gradient", "precision": "fp32", **found}
    ]
    print(rows[-1], flush=True)
    for peer, auxiliary in PEERS.items():
        for what, acts in cases(peer, auxiliary, options).items():
            for precision in ("fp32", "bf16"):
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                    found = compared(acts, options.n, device)
                rows.append({"peer": peer, "what": what, "precision": precision, **found})
                print(rows[-1], flush=True)
            held = {f"{name}_mib": measured_memory(what, name, auxiliary, options) for name in acts}
            rows.append({"peer": peer, "what": f"{what}: peak memory", "precision": "fp32", **held})
            print(rows[-1], flush=True)
    shape = {"model": options.model, "height": options.height, "width": options.width, "batch": BATCH}
    path = RESULTS / f"segmentation-{options.model.removeprefix('convnext_')}.json"
    path.write_text(json.dumps({"machine": runtime.describe(), "load": shape, "rows": rows}, indent=2) + "\n")
    print(f"ratio: the other's time over ours, pair by pair; written to {path}")


if __name__ == "__main__":
    main()
