"""Making models by name, from files that describe themselves, from released names and the hub; and the baselines."""

import json
import re
from pathlib import Path
from typing import Unpack

import pytest
import torch
import torchvision
from narrow import backbone_of, instance_of, not_none
from small_models import SMALL, ModelOptions, Weights, prefixed, same, small, state
from torch import nn

import convnext
from convnext import create_model, from_pretrained, list_models, load_weights, save_weights
from convnext.catalog.variants import VARIANTS
from convnext.errors import UserError
from convnext.pretrained import model_for
from convnext.weights.checkpoint import TAGS, find, load_checkpoint_metadata
from convnext.weights.info import info_of
from convnext.weights.keymaps import from_official


def test_the_family_is_listed_and_made() -> None:
    assert list_models() == list(VARIANTS)
    with torch.device("meta"):
        for name in list_models():
            assert create_model(name).variant == name
            assert getattr(convnext, name)(num_classes=3).head.out_features == 3
    text = Path(convnext.__file__).read_text()
    assert re.findall(r"^    (convnext_\w+): _Function$", text, re.MULTILINE) == list(VARIANTS)  # what editors are told


def test_official_functions_take_the_official_arguments() -> None:
    with torch.device("meta"):
        whole = convnext.convnext_tiny(pretrained=False, in_22k=True)
        assert instance_of(nn.Linear, whole.head).out_features == 21841
        shallow = convnext.convnext_tiny(depths=[1, 1, 1, 1], drop_path_rate=0.1, head_init_scale=0.5)
        assert shallow.depths == (1, 1, 1, 1)


@pytest.mark.parametrize("name", ["convnext_tiny.fb_in22k_ft_in1k_384", "facebook/convnext-tiny-224", "tiny"])
def test_a_spelling_says_the_architecture(name: str) -> None:
    with torch.device("meta"):
        assert create_model(name).arch == VARIANTS["convnext_tiny"]


def test_isotropic_models_keep_their_own_stem() -> None:
    with torch.device("meta"):
        for patch, kernel in ((4, 16), (8, 8)):
            model = create_model("convnext_isotropic_small", patch_size=patch)
            assert model.get_parameter("stem.weight").shape == (384, 3, kernel, kernel)


