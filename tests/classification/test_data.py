"""What a folder, a table, a file of arrays or a name is turned into."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from narrow import instance_of
from PIL import Image

from convnext.api import check
from convnext.classification.data import open_data, open_for_judging
from convnext.data import source as labelled
from convnext.data.learned import Learned, LearnedBy
from convnext.data.source import ArrayReader, Source, cached, relabelled
from convnext.data.splits import fingerprint
from convnext.errors import UserError
from convnext.tasks.look import look_at


def make_folder(root: Path, counts: dict[str, int], size: tuple[int, int] = (6, 5), start: int = 0) -> Path:
    """`counts` random pictures a class, every one different."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            rng = np.random.default_rng((start, label, i))
            pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def make_arrays(path: Path, **change: np.ndarray) -> Path:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 4, 5, 3), dtype=np.uint8)
    arrays = {
        "x_train": images[:6],
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": images[6:],
        "y_test": np.array([2, 1, 0, 0]),
    }
    np.savez(path, allow_pickle=True, **(arrays | change))
    return path


def pixels(source: Source, index: int) -> np.ndarray:
    return np.asarray(source[index].image)


def test_train_and_val_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", {"b": 3, "a": 2})
    make_folder(tmp_path / "val", {"a": 1, "b": 1}, start=1)
    splits = open_data(tmp_path)
    assert splits.train.classes == splits.val.classes == ("a", "b")
    assert splits.train.labels == (0, 0, 1, 1, 1)
    assert splits.train.ids == ("train/a/0.png", "train/a/1.png", "train/b/0.png", "train/b/1.png", "train/b/2.png")
    assert splits.val.ids == ("val/a/0.png", "val/b/0.png")
    assert (splits.train.typical_size, splits.train.native, splits.train.multi_label) == (5, None, False)
    assert splits.train.class_counts() == [2, 3]
    assert "5 training and 2 validation images in 2 classes" in splits.note
    sample = splits.train[3]
    assert (sample.id, sample.label, sample.image.mode, sample.image.size) == ("train/b/1.png", 1, "RGB", (6, 5))
    with Image.open(tmp_path / "train/b/1.png") as image:
        np.testing.assert_array_equal(np.asarray(sample.image), np.asarray(image))


@pytest.mark.parametrize("val", ["val", "validation", "valid", "Val"])
def test_the_validation_folder_has_several_names(val: str, tmp_path: Path) -> None:
    make_folder(tmp_path / "Train", {"a": 1, "b": 1})
    make_folder(tmp_path / val, {"a": 1, "b": 2})
    assert len(open_data(tmp_path).val) == 3


def test_a_test_split_is_kept_for_the_end(tmp_path: Path) -> None:
    for split, count in (("train", 1), ("val", 2), ("test", 3)):
        make_folder(tmp_path / split, {"a": count, "b": count})
    splits = open_data(tmp_path)
    assert splits.test is not None
    assert (len(splits.train), len(splits.val), len(splits.test)) == (2, 4, 6)
    assert "6 test images judge the published weights once, at the end" in splits.note


