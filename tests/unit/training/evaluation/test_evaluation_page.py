"""The report: what it shows, and what must never be on it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from service.domain.errors import InvalidFields
from service.training.evaluation.judged import FIGURES
from service.training.evaluation.page import make_page
from service.training.evaluation.plots import make_plots
from service.training.evaluation.report import staging, write_report
from service.training.evaluation.result import (
    CalibrationBin,
    Curves,
    Evaluation,
    FigureRow,
    PrecisionCurve,
)
from service.training.evaluation.tables import cell, make_tables, markdown
from service.training.measures import Interval

NAN = float("nan")
HOSTILE = '<script>alert("x")</script>|&'
FILES = {"evaluation.json", "evaluation.html", "calibration.png", "precision-recall.png"}


def row(method: str, shots: int | None, by: str = "all", value: str = "") -> FigureRow:
    intervals = {name: Interval(0.5, 0.25, 0.75) for name in FIGURES}
    intervals["precision"] = Interval(NAN, NAN, NAN)
    draws = ({**dict.fromkeys(FIGURES, 0.5), "precision": NAN},) if shots else ()
    return FigureRow(
        method, shots, by, value, 40, 4, "draws" if shots else "rows", intervals, draws
    )


def evaluation(shots: tuple[int | None, ...] = (None,)) -> Evaluation:
    return Evaluation(
        title=f"Sommelier {HOSTILE}",
        mode="draws" if shots[0] else "version",
        method="head",
        command="vocation evaluate rows.jsonl",
        data={"rows": 40, "rows_in": 4, "digest": "d1ge57", "left_out": {"by_conditions": 7}},
        judged={"weighted_to_prevalence": 0.05},
        seed=3,
        redraws=1000,
        libraries={"numpy": "9.9.9"},
        figures=(
            *(row("head", number) for number in shots),
            *(row("head", number, "source", HOSTILE) for number in shots),
            row("keyword rule", None),
        ),
        differences=(),
        curves=Curves(
            (PrecisionCurve("head", shots[-1], (0.5, 1.0), (1.0, 0.5)),),
            tuple(CalibrationBin(n / 105, n / 15, 0.5) for n in range(15)),
        ),
        notes=("A note.",),
    )


class Reader(HTMLParser):
    """Collects tags, attributes and text, and sees that every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.values: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value for _, value in attrs if value]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(made: Evaluation) -> Reader:
    return Reader(make_page(made, make_plots(made)))


def test_an_interval_is_shown_as_papers_print_it() -> None:
    assert cell(Interval(0.8124, 0.79, 0.8349)) == "0.812 [0.790, 0.835]"
    assert cell(Interval(0.5, NAN, NAN)) == "0.500"
    assert cell(Interval(NAN, NAN, NAN)) == "-"


def test_the_tables_show_the_methods_and_then_the_groups_of_the_most_shots() -> None:
    methods, groups = make_tables(evaluation((8, 64)))
    assert [line[:2] for line in methods.rows] == [
        ("head", "8"),
        ("head", "64"),
        ("keyword rule", "-"),
    ]
    assert [line[:3] for line in groups.rows] == [(HOSTILE, "40", "4")]
    assert all(len(line) == len(groups.header) for line in groups.rows)
    assert "64 + 64" in groups.caption


def test_a_bar_in_a_name_makes_no_column_in_markdown() -> None:
    _, groups = make_tables(evaluation())
    (line,) = (
        line for line in markdown(evaluation()).splitlines() if line.startswith("| <script>")
    )
    assert line.replace("\\|", "").count("|") == len(groups.header) + 1


def test_groups_of_few_are_named_in_a_note() -> None:
    text = markdown(evaluation())
    assert "Fewer than 10 rows are `in` for" in text
    assert "A note." in text


def test_the_page_needs_nothing_else() -> None:
    page = read_page(evaluation((8, 64)))
    assert page.open == []
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    outside = [v for v in page.values if re.match(r"(?i)\s*(https?:|//|file:)", v)]
    assert outside == []
    assert page.tags.count("img") == 3
    assert sum(value.startswith("data:image/png;base64,") for value in page.values) == 3


def test_the_page_escapes_what_it_did_not_write() -> None:
    page = read_page(evaluation())
    assert page.text.count(HOSTILE) >= 2


def test_the_page_states_how_it_was_made() -> None:
    text = read_page(evaluation()).text
    for fact in ("vocation evaluate rows.jsonl", "d1ge57", "numpy", "9.9.9", "1000", "weighted"):
        assert fact in text


def test_the_page_follows_the_readers_colours() -> None:
    page = make_page(evaluation(), [])
    assert "color-scheme: light dark" in page
    assert "CanvasText" in page


def test_equal_evaluations_give_equal_plots() -> None:
    made = evaluation((8, 64))
    assert make_plots(made) == make_plots(made)
    assert all(plot.content.startswith(b"\x89PNG") for plot in make_plots(made))


def test_what_is_not_defined_is_null_in_the_json() -> None:
    content = evaluation((8,)).to_json()
    figures = content["figures"][0]
    assert figures["intervals"]["precision"] == {"value": None, "low": None, "high": None}
    assert figures["draws"][0]["precision"] is None
    json.dumps(content, allow_nan=False)


def write(made: Evaluation, out: Path) -> None:
    with staging(out) as folder:
        write_report(made, folder, out)


def test_a_report_is_written_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report"
    write(evaluation(), out)
    assert {path.name for path in out.iterdir()} == FILES
    assert list(out.parent.iterdir()) == [out]


def test_a_new_report_replaces_the_old_one_and_its_plots(tmp_path: Path) -> None:
    out = tmp_path / "report"
    write(evaluation((8, 64)), out)
    assert (out / "learning-curve.png").exists()
    (out / "notes.txt").write_text("mine")
    write(replace(evaluation(), title="Second"), out)
    assert {path.name for path in out.iterdir()} == {*FILES, "notes.txt"}
    assert "Second" in (out / "evaluation.html").read_text(encoding="utf-8")


def break_off(out: Path) -> None:
    with staging(out) as folder:
        (folder / "evaluation.json").write_text("{")
        raise RuntimeError


def test_nothing_is_left_of_an_evaluation_that_fails(tmp_path: Path) -> None:
    out = tmp_path / "report"
    with pytest.raises(RuntimeError):
        break_off(out)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    with (
        pytest.raises(InvalidFields, match="--out: report is a file"),
        staging(tmp_path / "report"),
    ):
        pass
    assert (tmp_path / "report").read_text() == "mine"
