from __future__ import annotations

from pathlib import Path

import pytest

from service.domain.keys import KeyScope
from service.domain.types import Method
from service.registry import registrations
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from tests.support.backups import run
from tests.support.keys import add_key
from tests.support.make import add_occupation, example, head, publish


@pytest.fixture
def content(
    database: Database,
    artifacts: ArtifactStore,
    base_encoder: EncoderRecord,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A home with two occupations, their versions, a key, and a registration that is queued."""
    for seed, occupation in enumerate(("sommelier", "serveur")):
        with database.write() as connection:
            add_occupation(connection, occupation, [example(f"{occupation} à Lyon")])
        publish(database, artifacts, base_encoder, occupation, head(seed))
    with database.write() as connection:
        registrations.insert_registration(connection, "sommelier", Method.HEAD)
    add_key(database, "bot", KeyScope.ADMIN)
    monkeypatch.setenv("VOCATION_HOME", str(home))
    return home


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "backups" / "monday"


@pytest.fixture
def made(content: Path, target: Path) -> Path:
    """A backup of that home."""
    target.parent.mkdir()
    result = run("backup", str(target))
    assert result.exit_code == 0, result.output
    return target


@pytest.fixture
def new_home(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the next command works: a home that is not there yet."""
    home = tmp_path / "new" / "home"
    monkeypatch.setenv("VOCATION_HOME", str(home))
    return home
