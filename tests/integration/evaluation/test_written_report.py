"""The files of a report: alone in their folder, without a text, the same each time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.evaluation import BUNDLED, figures, records, report, run

PLOTS = {"calibration.png", "precision-recall.png"}


def test_the_report_stands_alone_and_holds_no_text(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    ended = run(data, "--occupation", BUNDLED, "--out", out, "--keywords", "data scientist,nlp")
    assert ended.exit_code == 0, ended.stderr
    assert {path.name for path in out.iterdir()} == {"evaluation.json", "evaluation.html", *PLOTS}
    page = (out / "evaluation.html").read_text("utf-8")
    assert re.findall(r"(?:https?:)?//[\w.]+", re.sub(r"base64,[^\"]+", "", page)) == []
    assert "<script" not in page
    written = page + (out / "evaluation.json").read_text("utf-8") + ended.output
    for row in records():
        assert row["title"] not in written
        assert row["description"] not in written
    content = report(out)
    for fact in (content["data"]["digest"], content["judged"]["encoder"]["digest"], "--keywords"):
        assert fact in page
    assert str(tmp_path) not in page
    found = figures(content, "keyword rule")
    assert found["intervals"]["precision"]["value"] == 1.0
    # "Data scientist junior", "Senior data scientist" and "Stagiaire NLP", three times each.
    assert found["intervals"]["recall"]["value"] == pytest.approx(9 / 30, abs=1e-6)
    assert "| ai-engineering | - | rows |" in ended.stdout


def test_the_same_command_gives_the_same_bytes(data: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run(data, "--occupation", BUNDLED, "--out", tmp_path / name).exit_code == 0
    for path in (tmp_path / "one").iterdir():
        twin = (tmp_path / "two" / path.name).read_bytes()
        assert path.read_bytes() == twin.replace(b"--out two", b"--out one"), path.name
