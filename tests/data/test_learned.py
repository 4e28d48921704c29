"""What a model learned from is known again, whatever has happened to the folder since."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import MakeDense, MakePictures
from PIL import Image

import convnext
from convnext import api
from convnext.classification.data import open_data, open_for_judging
from convnext.data import learned
from convnext.data.learned import Learned, LearnedBy, learned_from, recognise
from convnext.data.source import cached
from convnext.data.splits import Split
from convnext.detection.data import open_detection, open_detection_for_judging
from convnext.errors import UserError


def picture(seed: int, size: int = 32) -> Image.Image:
    """Soft shapes: unlike noise, they survive a JPEG."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC)


def make_folder(root: Path, counts: dict[str, int], first: int = 0) -> Path:
    seed = first
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture(seed).save(root / name / f"{i:03d}.png")
            seed += 1
    return root


def known_from(root: Path, *, looks: bool = True) -> tuple[Learned, set[str], set[str]]:
    """What a model that learns from `root` keeps, and the names of what it learned from and of what was held out."""
    splits = open_data(root)
    known = learned_from(splits.train, cached(splits.train, 10**9) if looks else None)
    assert known is not None
    return Learned.from_dict(json.loads(json.dumps(known.to_dict()))), set(splits.train.ids), set(splits.val.ids)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data", {"a": 20, "b": 20})


def judged(root: Path, known: Learned, split: Split = "val") -> tuple[set[str], str]:
    source, note = open_for_judging(root, learned=LearnedBy(known, "whatever"), split=split)
    return set(source.ids), note


def test_an_unchanged_folder_is_judged_on_what_was_held_out(folder: Path) -> None:
    known, train, val = known_from(folder)
    assert judged(folder, known)[0] == val
    assert judged(folder, known, split="train")[0] == train
    assert judged(folder, known, split="all")[0] == train | val


def test_pictures_that_were_added_are_judged_and_no_other(folder: Path) -> None:
    known, _, val = known_from(folder)
    picture(999).save(folder / "a" / "new.png")
    found, note = judged(folder, known)
    assert found == val | {"a/new.png"}
    assert "32 others, that it learned from, are left out" in note


def test_one_picture_that_is_gone_shuts_out_no_more_than_one_of_its_like(folder: Path) -> None:
    """Of one camera's pictures many look like any: all new ones were left out as copies of one that is gone."""
    known, train, val = known_from(folder)
    gone = folder / sorted(train)[0]
    pixels = np.asarray(Image.open(gone)).astype(int)
    gone.unlink()
    for i in range(3):
        Image.fromarray((pixels - 2 * i - 2).clip(0, 255).astype(np.uint8)).save(folder / "a" / f"new{i}.png")
    found, note = judged(folder, known)
    assert len(found - val) == 2
    assert "(1 re-encoded since)" in note


def test_pictures_that_were_removed_change_nothing_for_the_others(folder: Path) -> None:
    known, train, val = known_from(folder)
    (folder / sorted(train)[0]).unlink()
    (folder / sorted(val)[0]).unlink()
    found, note = judged(folder, known)
    assert found == val - {sorted(val)[0]}
    assert "1 that it learned from was not found, and whether one of these is a copy" in note
    assert judged(folder, known, split="train")[0] == train - {sorted(train)[0]}


def test_renamed_and_moved_pictures_are_known_by_their_contents(folder: Path) -> None:
    known, train, val = known_from(folder)
    one, other = sorted(train)[:2]
    (folder / one).rename(folder / "a" / "renamed.png")
    (folder / other).rename(folder / "b" / "moved.png")
    found, note = judged(folder, known)
    assert found == val
    assert "2 renamed, moved or copied since" in note


@pytest.mark.parametrize("looks", [True, False])
def test_a_picture_that_was_re_encoded_in_its_place_is_known(folder: Path, looks: bool) -> None:
    known, train, val = known_from(folder, looks=looks)
    for name in sorted(train)[:3]:
        with Image.open(folder / name) as image:
            image.save((folder / name).with_suffix(".jpg"), quality=70)
        (folder / name).unlink()
    found, note = judged(folder, known)
    assert found == val
    assert "3 re-encoded since" in note


def test_a_whole_folder_that_was_re_encoded_is_known_by_its_looks(folder: Path) -> None:
    known, _, val = known_from(folder)
    for path in sorted(folder.rglob("*.png")):
        with Image.open(path) as image:
            image.save(path.with_suffix(".webp"), quality=60)
        path.unlink()
    assert {name.replace(".webp", ".png") for name in judged(folder, known)[0]} == val


