from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from service.domain.errors import (
    ExampleNotFound,
    OccupationBusy,
    OccupationNotFound,
    VersionInUse,
    VersionNotFound,
)
from service.domain.types import Example, Method, RegistrationState
from service.registry import erasing, generation, occupations, registrations, versions
from service.registry.database import Database
from service.registry.migrations import SCRUB_PENDING
from tests.support.bytes_at_rest import files_with
from tests.support.make import add_occupation, example

TEXTS = ("Sommelier", "Caviste", "Chef de rang")


@pytest.fixture
def ids(database: Database) -> dict[str, int]:
    """Ids of the examples of an occupation with two versions: of the first two, and of all."""
    with database.write() as connection:
        add_occupation(connection, "sommelier", [example(text) for text in TEXTS])
    _publish(database, [example(text) for text in TEXTS[:2]])
    _publish(database, [example(text) for text in TEXTS])
    return _ids(database)


def _ids(database: Database) -> dict[str, int]:
    with database.read() as connection:
        stored = occupations.all_examples(connection, "sommelier")
    return {str(item.example.experience.text): item.id for item in stored}


def _publish(database: Database, trained_on: Sequence[Example]) -> None:
    with database.write() as connection:
        registration = registrations.insert_registration(connection, "sommelier", Method.HEAD)
        versions.publish(
            connection,
            occupation="sommelier",
            method=Method.HEAD,
            encoder_digest="e" * 64,
            trunk_digest=None,
            artifact_digest="f" * 64,
            manifest={},
            registration=registration,
            promote=True,
            trained_on=[item.experience.digest for item in trained_on],
        )
        registrations.finish(connection, registration, RegistrationState.SUCCEEDED)


def _erase(database: Database, *ids: int) -> list[int]:
    with database.write() as connection:
        return erasing.erase_examples(connection, "sommelier", ids)


def _marks(database: Database) -> dict[int, int]:
    with database.read() as connection:
        page = versions.list_versions(connection, "sommelier", 10, None)
    return {version.number: version.erased_examples for version in page.items}


def test_an_erased_example_is_gone_and_marks_the_versions_that_were_trained_on_it(
    database: Database, ids: dict[str, int]
) -> None:
    assert _erase(database, ids["Chef de rang"]) == [2]
    assert set(_ids(database)) == {"Sommelier", "Caviste"}
    assert _marks(database) == {1: 0, 2: 1}
    assert _erase(database, ids["Sommelier"], ids["Caviste"]) == [1, 2]
    assert _ids(database) == {}
    assert _marks(database) == {1: 2, 2: 3}


def test_the_champion_goes_on_and_processes_look_again(
    database: Database, ids: dict[str, int]
) -> None:
    with database.read() as connection:
        before = generation.read(connection)
    _erase(database, *ids.values())
    with database.read() as connection:
        assert versions.champion_number(connection, "sommelier") == 2
        assert generation.read(connection) > before


def test_a_text_that_is_added_and_erased_again_marks_only_what_was_trained_on_it_since(
    database: Database, ids: dict[str, int]
) -> None:
    _erase(database, ids["Chef de rang"])
    with database.write() as connection:
        occupations.put_examples(connection, "sommelier", [example("Chef de rang")])
    _publish(database, [example("Chef de rang")])
    assert _erase(database, _ids(database)["Chef de rang"]) == [3]
    assert _marks(database) == {1: 0, 2: 1, 3: 1}


def test_no_digest_of_an_erased_text_stays_in_the_registry(
    database: Database, home: Path, ids: dict[str, int]
) -> None:
    digest = example("Caviste").experience.digest.encode()
    _erase(database, ids["Caviste"])
    assert erasing.finish_erasures(database)
    assert files_with(digest, home) == []


def test_nothing_is_erased_where_one_of_the_ids_is_unknown(
    database: Database, ids: dict[str, int]
) -> None:
    with pytest.raises(ExampleNotFound):
        _erase(database, ids["Caviste"], 999)
    assert set(_ids(database)) == set(TEXTS)
    assert _marks(database) == {1: 0, 2: 0}


