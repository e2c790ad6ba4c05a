from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.domain.errors import KeyExists, KeyNotFound
from service.domain.keys import Key, KeyScope, make_key
from service.registry import generation, keys
from service.registry.database import Database
from tests.support.keys import add_key


def listed(database: Database) -> dict[str, Key]:
    with database.read() as connection:
        return {key.name: key for key in keys.list_keys(connection)}


def at(database: Database) -> int:
    with database.read() as connection:
        return generation.read(connection)


def test_a_key_is_read_back_as_it_was_written(database: Database) -> None:
    new = make_key()
    expires_at = datetime.now(UTC) + timedelta(days=3)
    before = datetime.now(UTC)
    with database.write() as connection:
        keys.insert_key(
            connection,
            new,
            name="bot",
            scopes=[KeyScope.REGISTER, KeyScope.CLASSIFY, KeyScope.REGISTER],
            expires_at=expires_at,
            requests_per_minute=600,
        )
    key = listed(database)["bot"]
    assert before <= key.created_at <= datetime.now(UTC)
    assert key == Key(
        id=new.id,
        name="bot",
        scopes=frozenset({KeyScope.CLASSIFY, KeyScope.REGISTER}),
        secret_digest=new.secret_digest,
        created_at=key.created_at,
        expires_at=expires_at,
        revoked_at=None,
        requests_per_minute=600,
    )


def test_a_key_needs_neither_an_end_nor_a_limit(database: Database) -> None:
    add_key(database, "bot", KeyScope.CLASSIFY)
    key = listed(database)["bot"]
    assert (key.expires_at, key.revoked_at, key.requests_per_minute) == (None, None, None)


def test_an_expiry_in_another_zone_is_the_same_moment(database: Database) -> None:
    from_paris = datetime.fromisoformat("2031-07-01T12:00:00+02:00")
    add_key(database, "bot", KeyScope.CLASSIFY, expires_at=from_paris)
    assert listed(database)["bot"].expires_at == from_paris


def test_the_file_holds_no_secret(database: Database, home: Path) -> None:
    text = add_key(database, "bot", KeyScope.ADMIN)
    stored = b"".join(path.read_bytes() for path in home.iterdir() if path.is_file())
    assert b"bot" in stored
    assert text[13:].encode() not in stored
    assert text.encode() not in stored


def test_a_name_is_given_once_even_after_its_key_is_revoked(database: Database) -> None:
    add_key(database, "bot", KeyScope.CLASSIFY)
    with pytest.raises(KeyExists):
        add_key(database, "bot", KeyScope.ADMIN)
    with database.write() as connection:
        keys.revoke_key(connection, "bot")
    with pytest.raises(KeyExists):
        add_key(database, "bot", KeyScope.ADMIN)
    assert listed(database)["bot"].scopes == {KeyScope.CLASSIFY}


@pytest.mark.parametrize("named_by", ["name", "id"])
def test_a_key_is_revoked_by_its_name_or_its_id_and_no_other_with_it(
    database: Database, named_by: str
) -> None:
    text = add_key(database, "bot", KeyScope.CLASSIFY)
    add_key(database, "other", KeyScope.CLASSIFY)
    with database.write() as connection:
        revoked = keys.revoke_key(connection, "bot" if named_by == "name" else text[4:12])
    assert revoked.name == "bot"
    assert listed(database)["bot"].revoked_at == revoked.revoked_at is not None
    assert listed(database)["other"].revoked_at is None


def test_revoking_again_keeps_the_first_time(database: Database) -> None:
    add_key(database, "bot", KeyScope.CLASSIFY)
    with database.write() as connection:
        first = keys.revoke_key(connection, "bot").revoked_at
        assert keys.revoke_key(connection, "bot").revoked_at == first


def test_a_name_that_is_another_keys_id_revokes_neither(database: Database) -> None:
    text = add_key(database, "bot", KeyScope.CLASSIFY)
    add_key(database, text[4:12], KeyScope.CLASSIFY)
    with pytest.raises(KeyNotFound), database.write() as connection:
        keys.revoke_key(connection, text[4:12])
    assert all(key.revoked_at is None for key in listed(database).values())


def test_a_key_that_is_not_there_cannot_be_revoked(database: Database) -> None:
    with pytest.raises(KeyNotFound), database.write() as connection:
        keys.revoke_key(connection, "nobody")


def test_creating_and_revoking_move_the_generation_that_processes_follow(
    database: Database,
) -> None:
    first = at(database)
    add_key(database, "bot", KeyScope.CLASSIFY)
    second = at(database)
    with database.write() as connection:
        keys.revoke_key(connection, "bot")
    assert first < second < at(database)


def test_a_revoked_key_still_says_that_there_are_keys(database: Database) -> None:
    with database.read() as connection:
        assert not keys.any_key(connection)
    add_key(database, "bot", KeyScope.CLASSIFY)
    with database.write() as connection:
        keys.revoke_key(connection, "bot")
        assert keys.any_key(connection)