def test_what_was_renamed_and_re_encoded_is_known_by_its_look_or_said(folder: Path) -> None:
    for looks in (True, False):
        known, train, val = known_from(folder, looks=looks)
        name = sorted(train)[0]
        with Image.open(folder / name) as image:
            image.save(folder / "a" / "other.jpg", quality=80)
        (folder / name).rename(folder.parent / "kept.png")
        found, note = judged(folder, known)
        if looks:
            assert found == val
        else:
            assert found == val | {"a/other.jpg"}
            assert "1 that it learned from was not found" in note
            assert "renamed and re-encoded cannot be told" in note
        (folder.parent / "kept.png").rename(folder / name)
        (folder / "a" / "other.jpg").unlink()


def test_where_all_is_renamed_resized_and_re_encoded_what_looks_learned_is_left_out(folder: Path) -> None:
    known, train, val = known_from(folder)
    for name in sorted(train | val):
        with Image.open(folder / name) as image:
            image.resize((40, 40)).save(folder / name.replace("/", "/other "), quality=90)
        (folder / name).unlink()
    found, note = judged(folder, known)
    known_still = found & {name.replace("/", "/other ") for name in train}  # resizing has changed their looks too much
    assert len(known_still) < len(train) / 3
    assert f"{len(train | val) - len(found)} others look like pictures that it learned from" in note
    assert "that it learned from were not found" in note


def test_another_folder_with_copies_is_judged_on_the_others(folder: Path, tmp_path: Path) -> None:
    known, train, _ = known_from(folder)
    other = make_folder(tmp_path / "other", {"a": 4, "b": 4}, first=500)
    for i, name in enumerate(sorted(train)[:3]):
        shutil.copy(folder / name, other / "a" / f"copy {i}.png")
    found, note = judged(other, known)
    assert found == {f"{label}/{i:03d}.png" for label in "ab" for i in range(4)}
    assert "3 others, that it learned from" in note


@pytest.mark.parametrize("looks", [True, False])
def test_names_that_agree_by_chance_are_judged(folder: Path, tmp_path: Path, looks: bool) -> None:
    """Two folders of pictures that are numbered from 0 are not one folder."""
    known, _, _ = known_from(folder, looks=looks)
    other = make_folder(tmp_path / "other", {"a": 30, "b": 30}, first=500)
    found, note = judged(other, known)
    assert len(found) == 60
    assert note.startswith(f"all 60 images of {other}")
    assert ("may be copies" in note) == (not looks)


def test_another_file_of_the_same_stem_is_judged(folder: Path) -> None:
    """001.jpg beside a learned 001.png is another picture, unless it looks the same."""
    known, train, val = known_from(folder, looks=False)
    name = sorted(train)[0].replace(".png", ".bmp")
    picture(777).save(folder / name)
    assert judged(folder, known)[0] == val | {name}


def test_moved_from_train_to_val_is_left_out_and_said(tmp_path: Path) -> None:
    root = tmp_path / "data"
    make_folder(root / "train", {"a": 10, "b": 10})
    make_folder(root / "val", {"a": 5, "b": 5}, first=100)
    known, _, val = known_from(root)
    assert judged(root, known)[0] == val
    (root / "train" / "a" / "000.png").rename(root / "val" / "a" / "x.png")
    with Image.open(root / "train" / "b" / "009.png") as image:
        image.save(root / "val" / "b" / "009.jpg", quality=80)
    (root / "train" / "b" / "009.png").unlink()
    found, note = judged(root, known)
    assert found == val
    assert "2 others, that it learned from, are left out (1 renamed, moved or copied since, 1 re-encoded since)" in note
    shutil.rmtree(root / "train")
    assert judged(root, known)[0] == val


def test_nothing_left_is_said(folder: Path, tmp_path: Path) -> None:
    known, train, _ = known_from(folder)
    copies = tmp_path / "copies"
    for name in train:
        (copies / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, copies / name)
    with pytest.raises(UserError, match=r"learned from all 32 images of .*--split train"):
        judged(copies, known)
    assert judged(copies, known, split="train")[0] == train


def test_of_many_pictures_only_the_names_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "CONTENTS_UP_TO", 10)
    monkeypatch.setattr(learned, "LOOKS_UP_TO", 10)
    known, train, val = known_from(folder)
    assert not known.contents.any()
    assert judged(folder, known)[0] == val
    (folder / sorted(train)[0]).rename(folder / "a" / "renamed.png")
    assert "cannot be told" in judged(folder, known)[1]
    monkeypatch.setattr(learned, "NAMES_UP_TO", 10)
    assert learned_from(open_data(folder).train) is None


def test_a_million_names_take_less_than_ten_megabytes() -> None:
    columns = np.zeros((1_281_167, 3), np.uint64)
    columns[:, 0] = np.random.default_rng(0).integers(1, 2**40, len(columns), dtype=np.uint64)
    written = Learned(*columns.T).to_dict()
    assert len(json.dumps(written)) < 9_000_000
    assert len(Learned.from_dict(written)) == len(columns)


