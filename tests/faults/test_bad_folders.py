"""Folders that cannot be learnt from stop with one sentence; odd but sound ones are read whole, and never hang."""

import contextlib
import os
import subprocess
import sys
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.api import check
from convnext.classification.data import open_data
from convnext.data.folders import entries
from convnext.data.source import cached
from convnext.data.splits import fingerprint
from convnext.errors import UserError

pytestmark = pytest.mark.fault


def save(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    with path.open("wb") as handle:
        Image.fromarray(pixels).save(handle, "PNG")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two classes of three pictures, not split."""
    for label, name in enumerate(("a", "b")):
        for i in range(3):
            save(tmp_path / "data" / name / f"{i}.png", 10 * label + i)
    return tmp_path / "data"


def refused(where: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        open_data(where)
    assert "\n" not in str(caught.value)
    assert str(where) in str(caught.value)


def found_in(where: Path) -> set[str]:
    splits = open_data(where)
    return {*splits.train.ids, *splits.val.ids}


def test_no_such_folder_or_a_file(two: Path) -> None:
    refused(two / "none", "there is no folder .*digits, cifar10")
    refused(two / "a" / "0.png", "not a folder")
    with zipfile.ZipFile(two.parent / "data.zip", "w") as archive:
        archive.write(two / "a" / "0.png")
    refused(two.parent / "data.zip", "unpack an archive first")


def test_no_images_or_no_classes(two: Path) -> None:
    refused(two / "a", "no class folders")
    (two.parent / "bare" / "x").mkdir(parents=True)
    (two.parent / "bare" / "y").mkdir(parents=True)
    refused(two.parent / "bare", "holds no images")


def test_one_class_and_an_empty_class_are_named(two: Path) -> None:
    (two / "c").mkdir()
    (two / "c" / "readme.txt").write_text("later")
    refused(two, "no images in the class 'c'")
    for path in (two / "b").iterdir():
        path.unlink()
    (two / "b").rmdir()
    (two / "c" / "readme.txt").unlink()
    (two / "c").rmdir()
    refused(two, "only one class, 'a'")


def test_one_image_a_class_cannot_be_split(tmp_path: Path) -> None:
    for i, name in enumerate("abc"):
        save(tmp_path / name / "0.png", i)
    refused(tmp_path, "nothing can be held out")


def test_splits_that_disagree_or_lack_their_other_half(two: Path) -> None:
    root = two.parent
    two.rename(root / "train")
    for i, name in enumerate(("a", "c", "d")):
        save(root / "val" / name / "0.png", 50 + i)
    refused(root, "'b' only in train; 'c', 'd' only in val")
    (root / "train").rename(root / "other")
    refused(root, "a val folder but no train folder")


@pytest.mark.parametrize("fraction", [1.0, -1.0, 7.0])
def test_a_share_that_is_none(fraction: float, two: Path) -> None:
    with pytest.raises(UserError, match=r"at least 0 .* and below 1"):
        open_data(two, val_fraction=fraction)


def test_a_pipe_in_the_folder_is_named_and_never_opened(two: Path) -> None:
    os.mkfifo(two / "a" / "pipe.jpg")
    code = "import sys; from convnext.classification.data import open_data; open_data(sys.argv[1])"
    run = subprocess.run([sys.executable, "-c", code, str(two)], capture_output=True, text=True, timeout=60)
    assert "pipe.jpg is not a regular file" in run.stderr
    report = check(two)
    assert [(p.kind, p.path) for p in report.problems] == [("not regular", "a/pipe.jpg")]


def test_a_dangling_link_is_named(two: Path) -> None:
    (two / "a" / "gone.png").symlink_to(two / "nowhere.png")
    refused(two, r"a/gone\.png cannot be opened")
    assert [(p.kind, p.path) for p in check(two).problems] == [("missing", "a/gone.png")]


def test_links_that_lead_back_are_not_followed_and_others_once(two: Path) -> None:
    before = found_in(two)
    (two / "a" / "self").symlink_to(two / "a")
    (two / "a" / "up").symlink_to(two)
    (two / "a" / "round").symlink_to(two / "a" / "round")
    (two / "a" / "deep").mkdir()
    (two / "a" / "deep" / "back").symlink_to(two / "a")
    save(two.parent / "store" / "x.png", 99)
    (two / "a" / "linked").symlink_to(two.parent / "store")
    (two / "a" / "linked2").symlink_to(two.parent / "store")
    assert found_in(two) == {*before, "a/linked/x.png"}
    assert check(two).total == 7


def test_a_class_folder_or_picture_may_be_a_link(two: Path) -> None:
    save(two.parent / "store" / "x.png", 99)
    save(two.parent / "store" / "y.png", 98)
    (two / "c").symlink_to(two.parent / "store")
    (two / "a" / "z.png").symlink_to(two.parent / "store" / "x.png")
    (two.parent / "store" / "up").symlink_to(two)
    assert {name for name in found_in(two) if not name.startswith("b/")} == {
        "a/0.png",
        "a/1.png",
        "a/2.png",
        "a/z.png",
        "c/x.png",
        "c/y.png",
    }


def test_a_folder_named_like_a_picture_is_a_folder(two: Path) -> None:
    save(two / "a" / "folder.jpg" / "inner.png", 77)
    assert "a/folder.jpg/inner.png" in found_in(two)


NAMES = [b"with space.png", "päckchen 画像.png".encode(), b"line\nbreak.png", b"-rf.png", b"\xff\xfe.png",
         b"'quote\".png", b"back\\slash.png", b"x" * 251 + b".png", b"UPPER.PNG", b"two.dots.png"]  # fmt: skip


def test_every_name_is_read_and_told_apart(two: Path) -> None:
    for i, name in enumerate(NAMES):
        save(two / "a" / os.fsdecode(name), 200 + i)
    splits = open_data(two, val_fraction=0.1)
    ids = [*splits.train.ids, *splits.val.ids]
    assert len(set(ids)) == len(ids) == 6 + len(NAMES)
    for text in ids:
        assert text.encode().decode().isprintable()
    for part in (splits.train, splits.val):
        assert [part[i].image.size for i in range(len(part))] == [(8, 8)] * len(part)
        fingerprint(part)
    assert check(two).ok


def test_class_names_may_be_anything_too(tmp_path: Path) -> None:
    for i, name in enumerate(("a b", "画像", "new\nline", os.fsdecode(b"\xe9"))):
        for j in range(2):
            save(tmp_path / name / f"{j}.png", 10 * i + j)
    classes = open_data(tmp_path).train.classes
    assert len(set(classes)) == 4
    assert all(name.isprintable() for name in classes)


def test_bad_pictures_are_named_together_before_training(two: Path) -> None:
    for i in range(5):
        (two / "a" / f"bad{i}.png").write_bytes(b"bad" if i else b"")
    with pytest.raises(UserError) as caught:
        cached(open_data(two, val_fraction=0.01, seed=3).train, 10**8)
    message = str(caught.value)
    assert message.count("bad") >= 3
    assert "more; `convnext check` lists them all" in message
    report = check(two)
    assert {p.kind for p in report.problems} == {"empty", "corrupt"}
    assert len(report.problems) == 5


def test_a_picture_that_goes_bad_later_is_named_when_read(two: Path) -> None:
    source = open_data(two).train
    path = two / source.ids[0]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=source.ids[0]):
        source[0]


def test_check_describes_what_training_refuses(two: Path) -> None:
    whole = (two / "a" / "0.png").read_bytes()
    (two / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (two / "a" / "empty.jpg").touch()
    (two / "a" / "text.jpg").write_text("hello")
    Image.new("1", (15_000, 15_000)).save(two / "a" / "bomb.png")
    report = check(two)
    assert not report.ok
    assert {Path(p.path).name: p.kind for p in report.problems} == {
        "cut.png": "truncated",
        "empty.jpg": "empty",
        "text.jpg": "corrupt",
        "bomb.png": "bomb",
    }


def test_a_folder_that_may_not_be_listed_is_named(two: Path) -> None:
    # Pillow's plug-ins are loaded before the change of user, who may not reach where they are installed.
    code = (
        "import os\nfrom PIL import Image\nImage.init()\n"
        "from convnext.api import check\nfrom convnext.classification.data import open_data\n"
        "from convnext.tasks import all_slices\nlist(all_slices())\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "print([(p.kind, p.path) for p in check('data').problems])\n"
        "try: open_data('data')\nexcept ValueError as error: print(error)\n"
        "try: open_data('closed')\nexcept ValueError as error: print(error)"
    )
    (two / "b").chmod(0)
    (two.parent / "closed" / "a").mkdir(parents=True)
    (two.parent / "closed").chmod(0o644)  # its names can be listed, what they stand for cannot be reached
    two.parent.chmod(0o755)
    try:
        # Run inside the folder: the folders above are closed to others, and not ours to open.
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=two.parent)
    finally:
        (two / "b").chmod(0o755)
        (two.parent / "closed").chmod(0o755)
    found, refusal, closed = run.stdout.splitlines() or [run.stderr] * 3
    assert found == "[('unreadable folder', 'b')]"
    assert refusal.startswith("cannot read the folder data/b (Permission denied)")
    assert closed.startswith("cannot read the folder ")
    assert "closed/a (Permission denied)" in closed


def test_walking_is_lazy_about_contents(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    for i in range(3000):
        (tmp_path / "c" / f"{i}.jpg").touch()
    assert sum(entry.is_image and entry.regular for entry in entries(tmp_path, "c")) == 3000


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenette"])
def test_a_download_without_a_network_says_where_the_files_belong(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setenv("CONVNEXT_HOME", str(tmp_path / "home"))
    with pytest.raises(UserError, match=f"cannot get {name} .*no route to host.*connect to the network") as caught:
        open_data(name)
    assert str(tmp_path / "home" / "data") in str(caught.value)
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


def test_a_damaged_cifar_folder_is_not_unpickled(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    evil = b"cposix\nmkdir\n(S'" + os.fsencode(tmp_path / "hacked") + b"'\ntR."
    for batch in (
        "data_batch_1",
        "data_batch_2",
        "data_batch_3",
        "data_batch_4",
        "data_batch_5",
        "test_batch",
        "batches.meta",
    ):
        (folder / batch).write_bytes(evil)
    refused(tmp_path, "cannot get cifar10")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_test": None}, "lacks the arrays 'x_test'"),
        ({"x_train": np.zeros((4, 8, 8, 3), np.float32)}, "x_train is float32"),
        ({"x_train": np.zeros((4, 8, 8, 4), np.uint8)}, r"expected uint8 \(N, H, W\)"),
        ({"x_train": np.zeros((3, 8, 8), np.uint8)}, "whole number for each of the 3 images"),
        ({"y_train": np.array([0.5, 1, 0, 1])}, "whole number"),
        ({"y_train": np.array([0, 1, -1, 0])}, "class indices from 0 to 1"),
        ({"classes": np.array(["only"])}, "class indices from 0 to 0"),
        ({"y_test": np.array([{}, {}], dtype=object)}, "without pickled objects"),
    ],
)
def test_a_file_of_arrays_that_does_not_fit(change: dict[str, np.ndarray | None], message: str, tmp_path: Path) -> None:
    images = np.zeros((4, 8, 8, 3), np.uint8)
    arrays = {"x_train": images, "y_train": np.array([0, 1, 0, 1]), "x_test": images[:2], "y_test": np.array([0, 1])}
    path = tmp_path / "set.npz"
    kept = {name: array for name, array in (arrays | change).items() if array is not None}
    np.savez(path, allow_pickle=True, **kept)
    refused(path, message)


def test_a_file_of_arrays_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, x_train=np.zeros((100, 8, 8), np.uint8))
    whole = path.read_bytes()
    for length in (0, 3, 100, len(whole) - 30):
        path.write_bytes(whole[:length])
        refused(path, "cannot be read")


def test_a_table_that_leaves_a_split_empty_or_names_what_is_not_there(two: Path) -> None:
    (two / "labels.csv").write_text("path,labels\na/0.png,x\nb/0.png,y\nb/9.png,y\n")
    refused(two, r"not in .*'b/9\.png'")
    for word, lack in (("train", "validation"), ("val", "training")):
        (two / "labels.csv").write_text(f"path,labels,split\na/0.png,x,{word}\nb/0.png,y,{word}\n")
        refused(two, f"leaves the {lack} split empty")


def test_names_of_built_in_sets_give_way_to_a_folder(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.chdir(two.parent):
        two.rename(two.parent / "digits")
        assert open_data("digits").train.native is None
