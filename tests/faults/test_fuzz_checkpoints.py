"""300 damaged or made-up checkpoints: each is refused in a sentence or answers as the sound one; no other exception,
and never more than 2 GB.

The mutants are drawn in a process of their own, whose memory is measured; `python test_fuzz_checkpoints.py` is that
process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeGuard, TypeVar, cast

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import convnext
from convnext.classification.predict import Prediction
from convnext.data.preprocess import Preprocess
from convnext.system.machine import peak_memory
from convnext.training.run_folder import learned_by

pytestmark = pytest.mark.fault

T = TypeVar("T")
MUTANTS, MOST_BYTES = 300, 2 << 30
FIVE = ["crack", "rust", "dent", "weld", "plain"]
ENTRIES = ("arch", "classes", "preprocess", "data", "variant", "category_ids", "mask_coding", "task", "format")
FIELDS = {
    "arch": ("depths", "dims", "patch_size", "isotropic", "layer_scale", "num_classes", "in_chans", "out_norms",
             "features_only", "out_indices"),
    "preprocess": ("size", "mode", "mean", "std", "interpolation", "crop", "halves"),
    "data": ("val_fraction", "learned_from"),
}  # fmt: skip
ODD: list[Any] = [
    None, True, -1, 0, 0.5, 1, 3, 5, 16, 10**6, 10**9, 10**18, 10**400, 1e300, float("nan"), float("inf"), "", "x", "5",
    [], {}, [[1]], [0, 0, 0], [1, 1, 1], [1e-9] * 3, [1, 1, 2, 1], [8, 16, 24, 32], [10**9] * 4, [-1] * 4, ["a"] * 5,
    [1] * 5, {"0": "a"}, "timm:resnet18", "torchvision:none", "roadmap:tiny/99", "convnext_xlarge", "crop",
]  # fmt: skip
TEXTS = ["", "{", "[" * 100_000, "[" * 500 + "]" * 500, "NaN", "9" * 5000, '"\\ud800"', "null"]


class Draw(Protocol):
    """What draws a value of a strategy."""

    def __call__(self, strategy: st.SearchStrategy[T], /) -> T: ...


def sound() -> nn.Module:
    torch.manual_seed(0)
    model = convnext.create_model("convnext_atto", depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), num_classes=5)
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(std=0.3)
    return model


def written(model: nn.Module, path: Path) -> Path:
    said = {
        "classes": json.dumps(FIVE),
        "preprocess": json.dumps(Preprocess.for_size(32).to_dict()),
        "data": json.dumps({"learned_from": "0" * 64, "val_fraction": 0.2}),
        "task": "classify",
    }
    return convnext.save_weights(model, path, metadata=said)


def content_of(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The weights of a file of `written`, and its metadata."""
    from convnext.weights.checkpoint import read

    content, metadata = read(path)
    weights = content.get("model", content)
    assert isinstance(weights, Mapping)
    return dict(weights), metadata


def changed_metadata(draw: Draw, path: Path) -> None:
    from convnext.weights.checkpoint import write

    weights, metadata = content_of(path)
    entry = draw(st.sampled_from(ENTRIES))
    if entry in FIELDS and draw(st.booleans()):
        values = json.loads(metadata[entry])
        values[draw(st.sampled_from(FIELDS[entry]))] = draw(st.sampled_from(ODD))
        metadata[entry] = json.dumps(values)
    elif draw(st.booleans()):
        metadata[entry] = draw(st.sampled_from(TEXTS))
    elif draw(st.booleans()):
        metadata.pop(entry, None)
    else:
        odd = draw(st.sampled_from(ODD))
        metadata[entry] = odd if isinstance(odd, str) else json.dumps(odd)
    write(weights, path, naming="official", metadata=metadata)


def changed_tensors(draw: Draw, path: Path) -> None:
    from convnext.weights.checkpoint import write

    content, metadata = content_of(path)
    weights: dict[str, object] = dict(content)
    names = sorted(weights)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(names))
        names.remove(name)
        value = weights.pop(name)
        make = draw(st.sampled_from(sorted(CHANGES)))
        changed = CHANGES[make](cast(torch.Tensor, value))
        if make == "renamed":
            weights[draw(st.sampled_from([f"module.{name}", f"x.{name}", name + "s", name.replace("0", "7")]))] = value
        elif make == "dropped head":
            weights = {key: kept for key, kept in weights.items() if not key.startswith("head.")}
            names = sorted(weights)
        elif changed is not None:
            weights[name] = changed
    if path.suffix == ".safetensors":
        kept = {key: value.contiguous() for key, value in weights.items() if savable(value)}
        write(kept, path, naming="official", metadata=metadata)
        return
    contents: dict[object, object] = dict(weights.items())
    if draw(st.booleans()):
        contents[draw(st.sampled_from([0, None, (1, 2), 1.5]))] = draw(st.sampled_from([torch.ones(2), "text", None]))
    torch.save({"model": contents, "metadata": metadata}, path)


