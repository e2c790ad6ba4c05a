from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from service.domain.types import Example, Experience, Label, Origin
from service.registry import occupations
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from tests.support.make import add_occupation, example, head, publish

CAVISTE = Experience(title="Caviste", company="La Cave du Port", description="Vente de vins.")


@pytest.fixture
def home_with_occupations(
    database: Database,
    artifacts: ArtifactStore,
    base_encoder: EncoderRecord,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    with database.write() as connection:
        add_occupation(connection, "sommelier", [example("Sommelière à Brest")])
        bundled = [Example(CAVISTE, Label.OUT)]
        occupations.put_examples(connection, "sommelier", bundled, Origin.BUNDLED)
        add_occupation(connection, "serveur", [example("Serveur")])
    publish(database, artifacts, base_encoder, "sommelier", head(1))
    publish(database, artifacts, base_encoder, "sommelier", head(2), promote=False)
    monkeypatch.setenv("VOCATION_HOME", str(home))
    return home


def export(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["export", *arguments])


def test_an_export_has_the_record_every_example_and_every_version(
    home_with_occupations: Path,
) -> None:
    document = json.loads(export("sommelier").stdout)
    assert document["format"] == 1
    assert document["occupation"]["name"] == "Sommelier"
    first, second = document["examples"]
    assert (first["text"], first["label"], first["origin"]) == ("Sommelière à Brest", "in", "api")
    assert (second["title"], second["company"]) == (CAVISTE.title, CAVISTE.company)
    assert (second["description"], second["label"]) == (CAVISTE.description, "out")
    assert second["origin"] == "bundled"
    assert all(row["id"] and row["created_at"] and row["updated_at"] for row in (first, second))
    assert [version["number"] for version in document["versions"]] == [1, 2]
    assert all(version["manifest"] == {} for version in document["versions"])
    assert [(alias["alias"], alias["number"]) for alias in document["aliases"]] == [("champion", 1)]
    assert len(document["registrations"]) == 2


def test_an_export_has_nothing_of_other_occupations(home_with_occupations: Path) -> None:
    assert "Serveur" not in export("sommelier").stdout


def test_an_export_into_a_file_is_for_its_owner_and_overwrites_nothing(
    home_with_occupations: Path, tmp_path: Path
) -> None:
    output = tmp_path / "sommelier.json"
    result = export("sommelier", "--output", str(output))
    assert result.exit_code == 0
    assert "2 examples, 2 versions" in result.stdout
    assert output.stat().st_mode & 0o777 == 0o600
    document = json.loads(output.read_text(encoding="utf-8"))
    assert document["examples"][0]["text"] == "Sommelière à Brest"
    again = export("serveur", "--output", str(output))
    assert again.exit_code == 2
    assert "exists" in again.stderr
    assert json.loads(output.read_text(encoding="utf-8")) == document


def test_an_unknown_occupation_or_home_is_said(
    home_with_occupations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = export("nothing", "--output", str(tmp_path / "made"))
    assert (result.exit_code, "Occupation not found" in result.stderr) == (2, True)
    assert not (tmp_path / "made").exists()
    monkeypatch.setenv("VOCATION_HOME", str(tmp_path / "nowhere"))
    result = export("sommelier")
    assert (result.exit_code, "no registry" in result.stderr) == (2, True)
    assert not (tmp_path / "nowhere").exists()