def test_without_val_a_share_of_train_is_held_out_and_test_chooses_nothing(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", {"a": 10, "b": 10})
    make_folder(tmp_path / "test", {"b": 3}, start=1)
    assert "the test split is not judged: " in open_data(tmp_path).note
    make_folder(tmp_path / "test", {"a": 3}, start=1)
    splits = open_data(tmp_path)
    assert splits.test is not None
    assert (len(splits.train), len(splits.val), len(splits.test)) == (16, 4, 6)
    assert {name.split("/")[0] for name in splits.train.ids + splits.val.ids} == {"train"}
    make_folder(tmp_path / "test", {"c": 3}, start=1)
    splits = open_data(tmp_path)
    assert splits.test is None
    assert "classes that train does not: 'c'" in splits.note


def test_pictures_of_a_competition_without_labels_stop_no_run(tmp_path: Path) -> None:
    """A flat folder test/ beside train/ was refused, and with it the run."""
    for split in ("train", "val"):
        make_folder(tmp_path / split, {"a": 4, "b": 4})
    make_folder(tmp_path, {"test": 3})
    splits = open_data(tmp_path)
    assert (len(splits.train), len(splits.val), splits.test) == (8, 8, None)
    assert "the test split is not judged: " in splits.note
    with pytest.raises(UserError, match="has no class folders"):
        open_for_judging(tmp_path, split="test")


def test_a_folder_with_an_archive_is_told_to_unpack_it(tmp_path: Path) -> None:
    (tmp_path / "flowers.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"has no class folders; it holds flowers\.zip: unpack it"):
        open_data(tmp_path)


def test_of_nothing_held_out_all_is_learned_from(tmp_path: Path) -> None:
    make_folder(tmp_path, {"a": 3, "b": 1})
    splits = open_data(tmp_path, val_fraction=0)
    assert (len(splits.train), len(splits.val), splits.val.classes) == (4, 0, ("a", "b"))
    assert "the last ones are published" in splits.note


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    make_folder(tmp_path, {"bus": 3, "car": 3, "train": 3})
    assert open_data(tmp_path).train.classes == ("bus", "car", "train")


def test_class_indices_are_those_of_torchvision(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    make_folder(tmp_path, dict.fromkeys(("b", "B", "a 1", "Ä", "10", "9"), 2))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "b" / "deep").mkdir()
    (tmp_path / "b" / "0.png").rename(tmp_path / "b" / "deep" / "x.png")
    (tmp_path / ".hidden").rmdir()
    theirs = ImageFolder(str(tmp_path))
    splits = open_data(tmp_path)
    ours = {i: label for part in (splits.train, splits.val) for i, label in zip(part.ids, part.labels, strict=True)}
    assert list(splits.train.classes) == theirs.classes
    assert ours == {str(Path(path).relative_to(tmp_path)): label for path, label in theirs.samples}


def test_hidden_and_other_files_are_left_out(tmp_path: Path) -> None:
    make_folder(tmp_path, {"a": 2, "b": 2, ".trash": 2})
    for name in (".DS_Store", "._0.png", "Thumbs.db", "notes.txt"):
        (tmp_path / "a" / name).write_bytes(b"x")
    splits = open_data(tmp_path)
    assert splits.train.classes == ("a", "b")
    assert len(splits.train) + len(splits.val) == 4


def test_a_single_folder_is_split_alike_in_each_class(tmp_path: Path) -> None:
    make_folder(tmp_path, {"many": 20, "few": 2, "one": 1})
    splits = open_data(tmp_path, val_fraction=0.25)
    assert dict(zip(splits.val.classes, splits.val.class_counts(), strict=True)) == {"few": 1, "many": 5, "one": 0}
    assert dict(zip(splits.train.classes, splits.train.class_counts(), strict=True)) == {"few": 1, "many": 15, "one": 1}
    assert not set(splits.train.ids) & set(splits.val.ids)
    assert "6 of 23" in splits.note


def test_the_split_follows_from_seed_and_names_alone(tmp_path: Path) -> None:
    one, two = (make_folder(tmp_path / name, {"a": 30, "b": 30}) for name in ("here", "there"))
    assert open_data(one).val.ids == open_data(two).val.ids
    assert open_data(one, seed=1).val.ids != open_data(one).val.ids


def test_an_added_picture_hardly_moves_the_others(tmp_path: Path) -> None:
    make_folder(tmp_path, {"a": 30, "b": 30})
    before = set(open_data(tmp_path).val.ids)
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "new.png")
    after = set(open_data(tmp_path).val.ids)
    assert len((before ^ after) - {"a/new.png"}) <= 1


def test_the_digits_are_built_in() -> None:
    splits = open_data()
    train, val = splits.train, splits.val
    assert (len(train), len(val), train.typical_size, train.native) == (1437, 360, 8, "digits")
    assert train.classes == tuple("0123456789")
    assert not set(train.ids) & set(val.ids)
    assert set(val.class_counts()) <= {35, 36, 37}  # stratified
    assert pixels(train, 0).shape == (8, 8, 3)
    assert max(pixels(train, i).max() for i in range(20)) == 255
    assert open_data("digits").val.ids == val.ids


def test_the_digits_give_the_quoted_reference_figures() -> None:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    splits, data = open_data(), load_digits()
    train, val = ([int(name.split("/")[1]) for name in part.ids] for part in (splits.train, splits.val))
    x, y = data.data / 16, data.target
    assert list(splits.val.labels) == y[val].tolist()
    for index in (0, 100):
        np.testing.assert_array_equal(pixels(splits.val, index)[:, :, 0], np.round(data.images[val[index]] * 255 / 16))
    scores = [
        100 * m.fit(x[train], y[train]).score(x[val], y[val]) for m in (LogisticRegression(max_iter=5000), SVC(C=10))
    ]
    assert scores == pytest.approx([96.7, 99.4], abs=0.3)


def test_a_file_of_arrays(tmp_path: Path) -> None:
    path = make_arrays(tmp_path / "cifar10.npz")
    splits = open_data(path)
    assert (len(splits.train), len(splits.val), splits.train.typical_size) == (6, 4, 4)
    assert splits.train.native == "cifar10"
    assert splits.train.classes == ("0", "1", "2")
    with np.load(path) as arrays:
        np.testing.assert_array_equal(pixels(splits.val, 1), arrays["x_test"][1])
    grey = make_arrays(
        tmp_path / "grey.npz", x_train=np.full((6, 4, 5), 7, np.uint8), classes=np.array(["x", "y", "z"])
    )
    splits = open_data(str(grey))
    assert (splits.train.classes, splits.train.native) == (("x", "y", "z"), None)
    assert (pixels(splits.train, 0) == 7).all()
    assert pixels(splits.train, 0).shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y_train": np.zeros(6, int), "y_test": np.zeros(4, int)}, "y_train has only one class"),
        ({"y_train": np.array(["a", "b"] * 3)}, "y_train must hold a whole number"),
        ({"y_test": np.zeros(3, int)}, "y_test must hold a whole number for each of the 4"),
        ({"y_test": np.array([0, 1, 2, -1])}, "class indices from 0 to 2"),
        ({"classes": np.array(["x", "y"])}, "class indices from 0 to 1"),
        ({"x_train": np.zeros((6, 4, 5, 2), np.uint8)}, "expected uint8"),
        ({"x_test": np.zeros((4, 4, 5))}, "expected uint8"),
    ],
)
def test_arrays_that_do_not_fit_are_explained(change: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        open_data(make_arrays(tmp_path / "odd.npz", **change))


def test_cifar_is_read_where_its_archive_was_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    class Pretended:
        data = np.arange(2 * 32 * 32 * 3, dtype=np.uint8).reshape(2, 32, 32, 3)
        targets = (1, 0)
        classes = ("plane", "car")

        def __init__(self, root: str, train: bool, download: bool) -> None:
            assert (Path(root), download) == (tmp_path.resolve(), False)

    monkeypatch.setattr(datasets, "CIFAR10", Pretended)
    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    for where in (tmp_path.resolve(), batches):
        splits = open_data(where)
        assert splits.train.ids == ("cifar10/train/0", "cifar10/train/1")
        assert splits.val[0].label == 1
        assert splits.train.native == "cifar10"
        np.testing.assert_array_equal(pixels(splits.train, 1), Pretended.data[1])


def test_imagenette_is_shown_under_its_english_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    class Pretended:
        classes = (("tench", "Tinca tinca"), ("church",))

        def __init__(self, root: str, **options: object) -> None:
            make_folder(Path(root) / "imagenette2-160" / "train", {"n01440764": 2, "n03028079": 1})
            make_folder(Path(root) / "imagenette2-160" / "val", {"n01440764": 1, "n03028079": 1})

    monkeypatch.setattr(datasets, "Imagenette", Pretended)
    monkeypatch.setenv("CONVNEXT_HOME", str(tmp_path))
    splits = open_data("imagenette")
    assert splits.train.classes == splits.val.classes == ("tench", "church")
    assert splits.train.ids[0] == "train/n01440764/0.png"
    assert splits.train.native == "imagenette"


def test_several_labels_a_picture_by_table(tmp_path: Path) -> None:
    make_folder(tmp_path, {"pictures": 10})
    rows = [f"pictures/{i}.png,{'cat; dog' if i % 2 else 'dog|bird' if i else ''}" for i in range(10)]
    (tmp_path / "labels.csv").write_text("path,labels\n" + "\n".join(rows))
    for splits in (open_data(tmp_path), open_data(tmp_path, multi_label_csv=tmp_path / "labels.csv")):
        assert splits.train.multi_label
        assert splits.train.classes == ("bird", "cat", "dog")
        assert (len(splits.train), len(splits.val)) == (8, 2)
        label_of = dict(zip(splits.train.ids + splits.val.ids, splits.train.labels + splits.val.labels, strict=True))
        assert label_of["pictures/0.png"] == ()
        assert label_of["pictures/1.png"] == (1, 2)
        assert label_of["pictures/2.png"] == (0, 2)
        assert splits.train[0].image.size == (6, 5)


def test_a_table_that_names_no_pictures_is_not_ours(tmp_path: Path) -> None:
    make_folder(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "labels.csv").write_text("id,breed\n0,tabby\n")
    assert open_data(tmp_path).train.classes == ("a", "b")


def test_a_source_can_be_pickled(tmp_path: Path) -> None:
    for source in (open_data(make_folder(tmp_path, {"a": 3, "b": 3})).train, open_data().val):
        copy = pickle.loads(pickle.dumps(source))
        assert (copy.ids, copy.labels) == (source.ids, source.labels)
        np.testing.assert_array_equal(pixels(copy, 1), pixels(source, 1))


def test_a_subset_keeps_pictures_labels_and_names_together(tmp_path: Path) -> None:
    whole = open_data(make_folder(tmp_path, {"a": 8, "b": 8})).train
    for source in (whole, cached(whole, 10**6)):
        part = source.take([5, 2, 9]).take([2, 0])
        assert part.ids == (source.ids[9], source.ids[5])
        assert part.labels == (source.labels[9], source.labels[5])
        np.testing.assert_array_equal(pixels(part, 0), pixels(source, 9))


def test_pictures_that_fit_are_decoded_once(tmp_path: Path) -> None:
    source = open_data(make_folder(tmp_path, {"a": 5, "b": 5})).train
    needed = 8 * 6 * 5 * 3
    assert cached(source, needed - 1) is source
    kept = cached(source, needed)
    assert isinstance(kept.read, ArrayReader)
    assert cached(kept, 0) is kept
    expected = [pixels(source, i) for i in range(len(source))]
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    for i, array in enumerate(expected):
        np.testing.assert_array_equal(pixels(kept, i), array)
    assert (kept.ids, kept.labels) == (source.ids, source.labels)


def test_the_fingerprint_changes_with_names_labels_and_classes_only(tmp_path: Path) -> None:
    source = open_data(make_folder(tmp_path, {"a": 3, "b": 3})).train
    base = fingerprint(source)
    assert fingerprint(source.take(range(len(source))[::-1])) == base
    assert fingerprint(cached(source, 10**6)) == base
    assert fingerprint(source.take([0, 1])) != base
    assert fingerprint(relabelled(source, ("b", "a"))) != base
    assert fingerprint(relabelled(source, ("a", "b", "c"))) != base


def test_labels_follow_the_names_of_a_checkpoint(tmp_path: Path) -> None:
    source = open_data(make_folder(tmp_path, {"a": 3, "b": 3})).train
    moved = relabelled(source, ("x", "b", "a"))
    before, after = ([one.classes[instance_of(int, label)] for label in one.labels] for one in (source, moved))
    assert after == before
    assert relabelled(source, None) is source
    assert relabelled(source, ["a", "b"]) is source
    with pytest.raises(UserError, match="does not know the class 'b'"):
        relabelled(source, ("a", "c"))


def test_the_typical_size_is_the_median_short_side(tmp_path: Path) -> None:
    for i, size in enumerate([(10, 40), (50, 20), (30, 30)]):
        Image.new("RGB", size).save(tmp_path / f"{i}.png")
    (tmp_path / "bad.png").write_bytes(b"bad")
    assert labelled.typical_size(tmp_path, ("0.png", "1.png", "2.png", "bad.png")) == 20
    assert labelled.typical_size(tmp_path, ("bad.png",)) == 0


@pytest.mark.parametrize("name", ["labels.csv", "other.csv"])
def test_a_table_with_one_class_a_picture_makes_an_ordinary_classifier(name: str, tmp_path: Path) -> None:
    rows = []
    for i in range(20):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / "images" / f"p{i}.png")
        rows.append(f"p{i},{'ab'[i % 4 == 0]}")
    (tmp_path / name).write_text("\n".join(["id,kind", *rows]))
    csv = None if name == "labels.csv" else tmp_path / name
    splits = open_data(tmp_path, multi_label_csv=csv)
    assert not splits.train.multi_label
    assert splits.train.classes == ("a", "b")
    assert (splits.train.class_counts(), splits.val.class_counts()) == ([12, 4], [3, 1])
    assert "no split column, so 4 of 20 images are held out, alike in each of 2 classes" in splits.note
    assert "column 'id' names the pictures, 'kind' the one class of each; 20 were found by their names" in splits.note
    report = check(tmp_path, labels=csv)
    assert report.ok, report
    assert report.counts == {"all": {"a": 15, "b": 5}}
    split = [f"{row},{'train' if i else 'val'}" for i, row in enumerate(rows)]
    (tmp_path / name).write_text("\n".join(["id,kind,split", *split]))
    splits = open_data(tmp_path, multi_label_csv=csv)
    assert (len(splits.train), splits.val.ids) == (19, ("images/p0.png",))


