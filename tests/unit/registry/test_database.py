from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.domain.errors import StorageUnavailable
from service.registry import generation, occupations
from service.registry.database import Database, parse_time, utc_now
from service.registry.tables import metadata
from tests.support.make import add_occupation, example

_CREATE = """
import sys
from service.registry.database import Database
database = Database(sys.argv[1])
print("loaded", flush=True)
sys.stdin.readline()
database.create_schema()
"""


def test_two_writers_do_not_lose_each_others_changes(database: Database, home: Path) -> None:
    rounds = 25

    def count_up() -> None:
        own = Database(f"sqlite:///{home / 'registry.sqlite'}")
        for _ in range(rounds):
            with own.write() as connection:
                seen = int(generation.get(connection, "counter") or 0)
                generation.put(connection, "counter", str(seen + 1))
        own.close()

    writers = [threading.Thread(target=count_up) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with database.read() as connection:
        assert generation.get(connection, "counter") == str(2 * rounds)


def test_a_reader_is_not_blocked_by_a_writer_and_sees_what_is_committed(
    database: Database, home: Path
) -> None:
    reader = Database(f"sqlite:///{home / 'registry.sqlite'}")
    with database.write() as writing:
        add_occupation(writing, "sommelier")
        with reader.read() as connection:
            assert occupations.list_occupations(connection, 10, None).items == []
    with reader.read() as connection:
        assert len(occupations.list_occupations(connection, 10, None).items) == 1
    reader.close()


def test_the_database_keeps_a_write_ahead_log_and_its_foreign_keys(database: Database) -> None:
    with database.read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "foreign_keys", "synchronous")
        }
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2}


def test_several_processes_create_the_schema_at_once(home: Path) -> None:
    url = f"sqlite:///{home / 'registry.sqlite'}"
    starting = [
        subprocess.Popen(
            [sys.executable, "-c", _CREATE, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in starting:
        assert process.stdout is not None
        assert process.stdout.readline() == "loaded\n"
    for process in starting:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[1] for process in starting] == ["", "", ""]
    assert [process.returncode for process in starting] == [0, 0, 0]
    database = Database(url)
    assert set(sa.inspect(database.engine).get_table_names()) == set(metadata.tables)
    database.close()


def test_creating_the_schema_again_keeps_what_is_there(database: Database) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier")
    database.create_schema()
    with database.read() as connection:
        assert occupations.get_occupation(connection, "sommelier").id == "sommelier"


def test_a_block_that_fails_writes_nothing(database: Database) -> None:
    class Crash(Exception):
        pass

    def write_and_crash() -> None:
        with database.write() as connection:
            add_occupation(connection, "sommelier")
            raise Crash

    with pytest.raises(Crash):
        write_and_crash()
    with database.read() as connection:
        assert occupations.list_occupations(connection, 10, None).items == []


def test_a_database_that_cannot_be_opened_is_storage_unavailable(tmp_path: Path) -> None:
    folder_in_place_of_a_file = Database(f"sqlite:///{tmp_path}")
    with pytest.raises(StorageUnavailable), folder_in_place_of_a_file.write():
        pass


def test_a_storage_error_never_repeats_a_callers_text(tmp_path: Path) -> None:
    without_tables = Database(f"sqlite:///{tmp_path / 'registry.sqlite'}")
    with pytest.raises(StorageUnavailable) as raised, without_tables.write() as connection:
        occupations.put_examples(connection, "sommelier", [example("a private sentence")])
    assert "private" not in raised.value.detail
    without_tables.close()


def test_times_are_read_back_as_they_were_written_in_utc() -> None:
    written = utc_now()
    read = parse_time(written)
    assert read.strftime("%Y-%m-%dT%H:%M:%S.%fZ") == written
    offset = read.utcoffset()
    assert offset is not None
    assert offset.total_seconds() == 0


def test_a_connection_that_has_become_read_only_is_replaced_and_the_write_goes_through(
    database: Database,
) -> None:
    """As SQLite leaves those that it opened on a disk that was read-only for a while."""
    with database.read() as connection:
        connection.exec_driver_sql("PRAGMA query_only=ON")
    with database.write() as connection:
        generation.put(connection, "counter", "1")
    with database.read() as connection:
        assert generation.get(connection, "counter") == "1"