def test_our_file_describes_itself(tmp_path: Path) -> None:
    model = small(drop_path_rate=0.2, in_chans=1, patch_size=2)
    preprocess = {"size": 28, "mode": "whole", "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3}
    written = {"classes": json.dumps(["a", "ü", "c", "d", "e"]), "preprocess": json.dumps(preprocess), "which": "ema"}
    path = save_weights(model, tmp_path / "model.safetensors", metadata=written)
    metadata = load_checkpoint_metadata(path)
    assert metadata["format"] == "convnext/1"
    assert metadata["variant"] == "custom"
    assert metadata["which"] == "ema"
    assert json.loads(metadata["arch"])["dims"] == [8, 16, 24, 32]
    back = from_pretrained(path)
    assert not back.training
    assert back.info.classes == ["a", "ü", "c", "d", "e"]
    assert back.info.preprocess == preprocess
    assert back.arch == model.arch
    assert same(back, dict(model.state_dict()))
    again = load_checkpoint_metadata(save_weights(back, tmp_path / "again.safetensors"))
    assert {key: again[key] for key in ("arch", "classes", "preprocess")} == {
        key: metadata[key] for key in ("arch", "classes", "preprocess")
    }


@pytest.mark.parametrize("naming", ["official", "timm", "torchvision", "transformers", "mmpretrain"])
def test_a_file_without_metadata_is_read_from_its_shapes(naming: str, tmp_path: Path) -> None:
    model = small(num_classes=4, patch_size=2)
    torch.save({"model": from_official(model.state_dict(), naming, model.arch, dense=False)}, tmp_path / "plain.pth")
    back = from_pretrained(tmp_path / "plain.pth")
    assert back.arch == model.arch
    assert (back.num_classes, back.info.classes) == (4, None)
    assert (back.info.preprocess["size"], back.info.preprocess["mode"]) == (224, "crop")
    assert same(back, dict(model.state_dict()))


@pytest.mark.parametrize(
    "options", [{"out_norms": True}, {"out_norms": True, "out_indices": (1, 3)}, {"features_only": True}]
)
def test_dense_files_come_back_dense(options: ModelOptions, tmp_path: Path) -> None:
    model = small(**options)
    torch.save({"state_dict": prefixed(dict(model.state_dict()), "backbone.")}, tmp_path / "det.pth")
    for path in (tmp_path / "det.pth", save_weights(model, tmp_path / "ours.safetensors")):
        back = from_pretrained(path)
        assert same(back, dict(model.state_dict()))
        assert (backbone_of(back).channels, backbone_of(back).out_norms) == (model.channels, model.out_norms)


def test_an_isotropic_file_is_read_from_its_shapes() -> None:
    with torch.device("meta"):
        model = create_model("convnext_isotropic_base", num_classes=7)
        back = model_for({"model": model.state_dict()})
    assert back.variant == "convnext_isotropic_base"
    assert back.arch == model.arch


def test_model_for_checks_the_name() -> None:
    assert model_for(state()).variant == "custom"
    with pytest.raises(UserError, match="not convnext_tiny"):
        model_for(state(), name="tiny")


def test_create_model_takes_a_path(tmp_path: Path) -> None:
    path = str(save_weights(small(in_chans=1), tmp_path / "model.safetensors"))
    model = backbone_of(create_model(path, drop_path_rate=0.3))
    assert (model.num_classes, model.in_chans, not_none(info_of(model).load_report).head) == (5, 1, "loaded")
    assert same(model, state(in_chans=1))
    fresh = create_model(path, num_classes=9)
    head = instance_of(nn.Linear, fresh.get_submodule("head"))
    assert (head.out_features, not_none(info_of(fresh).load_report).head) == (9, "reinitialised")
    dense = create_model(path, out_norms=True, out_indices=(3,))
    assert dense.channels == (32,)
    assert same(create_model(str(tmp_path)), state(in_chans=1))  # the folder of a run


def test_create_model_takes_weights() -> None:
    model = create_model("convnext_atto", **SMALL, weights=state())
    assert not_none(info_of(model).load_report).ok
    assert same(model, state())


def test_torchvision_baseline_is_rebuilt_from_its_file(tmp_path: Path) -> None:
    model = create_model("torchvision:resnet18", num_classes=4, drop_path_rate=0.1)
    path = save_weights(model, tmp_path / "model.safetensors", metadata={"classes": '["a", "b", "c", "d"]'})
    assert load_checkpoint_metadata(path)["variant"] == "torchvision:resnet18"
    back = from_pretrained(path)
    assert isinstance(back, torchvision.models.ResNet)
    assert back.info.classes == ["a", "b", "c", "d"]
    assert same(back, dict(model.state_dict()))
    assert same(create_model(str(path)), dict(model.state_dict()))
    with pytest.raises(UserError, match=r"missing: layer1\.2\.conv1\.weight"):
        load_weights(create_model("torchvision:resnet34", num_classes=4), path)
    with pytest.raises(UserError, match="ResNet"):
        load_weights(small(), path)
    with pytest.raises(UserError, match="its own library's names"):
        save_weights(model, tmp_path / "other.safetensors", naming="timm")


def test_timm_baseline_takes_channels_and_drop_path(tmp_path: Path) -> None:
    model = create_model("timm:resnet10t", num_classes=4, in_chans=1, drop_path_rate=0.1, drop_rate=0.2)
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 4)
    back = from_pretrained(save_weights(model, tmp_path / "model.safetensors"))
    assert same(back, dict(model.state_dict()))


@pytest.mark.parametrize(("name", "options", "says"), [
    ("torchvision:resnet81", {}, "did you mean"),
    ("timm:resnet1O", {}, "timm has no network"),
    ("torchvision:resnet18", {"drop_rate": 0.1}, "no dropout"),
    ("torchvision:resnet18", {"in_chans": 1}, "3 channels"),
    ("torchvision:resnet18", {"depths": (1, 1, 1, 1)}, "leave out depths"),
    ("torchvision:resnet18", {"patch_size": 2}, "leave out patch_size"),
    ("timm:vgg11", {"drop_path_rate": 0.1}, "set drop_path=0"),
])  # fmt: skip
def test_what_a_baseline_cannot_do_is_refused(name: str, options: ModelOptions, says: str) -> None:
    with pytest.raises(UserError, match=says):
        create_model(name, **options)


def test_a_missing_timm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install convnext\[timm\]"):
        create_model("timm:resnet18")


def released(
    monkeypatch: pytest.MonkeyPatch, cache: Path, variant: str, filename: str, **options: Unpack[ModelOptions]
) -> Weights:
    """Stands in for a download: the file already lies where a finished one would."""
    monkeypatch.setenv("CONVNEXT_HOME", str(cache))
    (cache / "weights").mkdir(parents=True, exist_ok=True)
    weights = dict(create_model(variant, **options).state_dict())
    torch.save({"model": weights}, cache / "weights" / filename)
    return weights