@pytest.mark.parametrize("layout", ["classes", "lone", "train and val", "table"])
def test_a_test_split_that_is_not_there_is_not_judged(layout: str, tmp_path: Path) -> None:
    if layout in ("classes", "table"):
        make_folder(tmp_path, {"a": 3, "b": 3})
    for split in {"lone": ["val"], "train and val": ["train", "val"]}.get(layout, []):
        make_folder(tmp_path / split, {"a": 3, "b": 3}, start=split == "val")
    if layout == "table":
        (tmp_path / "labels.csv").write_text("path,label\na/0.png,a\na/1.png,a\nb/0.png,b\nb/1.png,b\n")
    none = np.zeros(0, np.uint64)
    known = Learned(none, none, none) if layout == "table" else None
    with pytest.raises(UserError, match="has no test split"):
        open_for_judging(tmp_path, split="test", learned=LearnedBy(known))


def test_a_judged_split_is_named_and_nothing_else_said(tmp_path: Path) -> None:
    for i, split in enumerate(("train", "val", "test")):
        make_folder(tmp_path / split, {"a": 2, "b": 2}, start=i)
    _, note = open_for_judging(tmp_path)
    assert note == f"the 4 images of the val split of {tmp_path}"


def test_of_train_alone_a_share_is_held_out(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", {"a": 10, "b": 10})
    splits = open_data(tmp_path)
    assert (len(splits.train), len(splits.val), splits.test) == (16, 4, None)
    assert "no val folder, so 4 of 20 images are held out, alike in each of 2 classes" in splits.note
    assert "train holds a folder for each class" in look_at(tmp_path).why
    assert (
        open_for_judging(tmp_path)[1]
        == f"the 4 images of {tmp_path}/train that training holds out, as there is no val folder"
    )
    with pytest.raises(UserError, match="no test split; choose --split val or --split train"):
        open_for_judging(tmp_path, split="test")
    assert check(tmp_path).ok
    make_folder(tmp_path / "test", {"a": 2, "b": 2}, start=1)
    assert "train and test hold a folder for each class" in look_at(tmp_path).why


def test_the_note_says_what_is_not_held_out_as_asked_for(tmp_path: Path) -> None:
    make_folder(tmp_path / "single", {"a": 20, "b": 20, "c": 1})
    assert (
        "8 of 41 images are held out, alike in 2 of 3 classes: 'c' has one image, which is learned from and not judged"
        in (open_data(tmp_path / "single").note)
    )
    make_folder(tmp_path / "pairs", {"a": 2, "b": 2, "c": 2})
    assert "(50 % where 20 % was asked for: every class gives at least one" in open_data(tmp_path / "pairs").note
    assert "(33.3 %" not in open_data(tmp_path / "pairs", val_fraction=0.5).note
    make_folder(tmp_path / "many", {"a": 20, "b": 20})
    assert "(5 % where 0.1 % was asked for" in open_data(tmp_path / "many", val_fraction=0.001).note
    assert "asked" not in open_data(tmp_path / "many").note