def test_an_example_of_another_occupation_is_not_found(
    database: Database, ids: dict[str, int]
) -> None:
    with database.write() as connection:
        add_occupation(connection, "serveur", [example("Serveur")])
        with pytest.raises(ExampleNotFound):
            erasing.erase_examples(connection, "serveur", [ids["Caviste"]])
        with pytest.raises(OccupationNotFound):
            erasing.erase_examples(connection, "nothing", [1])


def test_while_a_registration_works_with_the_examples_none_is_erased(
    database: Database, ids: dict[str, int]
) -> None:
    with database.write() as connection:
        running = registrations.insert_registration(connection, "sommelier", Method.AUTO)
    with pytest.raises(OccupationBusy):
        _erase(database, ids["Caviste"])
    assert "Caviste" in _ids(database)
    with database.write() as connection:
        registrations.cancel(connection, running)
    assert _erase(database, ids["Caviste"]) == [1, 2]


def test_a_version_is_erased_unless_it_is_the_champion(
    database: Database, ids: dict[str, int]
) -> None:
    with database.write() as connection:
        with pytest.raises(VersionInUse):
            erasing.erase_version(connection, "sommelier", 2)
        with pytest.raises(VersionNotFound):
            erasing.erase_version(connection, "sommelier", 3)
        erasing.erase_version(connection, "sommelier", 1)
        assert versions.version_numbers_of(connection, "sommelier") == [2]
    # An erasure finds what was trained on the example as before.
    assert _erase(database, ids["Caviste"]) == [2]


def test_no_byte_of_an_erased_text_stays_in_the_files(database: Database, home: Path) -> None:
    """Rows that were corrected to other lengths: SQLite moves cells and leaves copies of them.

    With this seed, `secure_delete` alone leaves one of the texts (SQLite 3.40).
    """
    shuffle = random.Random(2)  # noqa: S311  # a fixed order, nothing secret
    marks = [f"MARK{number:05}Q" for number in range(600)]

    def padded(mark: str) -> Example:
        # White space does not make another example.
        return example(f"{mark}{' ' * shuffle.randrange(2500)} {mark}")

    with database.write() as connection:
        add_occupation(connection, "sommelier", [padded(mark) for mark in marks])
    corrected = [padded(mark) for mark in shuffle.sample(marks, 300)]
    with database.write() as connection:
        occupations.put_examples(connection, "sommelier", corrected)
        stored = occupations.all_examples(connection, "sommelier")
    erased = shuffle.sample(stored, 150)
    with database.write() as connection:
        erasing.erase_examples(connection, "sommelier", [item.id for item in erased])
    assert erasing.finish_erasures(database)
    left = {text.split()[0] for text in _ids(database)}
    content = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert len(left) == 450
    assert {mark for mark in marks if mark.encode() in content} == left


def test_what_a_killed_process_has_erased_is_scrubbed_by_the_next(
    database: Database, home: Path, ids: dict[str, int]
) -> None:
    _erase(database, ids["Chef de rang"])
    # Nobody has called finish_erasures: the write-ahead log holds the page with the text.
    assert files_with(b"Chef de rang", home)
    with database.read() as connection:
        assert generation.get(connection, SCRUB_PENDING) is not None
    assert erasing.finish_erasures(database)
    assert files_with(b"Chef de rang", home) == []
    with database.read() as connection:
        assert generation.get(connection, SCRUB_PENDING) is None


def test_a_scrub_that_meets_a_reader_is_tried_again(
    database: Database, home: Path, ids: dict[str, int]
) -> None:
    _erase(database, ids["Chef de rang"])
    with closing(sqlite3.connect(home / "registry.sqlite", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM examples").fetchone()
        assert not erasing.finish_erasures(database)
    assert erasing.finish_erasures(database)
    assert files_with(b"Chef de rang", home) == []


def test_where_nothing_was_erased_nothing_is_written_anew(database: Database, home: Path) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier")
    before = (home / "registry.sqlite").read_bytes()
    assert erasing.finish_erasures(database)
    assert (home / "registry.sqlite").read_bytes() == before
