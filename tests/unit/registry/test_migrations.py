"""Registries of each schema version, as real SQLite files: taken, migrated or refused."""

from __future__ import annotations

import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from service.cli import app
from service.domain.errors import RegistryTooNew, StorageUnavailable
from service.domain.keys import KeyScope
from service.registry import generation, keys, occupations, versions
from service.registry.database import Database
from service.registry.erasing import finish_erasures
from service.registry.schema_version import SCHEMA_VERSION, SCHEMA_VERSION_KEY
from tests.support.bytes_at_rest import files_with
from tests.support.keys import add_key
from tests.support.make import add_occupation

SCHEMA_0 = Path(__file__).parents[2] / "support" / "schema_0.sql"
EARLY, BETWEEN, LATE = (f"2026-0{month}-01T00:00:00.000000Z" for month in (1, 2, 3))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A registry of version 0: one occupation, one version, an example before it and one after."""
    file = tmp_path / "old" / "registry.sqlite"
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executescript(SCHEMA_0.read_text(encoding="utf-8"))
        row = ("sommelier", "Sommelier", "", 0.05, "head", "api", None, EARLY, EARLY)
        connection.execute("INSERT INTO occupations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        for digest, time in (("a" * 64, EARLY), ("b" * 64, LATE)):
            connection.execute(
                "INSERT INTO examples (occupation, digest, text, label, origin, created_at, "
                "updated_at) VALUES ('sommelier', ?, 'Sommelier', 'in', 'api', ?, ?)",
                (digest, time, time),
            )
        version = ("sommelier", 1, "head", "e" * 64, None, "f" * 64, "{}", "r-1", BETWEEN)
        connection.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", version)
        connection.execute("INSERT INTO registry_state VALUES ('generation', '7')")
    return file


@pytest.fixture
def migrated(old: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{old}")
    database.create_schema()
    yield database
    database.close()


def _version(database: Database) -> str | None:
    with database.read() as connection:
        return generation.get(connection, SCHEMA_VERSION_KEY)


def _shape(database: Database) -> dict[str, Any]:
    """Tables, columns and keys as SQLite tells them."""
    inspector = sa.inspect(database.engine)
    shape: dict[str, Any] = {}
    for table in inspector.get_table_names():
        columns = {
            column["name"]: (str(column["type"]), column["nullable"], column["default"])
            for column in inspector.get_columns(table)
        }
        foreign = sorted(
            (
                str(key["constrained_columns"]),
                str(key["referred_table"]),
                str(key["referred_columns"]),
                str(key["options"]),
            )
            for key in inspector.get_foreign_keys(table)
        )
        primary = inspector.get_pk_constraint(table)["constrained_columns"]
        shape[table] = (columns, primary, foreign)
    return shape


def _claim(file: Path, version: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "INSERT OR REPLACE INTO registry_state VALUES (?, ?)", (SCHEMA_VERSION_KEY, version)
        )


def test_a_new_registry_has_this_releases_version(database: Database) -> None:
    assert _version(database) == str(SCHEMA_VERSION)


def test_a_migrated_registry_has_the_tables_of_a_new_one(
    migrated: Database, database: Database
) -> None:
    assert _version(migrated) == str(SCHEMA_VERSION)
    assert _shape(migrated) == _shape(database)


def test_a_migration_keeps_what_is_there(migrated: Database) -> None:
    with migrated.read() as connection:
        assert occupations.get_occupation(connection, "sommelier").name == "Sommelier"
        assert len(occupations.all_examples(connection, "sommelier")) == 2
        version = versions.get_version(connection, "sommelier", 1)
        assert (version.artifact_digest, version.erased_examples) == ("f" * 64, 0)
        assert generation.read(connection) == 7


def test_a_version_of_an_older_release_counts_as_trained_on_what_was_there_before_it(
    migrated: Database,
) -> None:
    with migrated.read() as connection:
        found = connection.exec_driver_sql("SELECT * FROM version_examples").all()
    assert found == [("sommelier", 1, "a" * 64)]


def test_what_an_older_release_deleted_leaves_no_byte_after_the_migration(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection, connection:
        query = "UPDATE examples SET text = 'MARK-DELETED' WHERE digest = ?"
        connection.execute(query, ("b" * 64,))
    with closing(sqlite3.connect(old)) as connection, connection:
        # As SQLite itself has it; some systems' builds turn it on.
        connection.execute("PRAGMA secure_delete=OFF")
        connection.execute("DELETE FROM examples WHERE digest = ?", ("b" * 64,))
    assert files_with(b"MARK-DELETED", old.parent)
    database = Database(f"sqlite:///{old}")
    database.create_schema()
    assert finish_erasures(database)
    assert files_with(b"MARK-DELETED", old.parent) == []
    database.close()


def test_a_registry_from_before_there_were_keys_gets_their_table_and_keeps_the_rest(
    old: Path,
) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("DROP TABLE keys")
    database = Database(f"sqlite:///{old}")
    database.create_schema()
    add_key(database, "bot", KeyScope.CLASSIFY)
    with database.read() as connection:
        assert occupations.get_occupation(connection, "sommelier").id == "sommelier"
        assert [key.name for key in keys.list_keys(connection)] == ["bot"]
    database.close()


def test_a_migration_that_fails_changes_nothing(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("CREATE TABLE version_examples (something TEXT)")
    database = Database(f"sqlite:///{old}")
    with pytest.raises(StorageUnavailable):
        database.create_schema()
    assert _version(database) is None
    columns = {column["name"] for column in sa.inspect(database.engine).get_columns("versions")}
    assert "erased_examples" not in columns
    database.close()


def test_several_processes_that_start_at_once_migrate_once(old: Path) -> None:
    url, failures = f"sqlite:///{old}", []
    together = threading.Barrier(4)

    def start() -> None:
        own = Database(url)
        together.wait()
        try:
            own.create_schema()
        except Exception as error:
            failures.append(error)
        own.close()

    starting = [threading.Thread(target=start) for _ in range(4)]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join()
    assert failures == []
    database = Database(url)
    assert _version(database) == str(SCHEMA_VERSION)
    database.close()


def test_a_registry_of_this_release_is_taken_without_waiting_for_a_writer(
    database: Database, home: Path
) -> None:
    with database.write() as writing:
        add_occupation(writing, "sommelier")
        other = Database(f"sqlite:///{home / 'registry.sqlite'}")
        other.create_schema()
        other.close()


def test_a_newer_registry_is_refused_with_both_versions_and_left_alone(old: Path) -> None:
    _claim(old, "9")
    before = old.read_bytes()
    database = Database(f"sqlite:///{old}")
    with pytest.raises(RegistryTooNew, match=rf"version 9, .* up to {SCHEMA_VERSION}\b"):
        database.create_schema()
    database.close()
    # But for the mark of the write-ahead log in the header.
    assert old.read_bytes()[100:] == before[100:]


@pytest.mark.parametrize("command", [["serve"], ["keys", "list"], ["export", "sommelier"]])
def test_a_command_on_a_newer_registry_ends_with_status_2_and_one_clear_line(
    old: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    _claim(old, "9")
    monkeypatch.setenv("VOCATION_HOME", str(old.parent))
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert re.search(rf"schema version 9, .* up to {SCHEMA_VERSION}\b", line)
    assert line.startswith("vocation: The registry was written by a newer release")


def _overwrite(file: Path) -> None:
    file.write_bytes(b"not a database, but long enough to be read as one" * 40)


def _truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("damage", [_overwrite, _truncate])
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["serve"], "vocation: The registry is damaged: "),
        (["keys", "list"], "vocation: The registry cannot be "),
    ],
)
def test_a_command_on_a_damaged_registry_ends_with_status_2_and_one_clear_line(
    old: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    command: list[str],
    said: str,
) -> None:
    damage(old)
    monkeypatch.setenv("VOCATION_HOME", str(old.parent))
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith(said)


def test_a_copy_of_a_newer_registry_is_not_backed_up(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _claim(old, "9")
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(old, home)
    monkeypatch.setenv("VOCATION_HOME", str(home))
    result = CliRunner().invoke(app, ["backup", str(tmp_path / "backup")])
    assert result.exit_code == 2
    assert "schema version 9" in result.stderr
    assert not (tmp_path / "backup").exists()


def test_a_backup_of_an_older_registry_is_restored_and_then_migrated(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(old)) as connection, connection:
        # Its artifacts are not there.
        connection.execute("DELETE FROM versions")
    backup, home = tmp_path / "backup", tmp_path / "home"
    monkeypatch.setenv("VOCATION_HOME", str(old.parent))
    made = CliRunner().invoke(app, ["backup", str(backup)])
    assert made.exit_code == 0, made.output
    assert "schema version 0" in made.stdout
    monkeypatch.setenv("VOCATION_HOME", str(home))
    assert CliRunner().invoke(app, ["restore", str(backup)]).exit_code == 0
    database = Database(f"sqlite:///{home / 'registry.sqlite'}")
    assert _version(database) is None
    database.create_schema()
    assert _version(database) == str(SCHEMA_VERSION)
    with database.read() as reading:
        assert len(occupations.all_examples(reading, "sommelier")) == 2
    database.close()
