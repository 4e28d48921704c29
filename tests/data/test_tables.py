"""labels.csv in the forms people write it, and what is said of the others."""

from pathlib import Path

import pytest

from convnext.data.tables import LabelTable, find_table, read_table
from convnext.errors import UserError


def table(folder: Path, text: str | bytes) -> LabelTable:
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path)


def test_names_between_semicolons_or_bars(tmp_path: Path) -> None:
    read = table(tmp_path, 'path,labels\n"a, b.jpg",cat ; dog\nc.jpg,bird|cat\nd.jpg,\n')
    assert read == LabelTable(("bird", "cat", "dog"), ("a, b.jpg", "c.jpg", "d.jpg"), ((1, 2), (0, 1), ()), None)


def test_one_column_a_class_as_spreadsheets_write_it(tmp_path: Path) -> None:
    text = "\ufeff,path,dog,cat,split\n0,a.jpg,1,0,train\n1,b.jpg,TRUE,yes,Valid\n2,c.jpg,,0,test\n"
    assert table(tmp_path, text) == LabelTable(
        ("dog", "cat"), ("a.jpg", "b.jpg", "c.jpg"), ((0,), (0, 1), ()), ("train", "val", "test")
    )


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
        ("path,labels\na.jpg,cat\na.jpg,dog\n", "lists 'a.jpg' more than once"),
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