@pytest.mark.parametrize("bad", [None, [], {}, {"count": 1}, {"count": 1, "names": "AAAA"}, {"count": 1, "names": 3},
                                 {"count": -1, "names": ""}, {"count": 1, "names": "§"}])  # fmt: skip
def test_a_damaged_list_is_a_value_error(bad: object) -> None:
    with pytest.raises(ValueError, match=r"count|base64|bytes|ASCII"):
        Learned.from_dict(bad)


def test_what_a_model_goes_on_from_is_known_as_well(folder: Path, tmp_path: Path) -> None:
    first, _, _ = known_from(folder)
    second, _, _ = known_from(make_folder(tmp_path / "other", {"a": 10, "b": 10}, first=500))
    both = second.joined(first)
    assert len(both) == len(first) + len(second)
    assert len(both.joined(first)) == len(both)
    assert len(recognise(both, open_data(folder).train).positions) == len(first)


def test_a_model_is_never_judged_on_what_it_learned_from(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """One picture more in the folder, and `evaluate` judged on all of it: 93 % on noise."""
    data = pictures(train=30) / "train"
    model = api.train(data, out=tmp_path / "run", settings=tiny, val_fraction=0.4, report=False).path
    splits = open_data(data, val_fraction=0.4)
    judged_then, learned_then = set(splits.val.ids), set(splits.train.ids)
    Image.effect_noise((16, 16), 90).convert("RGB").save(data / "class 0" / "new.png")
    (data / sorted(learned_then)[0]).rename(data / "class 1" / "moved.png")
    said: list[str] = []
    found = api.evaluate(model, data, precision="fp32", say=said.append)
    assert found["count"] == len(judged_then) + 1
    assert "18 others, that it learned from, are left out (1 renamed, moved or copied since)" in said[0]
    assert api.evaluate(model, data, split="train", precision="fp32")["count"] == len(learned_then)
    again = tiny | {"weights": str(model / "model.safetensors"), "steps": 2}
    other = pictures("other", train=12) / "train"
    for path in other.rglob("*.png"):
        Image.effect_noise((16, 16), 90).convert("RGB").save(path)
    second = api.train(other, "finetune", out=tmp_path / "second", settings=again, report=False).path
    assert (
        api.evaluate(second, data, precision="fp32")["count"] == len(judged_then) + 1
    )  # it knows the first's pictures


def test_a_model_without_the_list_says_that_it_cannot_be_told(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path
) -> None:
    data = pictures(train=30) / "train"
    model = api.train(data, out=tmp_path / "run", settings=tiny, report=False).path / "model.safetensors"
    network = convnext.from_pretrained(model)
    told = json.loads(network.info.metadata["data"])
    del told["pictures"]
    convnext.save_weights(
        network, tmp_path / "old.safetensors", metadata=network.info.metadata | {"data": json.dumps(told)}
    )
    said: list[str] = []
    assert api.evaluate(tmp_path / "old.safetensors", data, precision="fp32", say=said.append)["count"] == 6
    Image.new("RGB", (16, 16)).save(data / "class 0" / "new.png")
    assert api.evaluate(tmp_path / "old.safetensors", data, precision="fp32", say=said.append)["count"] == 31
    assert sum("held out of its training" in one for one in said) == 1
    assert sum("cannot be told" in one for one in said) == 1
    bad = network.info.metadata | {"data": json.dumps(told | {"pictures": {"count": 3, "names": "AAAA"}})}
    convnext.save_weights(network, tmp_path / "bad.safetensors", metadata=bad)
    with pytest.raises(UserError, match="list of the pictures it learned from is damaged"):
        api.evaluate(tmp_path / "bad.safetensors", data, precision="fp32")


def test_annotated_pictures_that_were_learned_from_are_not_judged(annotated: MakeDense) -> None:
    """One annotation file is split by rule; with a picture more, the detector was judged on all of it."""
    root = annotated(train=10)
    file = root / "annotations" / "instances_train2017.json"
    splits = open_detection(file)
    known = learned_from(splits.train)
    assert known is not None
    content = json.loads(file.read_text())
    shutil.copy(root / "val2017" / "000.png", root / "train2017" / "new.png")
    content["images"].append({**content["images"][0], "id": 999, "file_name": "new.png"})
    file.write_text(json.dumps(content))
    source, note = open_detection_for_judging(file, learned=LearnedBy(known))
    assert set(source.ids) == {*splits.val.ids, "new.png"}
    assert "8 others, that it learned from, are left out" in note
    assert set(open_detection_for_judging(file, "train", learned=LearnedBy(known))[0].ids) == set(splits.train.ids)
    assert len(open_detection_for_judging(root, learned=LearnedBy(known))[0]) == 4
