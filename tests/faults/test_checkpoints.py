"""Checkpoint files that are cut, poisoned, or something else: one sentence each, and nothing half-written."""

import argparse
import json
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow import backbone_of
from torch import nn

from convnext import create_model, from_pretrained, load_weights, save_weights
from convnext.errors import UserError
from convnext.weights.checkpoint import load_checkpoint_metadata

pytestmark = pytest.mark.fault


def small() -> nn.Module:
    torch.manual_seed(0)
    return create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), num_classes=5)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("keep", [0, 5, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(suffix: str, keep: float, tmp_path: Path) -> None:
    path = save_weights(small(), tmp_path / f"model{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(UserError, match=f"model{suffix} is .*(damaged|not a checkpoint)"):
        load_weights(small(), path)
    with pytest.raises(UserError):
        from_pretrained(path)


class Poison:
    """Opens a door when it is unpickled the ordinary way."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_malicious_pickle_is_refused_and_does_not_run(writer: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "model.pth"
    values = {"model": small().state_dict(), "args": Poison(mark)}
    if writer == "torch":
        torch.save(values, path)
    else:
        path.write_bytes(pickle.dumps({"args": Poison(mark)}, protocol=2))
    with pytest.raises(UserError, match=r"asks to run .*system"):
        load_weights(small(), path)
    assert not mark.exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"asks to run convnext.models.convnext.ConvNeXt"):
        load_weights(small(), tmp_path / "model.pth")


def test_arguments_and_numpy_numbers_beside_the_weights_are_harmless(tmp_path: Path) -> None:
    model = small()
    beside = {"args": argparse.Namespace(lr=0.1), "best": np.float64(71.5), "max": np.float32(3), "epoch": np.int64(4)}
    torch.save({"model": model.state_dict()} | beside, tmp_path / "model.pth")
    assert load_weights(small(), tmp_path / "model.pth").ok


@pytest.mark.parametrize(
    "values", [{}, {"model": {}}, {"epoch": 3}, [1, 2], torch.zeros(3), {"model": {"a": 1}}, {"weight": torch.zeros(2)}]
)
def test_a_pickle_without_a_network_is_refused(values: object, tmp_path: Path) -> None:
    torch.save(values, tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"no weights|not a checkpoint|no ConvNeXt"):
        load_weights(small(), tmp_path / "model.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pth.tar", ".bin", ""])
def test_a_file_of_another_kind_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"notes{suffix}"
    path.write_text("Dear diary, today I trained a network.\n" * 20)
    with pytest.raises(UserError, match="notes"):
        load_weights(small(), path)
    with pytest.raises(UserError, match="notes"):
        load_checkpoint_metadata(path)


@pytest.mark.parametrize("arch", ["not json", "[1]", '{"depths": [1]}', '{"depths": 3, "dims": 4}', '"text"', "{}"])
def test_wrong_metadata_is_explained(arch: str, tmp_path: Path) -> None:
    path = save_weights(small(), tmp_path / "model.safetensors", metadata={"arch": arch})
    with pytest.raises(UserError, match=r"model\.safetensors|entries each"):
        from_pretrained(path)


def test_metadata_of_another_network_than_the_weights_is_refused(tmp_path: Path) -> None:
    path = save_weights(small(), tmp_path / "model.safetensors", metadata={"arch": arch_of_another()})
    with pytest.raises(UserError, match="does not fit"):
        from_pretrained(path)


def arch_of_another() -> str:
    other = backbone_of(create_model("convnext_atto", depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), num_classes=5))
    return json.dumps(asdict(other.arch) | {"num_classes": 5, "in_chans": 3})


def test_part_of_a_network_is_refused(tmp_path: Path) -> None:
    weights = {name: value for name, value in small().state_dict().items() if not name.startswith("stages.2")}
    torch.save(weights, tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"lacks stages\.2"):
        from_pretrained(tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"missing: stages.2.0"):
        load_weights(small(), tmp_path / "model.pth")


def test_an_unknown_suffix_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.safetensors or \.pth"):
        save_weights(small(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_weights(small(), tmp_path / "model.safetensors")
    before = path.read_bytes()

    def full(tensors: object, target: Path, metadata: object) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("convnext.weights.checkpoint.save_file", full)
    with pytest.raises(UserError, match="disk is full"):
        save_weights(small(), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_file_is_explained(tmp_path: Path) -> None:
    path = save_weights(small(), tmp_path / "model.safetensors")
    path.chmod(0)
    with pytest.raises(UserError, match="cannot read"):
        load_weights(small(), path)


def test_a_file_is_what_it_holds_and_not_what_it_is_called(tmp_path: Path) -> None:
    model = small()
    ours, pickled = save_weights(model, tmp_path / "a.safetensors"), save_weights(model, tmp_path / "b.pth")
    for path in (ours.rename(tmp_path / "a.pth"), pickled.rename(tmp_path / "b.safetensors")):
        assert from_pretrained(path).num_classes == 5


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(small(), path, metadata={"classes": json.dumps(["cat", "dog", "cat", "owl", "fox"])})
    with pytest.raises(UserError, match="has two classes called 'cat'"):
        from_pretrained(path)
