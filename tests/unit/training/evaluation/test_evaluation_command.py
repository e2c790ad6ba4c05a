"""What the command accepts, before anything is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from service.settings import PROJECT_ROOT

LOADED = "import sys, service.cli; print(*{name.partition('.')[0] for name in sys.modules})"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", *arguments])


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    records = [{"text": "Sommelier", "label": 1}, {"text": "Plombier", "label": 0}]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


REFUSED = {
    "nothing to judge": ([], "--occupation, or --shots"),
    "too few shots": (["--shots", "3"], "--shots: at least 4"),
    "one of several shots": (["--shots", "16", "3"], "--shots: at least 4"),
    "a registered occupation with shots": (
        ["--shots", "8", "--occupation", "chef"],
        "--occupation: with --shots, a file",
    ),
    "a name without shots": (["--occupation", "chef", "--name", "Chef"], "--name: it goes with"),
    "a method for a version": (
        ["--occupation", "chef", "--method", "setfit"],
        "--method: a version of the registry",
    ),
    "a prevalence of 1": (["--shots", "8", "--prevalence", "1"], "--prevalence: a share between"),
    "no condition": (["--shots", "8", "--only", "split"], "--only: column=value is needed"),
    "too few rows": (["--shots", "8"], "8 different `in` texts are needed, 0"),
    "no occupation's file": (["--occupation", "absent.yaml"], "absent.yaml: No such file"),
    "a version that is no number": (["--occupation", "chef@last"], "a version is a number"),
    "no registry": (["--occupation", "chef"], "VOCATION_HOME has no registry"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_a_wrong_argument_ends_with_status_2_and_its_name(
    wrong: str, rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOCATION_HOME", str(tmp_path / "home"))
    arguments, expected = REFUSED[wrong]
    ended = run(rows, *arguments, "--out", str(tmp_path / "report"))
    assert ended.exit_code == 2
    assert expected in ended.stderr
    assert ended.stdout == ""
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl"}


def test_numbers_after_shots_are_its_own(rows: str) -> None:
    # Both forms come as far as the rows, of which there are too few.
    for shots in (["--shots", "8", "16"], ["--shots", "8", "--shots", "16"], ["--shots=8"]):
        assert "rows to draw from" in run(*shots, rows).stderr
    lone = run(rows, "--shots")
    assert lone.exit_code == 2
    assert "requires an argument" in lone.stderr


def test_an_examples_file_that_contradicts_itself_is_named(rows: str, tmp_path: Path) -> None:
    occupation = tmp_path / "chef.json"
    examples = [{"label": label, "title": "Chef"} for label in ("in", "out")]
    content = {"id": "chef", "name": "Chef", "description": "", "prevalence": 0.1}
    occupation.write_text(json.dumps({**content, "examples": examples}))
    ended = run(rows, "--occupation", str(occupation))
    assert ended.exit_code == 2
    assert "chef.json, examples: a text stands under both labels" in ended.stderr
    occupation.write_text(json.dumps({**content, "examples": examples[:1]}))
    assert "1 different `in` texts, at least 4" in run(rows, "--occupation", str(occupation)).stderr


def test_the_command_line_waits_for_no_library_that_only_an_evaluation_needs() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "typer" in loaded
    assert set(loaded) & {"matplotlib", "sklearn", "torch", "onnxruntime", "scipy"} == set()
