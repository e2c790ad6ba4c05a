"""What may be judged by, and how a wrong file is told from a right one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from service.domain.errors import InvalidFields
from service.training.evaluation.labelled import (
    Condition,
    Field,
    Labelled,
    check_both_labels,
    outside,
    read_labelled,
)

SECRET = "Sommelière confidentielle"


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def read(path: Path, field: Field = Field.TEXT, *only: Condition) -> Labelled:
    return read_labelled(path, field, only)


def refusal(path: Path, field: Field = Field.TEXT) -> str:
    with pytest.raises(InvalidFields) as caught:
        read_labelled(path, field)
    assert "confidentielle" not in caught.value.detail
    return caught.value.detail


def test_json_lines_and_csv_say_the_same(tmp_path: Path) -> None:
    rows = [
        {"title": "Sommelier", "company": "La Treille", "label": "in", "language": "fr"},
        {"title": "Plumber", "description": "Pipes,\nand taps.", "label": 0, "source": "ads"},
    ]
    as_json = read(write(tmp_path, "rows.jsonl", lines(*rows)))
    table = (
        "title,company,description,label,language,source\n"
        "Sommelier,La Treille,,in,fr,\n"
        'Plumber,,"Pipes,\nand taps.",0,,ads\n'
    )
    as_csv = read(write(tmp_path, "rows.csv", table))
    assert [row.experience.rendered for row in as_json.rows] == [
        "Sommelier, La Treille",
        "Plumber. Pipes, and taps.",
    ]
    assert [replace(row, line=0) for row in as_json.rows] == [
        replace(row, line=0) for row in as_csv.rows
    ]
    assert as_json.inside.tolist() == [True, False]
    assert [(row.language, row.source) for row in as_json.rows] == [("fr", None), (None, "ads")]


@pytest.mark.parametrize("label", ["in", "IN", 1, 1.0, True, "1", "1.0"])
def test_a_label_may_be_written_in_several_ways(tmp_path: Path, label: object) -> None:
    assert read(write(tmp_path, "a.jsonl", lines({"text": "a", "label": label}))).rows[0].inside


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_header_tells_what_separates_columns(tmp_path: Path, delimiter: str) -> None:
    table = f"\ufefflabel{delimiter}text\r\n1{delimiter}Sommelier\r\n"
    found = read(write(tmp_path, "a.csv", table)).rows[0]
    assert (found.inside, found.experience.rendered, found.line) == (True, "Sommelier", 2)


def test_the_field_says_what_is_judged(tmp_path: Path) -> None:
    row = {"text": "all of it", "title": "Sommelier", "description": "Wine.", "label": 1}
    path = write(tmp_path, "a.jsonl", lines(row))
    judged = {field: read(path, field).rows[0].experience.rendered for field in Field}
    assert judged == {"text": "all of it", "title": "Sommelier", "description": "Wine."}


def test_an_empty_text_gives_way_to_the_title(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", lines({"text": " ", "title": "Sommelier", "label": 1}))
    assert read(path).rows[0].experience.rendered == "Sommelier"


def test_a_field_that_a_row_lacks_cannot_be_judged(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", lines(GOOD, {"title": SECRET, "label": 1}))
    expected = "rows.jsonl, line 1, description: there is nothing to judge."
    assert refusal(path, Field.DESCRIPTION) == expected


def test_conditions_take_rows_by_their_columns(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "label": 1, "split": "train", "suspect": 0},
        {"text": "b", "label": 1, "split": "test", "suspect": 0},
        {"text": "c", "label": 1, "split": "train", "suspect": True},
        {"text": "d", "label": 1, "split": "train"},
    ]
    path = write(tmp_path, "a.jsonl", lines(*rows))
    found = read(path, Field.TEXT, Condition("split", "train"), Condition("suspect", "0"))
    assert [row.experience.rendered for row in found.rows] == ["a"]
    assert found.filtered == 3
    suspect = read(path, Field.TEXT, Condition("suspect", "true"))
    assert [row.experience.rendered for row in suspect.rows] == ["c"]


def test_rows_left_out_by_conditions_need_no_label(tmp_path: Path) -> None:
    path = write(
        tmp_path, "a.jsonl", lines({"text": "a", "split": "raw"}, {"text": "b", "label": 1})
    )
    with pytest.raises(InvalidFields, match="line 1, label: missing"):
        read(path)
    labelled = lines({"text": "a", "split": "raw"}, {"text": "b", "label": 1, "split": "x"})
    assert (
        len(read(write(tmp_path, "b.jsonl", labelled), Field.TEXT, Condition("split", "x")).rows)
        == 1
    )


def test_rows_of_one_text_share_a_unit(tmp_path: Path) -> None:
    texts = ["a b", "c", "a   b"]
    path = write(tmp_path, "a.jsonl", lines(*({"text": t, "label": 1} for t in texts)))
    units = read(path).units
    assert units[0] == units[2] != units[1]


GOOD = {"text": SECRET, "label": "in"}
BAD_JSON = {
    "label missing": ({"text": SECRET}, "line 2, label: missing."),
    "label null": ({"text": SECRET, "label": None}, "line 2, label: missing."),
    "label unknown": ({"text": SECRET, "label": "maybe"}, "line 2, label: in, out, 1 or 0"),
    "label a number": ({"text": SECRET, "label": 2}, "line 2, label: in, out, 1 or 0"),
    "label NaN": ({"text": SECRET, "label": float("nan")}, "line 2, label: in, out, 1 or 0"),
    "label shifted": ({"text": "a", "label": SECRET}, "line 2, label: in, out, 1 or 0"),
    "text NaN": ({"text": float("nan"), "label": 1}, "line 2, text: a string is needed, not NaN"),
    "description NaN": (
        {"title": SECRET, "description": float("nan"), "label": 1},
        "line 2, description: a string is needed, not NaN",
    ),
    "source a list": ({**GOOD, "source": [SECRET]}, "line 2, source: a string is needed"),
    "no text": ({"description": SECRET, "label": 1}, "line 2, text: a text or a title"),
    "empty text": ({"text": "  ", "label": 1}, "line 2, text: a text or a title"),
    "half a character": ({"text": "\ud800", "label": 1}, "line 2, text: half of a surrogate"),
    "no object": ([SECRET], "line 2: a JSON object is needed"),
}


@pytest.mark.parametrize("wrong", BAD_JSON)
def test_a_wrong_record_is_named_by_line_and_field(tmp_path: Path, wrong: str) -> None:
    record, expected = BAD_JSON[wrong]
    detail = refusal(write(tmp_path, "rows.jsonl", lines(GOOD, record)))
    assert detail.startswith(f"rows.jsonl, {expected}")


BAD_FILES: dict[str, tuple[str, str | bytes, str]] = {
    "empty": ("rows.jsonl", "", "rows.jsonl: no labelled experience."),
    "blank lines": ("rows.jsonl", "\n\n", "rows.jsonl: no labelled experience."),
    "no JSON": ("rows.jsonl", f'{{"text": "{SECRET}"', "rows.jsonl, line 1, column"),
    "no UTF-8": ("rows.jsonl", b'{"text": "a"}\n{"text": "\xe9"}', "rows.jsonl, line 2: not UTF-8"),
    "no UTF-8 in CSV": ("rows.csv", b"text,label\n\xff,1\n", "rows.csv, line 2: not UTF-8."),
    "another format": ("rows.xlsx", "", "rows.xlsx: a name in .jsonl"),
    "empty CSV": ("rows.csv", "", "rows.csv, line 1, label: the header has no such column."),
    "header without label": ("rows.csv", f"text,y\n{SECRET},1\n", "rows.csv, line 1, label:"),
    "header without text": ("rows.csv", f"body,label\n{SECRET},1\n", "rows.csv, line 1, text:"),
    "header twice": ("rows.csv", "text,label,label\na,1,1\n", "rows.csv, line 1: the header has a"),
    "header alone": ("rows.csv", "text,label\n", "rows.csv: no labelled experience."),
    "too many cells": (
        "rows.csv",
        f"text,label\na,1\n{SECRET},1,2\n",
        "rows.csv, line 3: 3 columns",
    ),
    "too few cells": ("rows.csv", f"text,label\n{SECRET}\n", "rows.csv, line 2: 1 columns"),
    "open quote": ("rows.csv", f'text,label\na,1\n"{SECRET},1\n', "rows.csv, line 3: not CSV"),
    "label nan in CSV": ("rows.csv", f"text,label\n{SECRET},nan\n", "rows.csv, line 2, label: in,"),
    "label empty in CSV": ("rows.csv", f"text,label\n{SECRET},\n", "rows.csv, line 2, label: miss"),
}


@pytest.mark.parametrize("wrong", BAD_FILES)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, wrong: str) -> None:
    name, content, expected = BAD_FILES[wrong]
    assert refusal(write(tmp_path, name, content)).startswith(expected)


def test_a_record_after_a_text_of_several_lines_is_named_by_the_line_it_begins_on(
    tmp_path: Path,
) -> None:
    table = 'text,label\n"one\ntwo\nthree",1\nfour,perhaps\n'
    assert refusal(write(tmp_path, "rows.csv", table)).startswith("rows.csv, line 5, label:")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.jsonl") == "absent.jsonl: No such file or directory."


def test_rows_of_one_label_judge_nothing(tmp_path: Path) -> None:
    found = read(write(tmp_path, "a.jsonl", lines(GOOD, {"text": "b", "label": 1})))
    with pytest.raises(InvalidFields, match=r"rows, label: .*all 2 are `in`"):
        check_both_labels(found.rows, "rows")
    with pytest.raises(InvalidFields, match=r"rows, label: .*none"):
        check_both_labels((), "rows")


def test_a_text_of_the_background_is_not_judged(tmp_path: Path) -> None:
    found = read(write(tmp_path, "a.jsonl", lines({"text": "Ébéniste", "label": 0}, GOOD)))
    assert [row.line for row in outside(found.rows, frozenset({"ébéniste"}))] == [2]
