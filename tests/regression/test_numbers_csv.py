"""Tables of numbers in the forms people write them, and how they are told from tables of classes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from convnext.errors import UserError
from convnext.image_level.table import read_rows
from convnext.regression.numbers_csv import NumberTable, number, possible_numbers, read_numbers, seen_numbers


def written(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text)
    return path


def table(folder: Path, text: str, *targets: str) -> NumberTable:
    return read_numbers(written(folder, text), None, targets)


def test_one_number_a_picture(tmp_path: Path) -> None:
    read = table(tmp_path, "path,age\na.jpg,3.5\nb.jpg,-4e2\n")
    assert (read.targets, read.paths, read.values) == (("age",), ("a.jpg", "b.jpg"), ((3.5,), (-400.0,)))
    assert read.understood == "column 'path' names the pictures, 'age' their numbers"


def test_several_numbers_some_missing_and_text_beside_them(tmp_path: Path) -> None:
    read = table(
        tmp_path,
        "image,name,height,weight,split\na,Ann,1.7,60,train\nb,Bob,,80,val\nc,Cem,NA,-,train\nd,Dan,1.8,,val\n",
    )
    assert read.targets == ("height", "weight")
    assert read.paths == ("a", "b", "d")
    assert math.isnan(read.values[1][0])
    assert read.splits == ("train", "val", "val")
    assert "('name' left out); 1 rows have no number and are left out; 2 numbers are missing" in read.understood


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    text = "path,x,y,z\na,1,2,3\nb,4,5,6\n"
    assert table(tmp_path, text, "z", "x").values == ((3.0, 1.0), (6.0, 4.0))
    with pytest.raises(UserError, match="has no column 'q'; it has 'x', 'y', 'z'"):
        table(tmp_path, text, "q")


def test_spaces_around_names_do_not_count_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    read = table(tmp_path, "path, age , w\na, 1 , 2\nb, 3 , 4\n", "age")
    assert (read.targets, read.values) == (("age",), ((1.0,), (3.0,)))
    with pytest.raises(UserError, match="has two columns called 'age'; give each a name of its own"):
        table(tmp_path, "path,age,age\na,1,2\nb,3,4\n")


def test_a_decimal_comma_between_semicolons(tmp_path: Path) -> None:
    assert table(tmp_path, "image;price\na;1,50\nb;2\n").values == ((1.5,), (2.0,))
    assert number("1,50") is None  # between commas it is a cell of its own, or one of thousands


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e999", "12 cm", "0x10", "1 000"])
def test_what_is_no_number_is_named_with_row_and_column(cell: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 3 of .*labels.csv: 'age' is '.*', expected a number"):
        table(tmp_path, f"path,age\na,1\nb,{cell}\nc,2\n", "age")


def test_a_target_of_one_value_is_refused(tmp_path: Path) -> None:
    text = "path,x,y\na,1,2\nb,3,2\n"
    with pytest.raises(UserError, match="'y' is 2 in every picture, so there is nothing to learn"):
        table(tmp_path, text, "y")
    assert table(tmp_path, text).understood == "column 'path' names the pictures, 'x' their numbers ('y' left out)"
    with pytest.raises(UserError, match="'y' is 2 in every picture"):
        table(tmp_path, "path,y\na,2\nb,2\n")
    with pytest.raises(UserError, match="'y' has no number"):
        table(tmp_path, "path,x,y\na,1,\nb,3,\n", "x", "y")


def test_a_picture_with_two_numbers_is_refused_and_a_row_twice_is_not(tmp_path: Path) -> None:
    read = table(tmp_path, "path,x\na,1\nb,2\na,1\n")
    assert read.paths == ("a", "b")
    assert "1 rows repeat others" in read.understood
    with pytest.raises(UserError, match="lists 'a' more than once, with different numbers in rows 2 and 4; keep one"):
        table(tmp_path, "path,x\na,1\nb,2\na,3\n")


def test_rows_without_a_number_twice_are_the_same(tmp_path: Path) -> None:
    assert table(tmp_path, "path,x,y\na,,1\na,nan,1\nb,2,3\nc,3,4\n").paths == ("a", "b", "c")


QUARTERS = "".join(f"{i},{i / 4}\n" for i in range(20))
MANY = "".join(f"{i}.jpg,{i * 37 % 101}\n" for i in range(40))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("path,label\na,0.5\nb,1.5\n", "'label' holds numbers with fractions"),
        ("path,target\na,0\nb,1\nc,1.25\n", "'target' holds numbers with fractions"),
        ("path,sharpness\na,0.5\nb,2\n", "'sharpness' holds numbers with fractions"),
        ("path,age\na,30\nb,42\nc,7\n", "'age' is a quantity"),
        ("path,tree_count\na,3\nb,4\nc,7\n", "'tree_count' is a quantity"),
        ("path,sales\n" + MANY, "'sales' holds nearly as many numbers as there are pictures"),
        ("path,x,y\na,10,20\nb,30,40\n", "'x', 'y' hold numbers"),
        (
            "path,height\n" + "".join(f"{i},{i / 4}\n" for i in range(20)) + "x,3 cm\n",
            "'height' holds numbers with fractions",
        ),
        (",path,Unnamed: 0,age\n0,a,1,30\n1,b,2,42\n2,c,3,7\n", "'age' is a quantity"),
        ("path,patient_id,age\na,1,30\nb,2,42\nc,3,7\n", "'age' is a quantity"),
        ("path,x,y\na,10,\nb,,40\n", "'x', 'y' hold numbers"),
        ("path,height,note\na,1.5,\nb,2,\n", "'height' holds numbers with fractions"),
        ("path,share\na,1.5%\nb,20 %\n", "'share' holds numbers with fractions"),
        ("path, age , w\na, 1 , 2\nb, 3 , 4\n", "'age', 'w' hold numbers"),
    ],
)
def test_tables_of_numbers_are_seen(text: str, why: str, tmp_path: Path) -> None:
    assert seen_numbers(read_rows(written(tmp_path, text))) == why


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na,0\nb,1\nc,2\n",
        "path,label\na,cat\nb,dog\n",
        "path,labels\na,1;2\nb,3\n",
        "path,dog,cat\na,1,0\nb,0,1\n",
        "id,has_cactus\na,0\nb,1\n",
        "path,breed_id\n" + MANY,
        "path,digit\n" + "".join(f"{i},{i % 10}\n" for i in range(100)),
        "path,name,age\na,Ann,30\nb,Bob,42\n",
        "path,rating\n" + "".join(f"{i},{i % 5}\n" for i in range(40)),
        "path,age group\n" + "".join(f"{i},{i % 5}\n" for i in range(40)),
        "path,class_id,superclass_id\n" + "".join(f"{i},{i % 5},{i % 3}\n" for i in range(40)),
        "path,age\n",
    ],
)
def test_tables_of_classes_are_not(text: str, tmp_path: Path) -> None:
    assert seen_numbers(read_rows(written(tmp_path, text))) is None


def test_whole_numbers_may_be_read_as_numbers_where_it_is_asked(tmp_path: Path) -> None:
    digits = "path,digit\n" + "".join(f"{i},{i % 10}\n" for i in range(100))
    assert possible_numbers(read_rows(written(tmp_path, digits))) == "'digit' holds numbers"
    assert possible_numbers(read_rows(written(tmp_path, "path,name,age\na,Ann,30\nb,Bob,42\nc,Cem,50\n"))) is not None
    assert possible_numbers(read_rows(written(tmp_path, "path,dog,cat\na,1,0\nb,0,1\n"))) is None
    assert possible_numbers(read_rows(written(tmp_path, "path,label\na,x\nb,y\n"))) is None


def test_more_cells_than_columns_are_refused(tmp_path: Path) -> None:
    """A decimal comma in a comma table was read as its whole part."""
    with pytest.raises(UserError, match=r"row 3 of .* has more cells than the first line \('25'\): write"):
        table(tmp_path, "path,height\na,21\nb,21,25\n")
    assert table(tmp_path, "path,height\na,21,\nb,22,,\n").values == ((21.0,), (22.0,))


def test_identifiers_are_learned_where_they_are_named(tmp_path: Path) -> None:
    text = "path,patient_id,age\na,1,30\nb,2,42\nc,3,7\n"
    assert table(tmp_path, text).targets == ("age",)
    assert table(tmp_path, text, "patient_id").targets == ("patient_id",)


def test_a_slip_is_named_by_its_row(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 22 of .*: 'height' is '3 cm', expected a number"):
        table(tmp_path, f"path,height\n{QUARTERS}x,3 cm\n")


def test_a_table_to_judge_by_may_hold_one_value(tmp_path: Path) -> None:
    path = written(tmp_path, "path,x,y\na,1,\nb,1,\n")
    read = read_numbers(path, None, ("x", "y"), judged=True)
    assert read.values[0][0] == 1
    assert math.isnan(read.values[0][1])