def test_a_released_tag_is_the_file_of_the_models_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    weights = released(monkeypatch, tmp_path, "convnext_tiny", "convnext_tiny_1k_224_ema.pth")
    model = create_model("convnext_tiny", weights="in1k")
    assert same(model, weights)
    assert "licence MIT" in str(info_of(model).load_report)
    assert "convnext_tiny in1k (convnext_tiny_1k_224_ema.pth)" in str(info_of(model).load_report)
    assert same(from_pretrained("convnext_tiny.fb_in1k"), weights)
    with torch.device("meta"):
        base = create_model("convnext_base")
    with pytest.raises(UserError, match="names weights of convnext_tiny, the model is convnext_base"):
        load_weights(base, "convnext_tiny.fb_in1k")


def test_released_weights_carry_their_protocol(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    released(monkeypatch, tmp_path, "convnext_tiny", "convnext_tiny_22k_1k_384.pth")
    model = from_pretrained("convnext_tiny.fb_in22k_ft_in1k_384")
    assert (model.info.preprocess["size"], model.info.preprocess["mode"], model.info.preprocess["interpolation"]) == (
        384,
        "warp",
        "bicubic",
    )
    assert model.info.preprocess["mean"] == (0.485, 0.456, 0.406)
    assert not_none(model.info.classes)[0] == "tench, Tinca tinca"


@pytest.mark.parametrize(("source", "says"), [
    ("in1", "did you mean 'in1k'"),
    ("nothing", "neither a file"),
    ("runs/none/model.safetensors", "there is no file"),
    ("in1k", "no released weights 'in1k' for convnext_atto"),
])  # fmt: skip
def test_a_source_that_does_not_exist_is_explained(source: str, says: str) -> None:
    with torch.device("meta"):
        model = create_model("convnext_atto")
    with pytest.raises(UserError, match=says):
        load_weights(model, source)


def test_a_bare_tag_needs_a_size() -> None:
    assert "in22k" in TAGS
    with pytest.raises(UserError, match="of several sizes"):
        from_pretrained("in22k")


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds none of"):
        load_weights(small(), tmp_path)


class Hub:
    """Stands in for the hub client."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[tuple[str, str]]()

    def __call__(self, repository: str, name: str) -> str:
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        self.asked.append((repository, name))
        if repository == "org/offline":
            raise LocalEntryNotFoundError("no network")
        if repository == "org/broken":
            raise ConnectionError("refused\nmore")
        if not (self.folder / name).exists():
            raise EntryNotFoundError(name)
        return str(self.folder / name)


def test_hub_ids_are_fetched_through_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub)
    torch.save(from_official(state(), "transformers", small().arch, dense=False), tmp_path / "pytorch_model.bin")
    model = small(1)
    assert load_weights(model, "hf:org/name").naming == "transformers"
    assert same(model, state())
    files = ("model.safetensors", "pytorch_model.bin", "config.json", "preprocessor_config.json")
    assert hub.asked == [("org/name", name) for name in files]
    for name in ("timm/convnext_tiny.fb_in1k", "openmmlab/upernet-convnext-tiny"):
        find(name)
        assert hub.asked[-1][0] == name
    for name, says in (("hf:org/offline", "cannot reach the hub"), ("hf:org/broken", r"\(refused\)")):
        with pytest.raises(UserError, match=says):
            load_weights(model, name)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="holds none of"):
        load_weights(model, "facebook/convnext-tiny-224")


def test_a_missing_hub_client_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install convnext\[hub\]"):
        load_weights(small(), "hf:org/name")


def test_channels_last_weights_are_saved_plainly(tmp_path: Path) -> None:
    model = small().to(memory_format=torch.channels_last)
    assert same(from_pretrained(save_weights(model, tmp_path / "model.safetensors")), state())


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet10t"])
def test_a_baselines_checkpoint_starts_one_for_other_classes(name: str, tmp_path: Path) -> None:
    first = create_model(name, num_classes=3)
    save_weights(first, tmp_path / "first.safetensors")
    second = create_model(name, num_classes=5)
    report = load_weights(second, tmp_path / "first.safetensors")
    assert report.head == "reinitialised"
    assert "head for 5 classes kept as it was created: the file's is for 3 classes" in report.notes
    ours, theirs = second.state_dict(), first.state_dict()
    differing = {n for n in ours if ours[n].shape != theirs[n].shape or not torch.equal(ours[n], theirs[n])}
    assert differing == {"fc.weight", "fc.bias"}
    assert load_weights(create_model(name, num_classes=3), tmp_path / "first.safetensors").head == "loaded"
