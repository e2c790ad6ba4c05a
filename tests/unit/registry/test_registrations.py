from __future__ import annotations

import pytest
from sqlalchemy import Connection

from service.domain.errors import (
    IdempotencyKeyReused,
    RegistrationFinished,
    RegistrationNotFound,
)
from service.domain.types import Method, PublishedVersion, RegistrationState, Stage
from service.registry import registrations, versions
from service.registry.database import Database
from tests.support.make import add_occupation

_ENDS = (RegistrationState.SUCCEEDED, RegistrationState.FAILED, RegistrationState.CANCELLED)


def _queued(connection: Connection, occupation: str = "sommelier") -> str:
    return registrations.insert_registration(connection, occupation, Method.HEAD)


def test_a_registration_begins_queued_without_stage(database: Database) -> None:
    with database.write() as connection:
        made = registrations.get_registration(connection, _queued(connection))
    assert (made.state, made.stage, made.progress) == (RegistrationState.QUEUED, None, 0.0)
    assert (made.error, made.versions) == (None, ())


def test_a_registration_advances_through_stages_to_success(database: Database) -> None:
    with database.write() as connection:
        id = _queued(connection)
        assert registrations.advance(connection, id, Stage.HEAD, 0.1)
        running = registrations.get_registration(connection, id)
        assert registrations.finish(connection, id, RegistrationState.SUCCEEDED)
        done = registrations.get_registration(connection, id)
    assert (running.state, running.stage, running.progress) == (
        RegistrationState.RUNNING,
        Stage.HEAD,
        0.1,
    )
    assert (done.state, done.progress) == (RegistrationState.SUCCEEDED, 1.0)
    assert done.updated_at >= done.created_at


def test_a_failure_keeps_its_problem_and_how_far_it_came(database: Database) -> None:
    with database.write() as connection:
        id = _queued(connection)
        registrations.advance(connection, id, Stage.TRAIN, 0.4)
        registrations.finish(connection, id, RegistrationState.FAILED, {"code": "training_failed"})
        failed = registrations.get_registration(connection, id)
    assert failed.error == {"code": "training_failed"}
    assert (failed.stage, failed.progress) == (Stage.TRAIN, 0.4)


@pytest.mark.parametrize("end", _ENDS)
def test_nothing_changes_a_registration_that_has_ended(
    database: Database, end: RegistrationState
) -> None:
    with database.write() as connection:
        id = _queued(connection)
        registrations.finish(connection, id, end)
        ended = registrations.get_registration(connection, id)
        assert not registrations.is_active(connection, id)
        assert not registrations.advance(connection, id, Stage.HEAD, 0.5)
        for other in _ENDS:
            assert not registrations.finish(connection, id, other)
        with pytest.raises(RegistrationFinished):
            registrations.cancel(connection, id)
        assert registrations.get_registration(connection, id) == ended


@pytest.mark.parametrize("running", [False, True])
def test_a_queued_or_running_registration_can_be_cancelled(
    database: Database, *, running: bool
) -> None:
    with database.write() as connection:
        id = _queued(connection)
        if running:
            registrations.advance(connection, id, Stage.HEAD, 0.1)
        registrations.cancel(connection, id)
        cancelled = registrations.get_registration(connection, id)
    assert cancelled.state is RegistrationState.CANCELLED


def test_an_unknown_registration_is_not_found(database: Database) -> None:
    with database.write() as connection:
        with pytest.raises(RegistrationNotFound):
            registrations.get_registration(connection, "nothing")
        with pytest.raises(RegistrationNotFound):
            registrations.cancel(connection, "nothing")


def test_cancelling_an_occupation_leaves_the_others_registrations_alone(
    database: Database,
) -> None:
    with database.write() as connection:
        mine = [_queued(connection), _queued(connection)]
        ended = _queued(connection)
        registrations.finish(connection, ended, RegistrationState.SUCCEEDED)
        other = _queued(connection, "chef")
        assert sorted(registrations.cancel_occupation(connection, "sommelier")) == sorted(mine)
        assert registrations.active_ids(connection) == [other]


def test_a_registration_tells_what_it_published_and_what_is_champion_now(
    database: Database,
) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier")
        ids = [_queued(connection), _queued(connection)]
        for id in ids:
            versions.publish(
                connection,
                occupation="sommelier",
                method=Method.HEAD,
                encoder_digest="e",
                trunk_digest=None,
                artifact_digest="a",
                manifest={},
                registration=id,
                promote=True,
            )
        told = [registrations.get_registration(connection, id).versions for id in ids]
    assert told == [
        (PublishedVersion(1, Method.HEAD, champion=False),),
        (PublishedVersion(2, Method.HEAD, champion=True),),
    ]


def test_registrations_are_counted_by_state_with_zeros(database: Database) -> None:
    with database.write() as connection:
        _queued(connection)
        registrations.advance(connection, _queued(connection), Stage.HEAD, 0.1)
        counts = registrations.count_by_state(connection)
    assert counts == {
        RegistrationState.QUEUED: 1,
        RegistrationState.RUNNING: 1,
        RegistrationState.SUCCEEDED: 0,
        RegistrationState.FAILED: 0,
        RegistrationState.CANCELLED: 0,
    }


def test_registrations_are_listed_the_newest_first(database: Database) -> None:
    with database.write() as connection:
        made = [_queued(connection) for _ in range(12)]
        listed = registrations.list_registrations(connection, 100, None)
        active = registrations.active_ids(connection)
    assert [item.id for item in listed.items] == made[::-1]
    assert active == made


def test_registrations_are_listed_by_state_and_occupation(database: Database) -> None:
    with database.write() as connection:
        mine, other = _queued(connection), _queued(connection, "chef")
        registrations.finish(connection, other, RegistrationState.FAILED)
        by_state = registrations.list_registrations(
            connection, 10, None, state=RegistrationState.FAILED
        )
        by_occupation = registrations.list_registrations(
            connection, 10, None, occupation="sommelier"
        )
    assert [item.id for item in by_state.items] == [other]
    assert [item.id for item in by_occupation.items] == [mine]


def test_one_key_and_body_name_one_registration(database: Database) -> None:
    with database.write() as connection:
        assert registrations.find_idempotent(connection, "key", "/route", "body") is None
        id = _queued(connection)
        registrations.remember_idempotent(connection, "key", "/route", "body", id)
        found = registrations.find_idempotent(connection, "key", "/route", "body")
    assert found is not None
    assert found.id == id


def test_a_key_with_another_body_is_refused_and_on_another_route_is_another_key(
    database: Database,
) -> None:
    with database.write() as connection:
        id = _queued(connection)
        registrations.remember_idempotent(connection, "key", "/route", "body", id)
        with pytest.raises(IdempotencyKeyReused):
            registrations.find_idempotent(connection, "key", "/route", "other body")
        assert registrations.find_idempotent(connection, "key", "/other", "other body") is None


def test_a_registration_that_was_given_up_fails_unless_it_has_ended(database: Database) -> None:
    with database.write() as connection:
        running, ended = _queued(connection), _queued(connection)
        registrations.finish(connection, ended, RegistrationState.SUCCEEDED)
        for id in (running, ended):
            registrations.time_out(connection, id)
        states = [registrations.get_registration(connection, id) for id in (running, ended)]
    assert states[0].state is RegistrationState.FAILED
    assert states[0].error is not None
    assert states[0].error["code"] == "training_timed_out"
    assert states[1].state is RegistrationState.SUCCEEDED
