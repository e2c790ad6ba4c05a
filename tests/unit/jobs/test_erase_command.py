from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from dbos import run_dbos_database_migrations
from typer.testing import CliRunner, Result

from service.cli import app
from service.domain.errors import OccupationNotFound
from service.domain.types import Method, RegistrationState
from service.jobs.queue import RegistrationQueue
from service.registry import occupations, registrations, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from tests.support.bytes_at_rest import files_with
from tests.support.make import add_occupation, example, head, publish

MARKS = ("MARK-UN", "MARK-DEUX", "MARK-TROIS")


@pytest.fixture
def ids(
    database: Database,
    artifacts: ArtifactStore,
    base_encoder: EncoderRecord,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[int]:
    """Examples of an occupation with two versions, the second its champion; nothing runs."""
    run_dbos_database_migrations(str(database.engine.url))
    with database.write() as connection:
        add_occupation(connection, "sommelier", [example(mark) for mark in MARKS])
    for seed in (1, 2):
        publish(database, artifacts, base_encoder, "sommelier", head(seed))
    with database.write() as connection:
        for id in registrations.active_ids(connection):
            registrations.finish(connection, id, RegistrationState.SUCCEEDED)
        stored = occupations.all_examples(connection, "sommelier")
    monkeypatch.setenv("VOCATION_HOME", str(home))
    by_text = {item.example.experience.text: item.id for item in stored}
    return [by_text[mark] for mark in MARKS]


def erase(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, ["erase", *arguments], input=answer)


def left(home: Path, marks: Sequence[str] = MARKS) -> set[str]:
    return {mark for mark in marks if files_with(mark.encode(), home)}


def queue_one(database: Database) -> str:
    """A registration that is queued while no service runs."""
    queue = RegistrationQueue(database.engine, 60)
    with database.write() as connection:
        id = registrations.insert_registration(connection, "sommelier", Method.AUTO)
        queue.enqueue(connection, id, "sommelier")
    queue.close()
    return id


def test_chosen_examples_are_erased_from_every_file(home: Path, ids: list[int]) -> None:
    result = erase("sommelier", "--example", str(ids[0]), "--example", str(ids[1]), "--yes")
    assert result.exit_code == 0, result.output
    assert left(home) == {"MARK-TROIS"}


def test_a_whole_occupation_is_erased_from_every_file(
    home: Path, database: Database, ids: list[int]
) -> None:
    queued = queue_one(database)
    folder = home / "jobs" / queued
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("MARK-UN")
    assert erase("sommelier", "--yes").exit_code == 0
    assert left(home) == set()
    with database.read() as connection:
        with pytest.raises(OccupationNotFound):
            occupations.get_occupation(connection, "sommelier")
        state = registrations.get_registration(connection, queued).state
    assert state is RegistrationState.CANCELLED


def test_nothing_is_erased_without_a_yes(home: Path, ids: list[int]) -> None:
    result = erase("sommelier", answer="n\n")
    assert result.exit_code == 1
    assert "the whole of sommelier" in result.output
    assert left(home) == set(MARKS)


def test_a_registration_in_the_way_is_said_and_cancelled_on_demand(
    home: Path, database: Database, ids: list[int]
) -> None:
    queued = queue_one(database)
    refused = erase("sommelier", "--example", str(ids[0]), "--yes")
    assert refused.exit_code == 2
    assert "cancel" in refused.stderr
    assert left(home) == set(MARKS)
    assert erase("sommelier", "--example", str(ids[0]), "--cancel", "--yes").exit_code == 0
    assert left(home) == set(MARKS[1:])
    with database.read() as connection:
        state = registrations.get_registration(connection, queued).state
    assert state is RegistrationState.CANCELLED


def test_a_version_is_erased_but_not_the_champion(database: Database, ids: list[int]) -> None:
    refused = erase("sommelier", "--version", "2", "--yes")
    assert refused.exit_code == 2
    assert "champion" in refused.stderr
    assert erase("sommelier", "--version", "1", "--yes").exit_code == 0
    with database.read() as connection:
        assert versions.version_numbers_of(connection, "sommelier") == [2]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing"], "Occupation not found"),
        (["sommelier", "--example", "999"], "Example not found"),
        (["sommelier", "--version", "9"], "Version not found"),
    ],
)
def test_what_is_not_there_ends_with_status_2(
    home: Path, ids: list[int], arguments: list[str], told: str
) -> None:
    result = erase(*arguments, "--yes")
    assert result.exit_code == 2
    assert told in result.stderr
    assert left(home) == set(MARKS)


def test_a_failure_in_one_of_several_erases_none(
    home: Path, database: Database, ids: list[int]
) -> None:
    asked = ["--version", "1", "--example", str(ids[0]), "--example", "999"]
    assert erase("sommelier", *asked, "--yes").exit_code == 2
    assert left(home) == set(MARKS)
    with database.read() as connection:
        assert versions.version_numbers_of(connection, "sommelier") == [1, 2]
