"""ImageNet's names for checkpoints that carry none."""

from __future__ import annotations

from pathlib import Path

import torch
from fixture_types import MakePictures
from narrow import instance_of, not_none
from small_models import ModelOptions

from convnext import api
from convnext.catalog.class_lists import SYNSET, as_folders_name_them, imagenet1k, names_for
from convnext.pretrained import from_pretrained
from convnext.weights.backbone import create_model

TINY: ModelOptions = {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 16)}


def test_there_are_a_thousand_in_the_order_of_the_released_heads() -> None:
    synsets = [synset for synset, _ in imagenet1k()]
    assert len(synsets) == len(set(synsets)) == 1000
    assert synsets == sorted(synsets)
    assert all(SYNSET.fullmatch(one) for one in synsets)
    assert imagenet1k()[0] == ("n01440764", "tench, Tinca tinca")
    assert imagenet1k()[207] == ("n02099601", "golden retriever")
    assert imagenet1k()[999][0] == "n15075141"


def test_only_a_head_of_a_thousand_is_taken_for_imagenets() -> None:
    assert names_for(10) is None
    assert as_folders_name_them(["a", "b"], ["n01440764"]) == ["a", "b"]
    assert as_folders_name_them(None, ["n01440764"]) is None


def test_bare_weights_predict_names_and_are_judged_on_folders_of_synsets(
    pictures: MakePictures, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    bare = tmp_path / "bare.pth"
    torch.save(create_model("convnext_atto").state_dict(), bare)
    assert not_none(from_pretrained(bare).info.classes)[207] == "golden retriever"
    data = pictures(classes=2, size=32)
    for split in ("train", "val"):
        for i, synset in enumerate(("n02099601", "n15075141")):
            (data / split / f"class {i}").rename(data / split / synset)
    assert api.evaluate(bare, data, precision="fp32")["count"] == 7
    (answer,) = api.predict(bare, [next(data.rglob("*.png"))], top=1)
    assert instance_of(api.Prediction, answer).top[0][0] in {words for _, words in imagenet1k()}
