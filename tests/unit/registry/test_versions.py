from __future__ import annotations

import pytest
from sqlalchemy import Connection

from service.domain.errors import OccupationNotFound, VersionNotFound
from service.domain.types import Method
from service.registry import generation, occupations, versions
from service.registry.database import Database
from tests.support.make import add_occupation


def _publish(
    connection: Connection,
    registration: str,
    *,
    occupation: str = "sommelier",
    method: Method = Method.HEAD,
    promote: bool = True,
) -> int:
    return versions.publish(
        connection,
        occupation=occupation,
        method=method,
        encoder_digest="e" * 64,
        trunk_digest=None,
        artifact_digest="a" * 64,
        manifest={"data": {"digest": registration}},
        registration=registration,
        promote=promote,
    )


def test_versions_are_numbered_from_one_upwards_for_each_occupation(database: Database) -> None:
    with database.write() as connection:
        add_occupation(connection, "chef")
        add_occupation(connection, "sommelier")
        numbers = [_publish(connection, f"r{n}") for n in range(3)]
        assert numbers == [1, 2, 3]
        assert _publish(connection, "other", occupation="chef") == 1


def test_a_number_is_never_given_twice_even_after_a_deletion(database: Database) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier")
        _publish(connection, "r1")
        _publish(connection, "r2")
        occupations.delete_occupation(connection, "sommelier")
        add_occupation(connection, "sommelier")
        assert versions.version_numbers_of(connection, "sommelier") == []
        assert _publish(connection, "r3") == 3


def test_a_stage_that_runs_again_after_a_crash_publishes_once(database: Database) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier")
        first = _publish(connection, "r1")
    with database.write() as connection:
        assert _publish(connection, "r1") == first
        assert versions.version_numbers_of(connection, "sommelier") == [first]


def test_one_registration_may_publish_one_version_of_each_method(database: Database) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier")
        numbers = [_publish(connection, "r1", method=m) for m in (Method.HEAD, Method.SETFIT)]
    assert numbers == [1, 2]


def test_nothing_is_published_for_a_deleted_occupation(database: Database) -> None:
    with pytest.raises(OccupationNotFound), database.write() as connection:
        _publish(connection, "r1")


def test_the_champion_moves_only_to_versions_that_exist(database: Database) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier")
        assert versions.champion_number(connection, "sommelier") is None
        _publish(connection, "r1")
        _publish(connection, "r2", promote=False)
        assert versions.champion_number(connection, "sommelier") == 1
        versions.set_champion(connection, "sommelier", 2)
        assert [v.number for v in versions.champions(connection)] == [2]
        with pytest.raises(VersionNotFound):
            versions.set_champion(connection, "sommelier", 3)
        assert versions.champion_number(connection, "sommelier") == 2


def test_publishing_and_promoting_move_the_generation(database: Database) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier")
        seen = [generation.read(connection)]
        _publish(connection, "r1", promote=False)
        seen.append(generation.read(connection))
        versions.set_champion(connection, "sommelier", 1)
        seen.append(generation.read(connection))
    assert seen == sorted(set(seen))


def test_a_version_is_read_back_as_it_was_published(database: Database) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier")
        _publish(connection, "r1")
        version = versions.get_version(connection, "sommelier", 1)
        assert versions.referenced_artifacts(connection) == {"e" * 64, "a" * 64}
    assert version.manifest == {"data": {"digest": "r1"}}
    assert (version.encoder_digest, version.artifact_digest) == ("e" * 64, "a" * 64)
    assert (version.method, version.registration) == (Method.HEAD, "r1")


def test_champions_are_the_promoted_version_of_each_occupation(database: Database) -> None:
    with database.write() as connection:
        for id in ("sommelier", "chef", "untrained"):
            add_occupation(connection, id)
        _publish(connection, "r1")
        _publish(connection, "r2", occupation="chef")
        found = [(v.occupation, v.number) for v in versions.champions(connection)]
        assert found == [("chef", 1), ("sommelier", 1)]
        assert versions.occupation_ids(connection) == {"sommelier", "chef", "untrained"}
