"""labels.csv in the forms people write it, and what is said of the others."""

from pathlib import Path

import pytest

from convnext.classification.labels_csv import LabelTable, read_table
from convnext.errors import UserError
from convnext.image_level.table import find_table


def table(folder: Path, text: str | bytes) -> LabelTable:
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path)


def labels_of(read: LabelTable) -> list[list[str]]:
    return [[read.classes[label] for label in labels] for labels in read.labels]


def test_names_between_semicolons_or_bars(tmp_path: Path) -> None:
    read = table(tmp_path, 'path,labels\n"a, b.jpg",cat ; dog\nc.jpg,bird|cat\nd.jpg,\n')
    assert (read.classes, read.paths, read.splits) == (("bird", "cat", "dog"), ("a, b.jpg", "c.jpg", "d.jpg"), None)
    assert labels_of(read) == [["cat", "dog"], ["bird", "cat"], []]
    assert not read.single


def test_one_column_a_class_as_spreadsheets_write_it(tmp_path: Path) -> None:
    text = "\ufeff,path,dog,cat,split\n0,a.jpg,1,0,train\n1,b.jpg,TRUE,1.0,Valid\n2,c.jpg,,0,test\n"
    read = table(tmp_path, text)
    assert (read.classes, read.paths, read.splits) == (
        ("dog", "cat"),
        ("a.jpg", "b.jpg", "c.jpg"),
        ("train", "val", "test"),
    )
    assert labels_of(read) == [["dog"], ["dog", "cat"], []]
    assert read.understood == "column 'path' names the pictures, 2 columns of 0 and 1 their labels"


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ("path,label\na.jpg,cat\nb.jpg,dog\n", "'label' the one class of each"),
        ("Filename,Class,Split\na.jpg,cat,train\nb.jpg,dog,val\n", "'Class' the one class of each"),
        ("id,breed\na.jpg,cat\nb.jpg,dog\n", "'breed' the one class of each"),
        ("filename,width,height,class,xmin\na.jpg,8,8,cat,0\nb.jpg,8,8,dog,0\n",
         "'class' the one class of each ('width', 'height', 'xmin' left out)"),
        ("image;label\na.jpg;cat\nb.jpg;dog\n", "'label' the one class of each"),
        ("image\tlabel\na.jpg\tcat\nb.jpg\tdog\n", "'label' the one class of each"),
    ],
)  # fmt: skip
def test_one_class_a_picture(text: str, understood: str, tmp_path: Path) -> None:
    read = table(tmp_path, text)
    assert read.single
    assert (read.paths, labels_of(read)) == (("a.jpg", "b.jpg"), [["cat"], ["dog"]])
    assert read.understood.endswith(f"names the pictures, {understood}")


def test_one_column_of_numbers_is_one_class_and_numbers_are_in_order(tmp_path: Path) -> None:
    read = table(tmp_path, "id,has_cactus\na.jpg,0\nb.jpg,10\nc.jpg,2\n")
    assert (read.single, read.classes) == (True, ("0", "2", "10"))


def test_a_column_label_with_several_names_in_a_cell_is_of_several_labels(tmp_path: Path) -> None:
    read = table(tmp_path, "path,label\na.jpg,cat;dog\nb.jpg,dog\n")
    assert not read.single
    assert labels_of(read) == [["cat", "dog"], ["dog"]]


def test_suffixes_and_folders_that_are_left_out_are_found_where_one_file_has_the_name(tmp_path: Path) -> None:
    for name in ("train/000bec.jpg", "train/b.png", "c.png", "one/d.png", "two/d.png", ".e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "labels.csv").write_text("id,breed\n000bec,pug\nb.png,pug\nc,cat\nd,cat\n.e,cat\n")
    assert find_table(tmp_path) == tmp_path / "labels.csv"
    read = read_table(tmp_path / "labels.csv", tmp_path)
    assert read.paths == ("train/000bec.jpg", "train/b.png", "c.png", "d", ".e")
    assert "3 were found by their names below" in read.understood


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a header"),
        ("name,labels\na.jpg,cat\n", "needs a header"),
        ("path\na.jpg\n", "needs a header"),
        ("path,labels\n", "no class"),
        ("path,labels\na.jpg,cat\n", "1 class; a classifier needs at least two"),
        ("path,cat,dog\na.jpg,1,0\nb.jpg,0.5,1\n", "row 3 of .*'cat' is '0.5'"),
        ("path,labels,split\na.jpg,cat;dog,vall\n", "row 2 of .*split is 'vall'"),
        ("path,label\na.jpg,cat\nb.jpg,\n", "row 3 of .* has no label"),
        (
            "path,labels\na.jpg,cat\na.jpg,dog\n",
            "lists 'a.jpg' more than once, with different labels in rows 2 and 3; join its labels in one row",
        ),
        ("path,label\na.jpg,cat\na.jpg,dog\nb.jpg,cat\nb.jpg,dog\n", "other pictures; keep one of them"),
        ("path,label,split\na.jpg,cat,val\na.jpg,cat,train\nb.jpg,dog,val\n", "with different splits in rows 2 and 3"),
        ("Datei;Klasse\na.jpg;cat\n", r"its first line has 'Datei', 'Klasse' \(between semicolons\), so call its col"),
        ("path,labels\na.jpg,caf\u00e9;b\n".encode("latin-1"), "cannot be read as a CSV table"),
    ],
)
def test_other_tables_are_refused_with_the_place(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        table(tmp_path, text)
    assert "labels.csv" in str(caught.value)


def test_a_row_that_is_too_short_or_too_long(tmp_path: Path) -> None:
    assert table(tmp_path, "path,cat,dog\na.jpg,1\nb.jpg,1,1,extra\n").labels == ((0,), (0, 1))


def test_only_a_table_of_paths_is_found(tmp_path: Path) -> None:
    assert find_table(tmp_path) is None
    (tmp_path / "labels.csv").write_text("id,breed\n1,pug\n")
    assert find_table(tmp_path) is None
    (tmp_path / "labels.csv").write_text("path,labels\n")
    assert find_table(tmp_path) == tmp_path / "labels.csv"


def test_a_row_that_repeats_another_counts_once(tmp_path: Path) -> None:
    read = table(tmp_path, "path,label,split\na.jpg,cat,train\nb.jpg,dog,val\na.jpg,cat,train\n")
    assert (read.paths, labels_of(read), read.splits) == (("a.jpg", "b.jpg"), [["cat"], ["dog"]], ("train", "val"))
    assert read.understood.endswith("; 1 rows repeat others")


def test_paths_as_windows_writes_them_are_found(tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    for name in "ab":
        (tmp_path / "pics" / f"{name}.jpg").touch()
    path = tmp_path / "labels.csv"
    path.write_text("image,label\npics\\a.jpg,cat\nD:\\b.jpg,dog\nc\\c.jpg,dog\n")
    assert find_table(tmp_path) == path
    assert read_table(path, tmp_path).paths == ("pics/a.jpg", "D:\\b.jpg", "c\\c.jpg")
