"""Which rows of a file are judged, and what a wrong one does."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from service.training.background import read_background
from service.training.bundled import read_file
from tests.support.evaluation import BUNDLED, records, report, run


def test_a_table_is_judged_as_json_lines_are(data: Path, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(records()[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(records())
    for path, out in ((data, "one"), (table, "two")):
        assert run(path, "--occupation", BUNDLED, "--out", tmp_path / out).exit_code == 0
    assert report(tmp_path / "one")["figures"] == report(tmp_path / "two")["figures"]


def test_examples_of_the_version_and_background_texts_are_not_judged(
    data: Path, tmp_path: Path
) -> None:
    known = read_file(BUNDLED).occupation.examples[0].experience
    crowd = read_background(tmp_path / "background.jsonl")[0]
    with data.open("a", encoding="utf-8") as file:
        for text, label in ((known.rendered, 1), (crowd.rendered.upper(), 0)):
            file.write(json.dumps({"text": text, "label": label}) + "\n")
    ended = run(data, "--occupation", BUNDLED, "--out", tmp_path / "report")
    assert ended.exit_code == 0, ended.stderr
    found = report(tmp_path / "report")["data"]
    assert found["rows"] == len(records())
    assert found["left_out"] == {
        "by_conditions": 0,
        "examples_of_the_version": 1,
        "in_the_background": 1,
    }


def test_a_wrong_row_leaves_an_earlier_report_as_it_was(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    out.mkdir()
    (out / "evaluation.json").write_text("earlier")
    with data.open("a", encoding="utf-8") as file:
        file.write('{"title": "Chef", "label": NaN}\n')
    ended = run(data, "--occupation", BUNDLED, "--out", out)
    assert ended.exit_code == 2
    assert f"rows.jsonl, line {len(records()) + 1}, label: in, out, 1 or 0" in ended.stderr
    assert [path.read_text() for path in out.iterdir()] == ["earlier"]
    assert [path.name for path in tmp_path.glob(".evaluation-*")] == []