def quantised(value: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch means to remove them; files that hold them remain
        return torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8)


CHANGES: dict[str, Callable[[torch.Tensor], object]] = {
    "dropped": lambda value: None,
    "dropped head": lambda value: None,
    "renamed": lambda value: None,
    "half": lambda value: value.half(),
    "whole numbers": lambda value: value.round().to(torch.int64),
    "complex": lambda value: value.to(torch.complex64),
    "eight bits": lambda value: value.to(torch.float8_e4m3fn),
    "nan": lambda value: torch.full_like(value, float("nan")),
    "infinite": lambda value: value / 0,
    "huge": lambda value: value * 1e30,
    "a number": lambda value: value.sum(),
    "empty": lambda value: value[:0],
    "flat": lambda value: value.flatten(),
    "one more": lambda value: torch.cat([value, value[:1]]),
    "deeper": lambda value: value[None, None],
    "sparse": lambda value: value.to_sparse(),
    "quantised": lambda value: quantised(value),
    "meta": lambda value: value.to("meta"),
    "text": lambda value: "text",
}


def savable(value: object) -> TypeGuard[torch.Tensor]:
    return (
        isinstance(value, torch.Tensor) and value.layout is torch.strided and not (value.is_quantized or value.is_meta)
    )


def changed_bytes(draw: Draw, path: Path) -> None:
    content = bytearray(path.read_bytes())
    if draw(st.booleans()):
        path.write_bytes(content[: draw(st.integers(0, len(content)))])
        return
    for _ in range(draw(st.integers(1, 4))):
        content[draw(st.integers(0, min(len(content), 3000) - 1))] ^= 1 << draw(st.integers(0, 7))
    path.write_bytes(content)


@st.composite
def mutants(draw: st.DrawFn) -> tuple[str, str]:
    """What is done to a file, and its suffix; the doing draws further."""
    kind = draw(st.sampled_from(["metadata", "metadata", "tensors", "tensors", "bytes"]))
    return kind, draw(st.sampled_from([".safetensors", ".pth"]))


DO = {"metadata": changed_metadata, "tensors": changed_tensors, "bytes": changed_bytes}


def main(count: int) -> None:
    """Draws `count` mutants, uses each, and prints what became of them and the peak memory as JSON."""
    outcomes: Counter[str] = Counter()
    sentences: Counter[str] = Counter()
    folder = Path(tempfile.mkdtemp())
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 36, 3), dtype=np.uint8)).save(folder / "picture.png")
    model = sound()
    [right] = convnext.predict(written(model, folder / "sound.safetensors"), [folder / "picture.png"], precision="fp32")
    assert isinstance(right, Prediction)

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(mutants(), st.data())
    def use(mutant: tuple[str, str], data: st.DataObject) -> None:
        kind, suffix = mutant
        path = written(model, folder / f"mutant{suffix}")
        DO[kind](data.draw, path)
        try:
            loaded = convnext.from_pretrained(path)
            learned_by(loaded)
            [answer] = convnext.predict(path, [folder / "picture.png"], precision="fp32")
            convnext.convert(path, folder / "converted.pth", naming="timm")
        except convnext.UserError as error:
            outcomes[f"{kind} refused"] += 1
            sentences[str(error).replace(str(folder), "")] += 1
            return
        assert answer.error is None
        assert isinstance(answer, Prediction)
        assert all(np.isfinite(share) for _, share in answer.top)
        same_protocol = loaded.info.preprocess == Preprocess.for_size(32).to_dict() or json.loads(
            json.dumps(loaded.info.preprocess)
        ) == json.loads(json.dumps(Preprocess.for_size(32).to_dict()))
        if kind == "metadata" and same_protocol:
            shares = [share for _, share in answer.top]
            assert shares == pytest.approx([share for _, share in right.top], abs=1e-5)
        outcomes[f"{kind} answered"] += 1

    use()
    print(json.dumps({"outcomes": outcomes, "peak": peak_memory(), "sentences": sentences}))


def test_every_mutant_is_refused_in_a_sentence_or_answers_rightly() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", __file__, str(MUTANTS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["peak"] < MOST_BYTES
    assert [text for text in found["sentences"] if not text or "\n" in text or len(text) > 600] == []
    assert sum(found["outcomes"].values()) >= MUTANTS
    assert {f"{kind} refused" for kind in DO} <= found["outcomes"].keys()
    assert {"metadata answered", "tensors answered"} <= found["outcomes"].keys()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else MUTANTS)
