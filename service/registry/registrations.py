"""Registrations: the durable jobs' visible state, and idempotency keys."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from service.domain.errors import (
    IdempotencyKeyReused,
    RegistrationFinished,
    RegistrationNotFound,
)
from service.domain.types import Method, PublishedVersion, Registration, RegistrationState, Stage
from service.registry.database import parse_time, utc_now
from service.registry.pages import Page, decode_cursor, encode_cursor
from service.registry.tables import aliases, idempotency_keys, registrations, versions
from service.registry.versions import CHAMPION

ACTIVE = (RegistrationState.QUEUED.value, RegistrationState.RUNNING.value)


def insert_registration(connection: Connection, occupation: str, method: Method) -> str:
    """Add a queued registration and return its id; ids sort by the time of their making."""
    now = utc_now()
    id = f"{re.sub('[^0-9]', '', now)}-{uuid.uuid4().hex[:12]}"
    connection.execute(
        insert(registrations).values(
            id=id,
            occupation=occupation,
            method=method.value,
            state=RegistrationState.QUEUED.value,
            stage=None,
            progress=0.0,
            error=None,
            created_at=now,
            updated_at=now,
        )
    )
    return id


def advance(connection: Connection, id: str, stage: Stage, progress: float) -> bool:
    """Mark a registration as running a stage; False when it has finished (or was cancelled)."""
    changed = connection.execute(
        update(registrations)
        .where(registrations.c.id == id, registrations.c.state.in_(ACTIVE))
        .values(
            state=RegistrationState.RUNNING.value,
            stage=stage.value,
            progress=progress,
            updated_at=utc_now(),
        )
    )
    return changed.rowcount == 1


def finish(
    connection: Connection,
    id: str,
    state: RegistrationState,
    error: Mapping[str, Any] | None = None,
) -> bool:
    """End an active registration; False when it had ended before."""
    values: dict[str, Any] = {
        "state": state.value,
        "error": dict(error) if error is not None else None,
        "updated_at": utc_now(),
    }
    if state is RegistrationState.SUCCEEDED:
        values["progress"] = 1.0
    changed = connection.execute(
        update(registrations)
        .where(registrations.c.id == id, registrations.c.state.in_(ACTIVE))
        .values(**values)
    )
    return changed.rowcount == 1


def cancel(connection: Connection, id: str) -> None:
    """Cancel a registration; raises RegistrationNotFound or RegistrationFinished."""
    get_registration(connection, id)
    if not finish(connection, id, RegistrationState.CANCELLED):
        raise RegistrationFinished("The registration has finished; there is nothing to cancel.")


def cancel_occupation(connection: Connection, occupation: str) -> list[str]:
    """Cancel every active registration of an occupation; returns their ids."""
    active = active_ids(connection, occupation)
    for id in active:
        finish(connection, id, RegistrationState.CANCELLED)
    return active


def active_ids(connection: Connection, occupation: str | None = None) -> list[str]:
    """Ids of the registrations that are queued or running, oldest first."""
    query = select(registrations.c.id).where(registrations.c.state.in_(ACTIVE))
    if occupation is not None:
        query = query.where(registrations.c.occupation == occupation)
    return list(connection.execute(query.order_by(registrations.c.id)).scalars())


def is_active(connection: Connection, id: str) -> bool:
    """Whether a registration may still publish."""
    found = connection.execute(
        select(registrations.c.id).where(
            registrations.c.id == id, registrations.c.state.in_(ACTIVE)
        )
    ).one_or_none()
    return found is not None


def get_registration(connection: Connection, id: str) -> Registration:
    """One registration with what it published; raises RegistrationNotFound."""
    row = connection.execute(select(registrations).where(registrations.c.id == id)).one_or_none()
    if row is None:
        raise RegistrationNotFound("No registration has this id.")
    return _registration(row, _published(connection, [id]).get(id, ()))


def list_registrations(
    connection: Connection,
    limit: int,
    cursor: str | None,
    state: RegistrationState | None = None,
    occupation: str | None = None,
) -> Page[Registration]:
    """Registrations, the newest first."""
    query = select(registrations).order_by(registrations.c.id.desc()).limit(limit + 1)
    if state is not None:
        query = query.where(registrations.c.state == state.value)
    if occupation is not None:
        query = query.where(registrations.c.occupation == occupation)
    if cursor is not None:
        query = query.where(registrations.c.id < decode_cursor(cursor, str))
    rows = connection.execute(query).all()
    published = _published(connection, [row.id for row in rows[:limit]])
    return Page(
        [_registration(row, published.get(row.id, ())) for row in rows[:limit]],
        encode_cursor(rows[limit - 1].id) if len(rows) > limit else None,
    )


def count_by_state(connection: Connection) -> dict[RegistrationState, int]:
    """How many registrations are in each state, zeros included."""
    rows = connection.execute(
        select(registrations.c.state, func.count()).group_by(registrations.c.state)
    )
    counts = {row[0]: row[1] for row in rows}
    return {state: counts.get(state.value, 0) for state in RegistrationState}


def find_idempotent(
    connection: Connection, key: str, route: str, body_digest: str
) -> Registration | None:
    """The registration that the same key and body made before.

    Raises IdempotencyKeyReused when the key came with another body.
    """
    row = connection.execute(
        select(idempotency_keys).where(
            idempotency_keys.c.key == key, idempotency_keys.c.route == route
        )
    ).one_or_none()
    if row is None:
        return None
    if row.body_digest != body_digest:
        raise IdempotencyKeyReused("This Idempotency-Key was used with another body.")
    return get_registration(connection, row.registration)


def remember_idempotent(
    connection: Connection, key: str, route: str, body_digest: str, registration: str
) -> None:
    """Bind an idempotency key to the registration it made."""
    connection.execute(
        insert(idempotency_keys).values(
            key=key,
            route=route,
            body_digest=body_digest,
            registration=registration,
            created_at=utc_now(),
        )
    )


def _published(
    connection: Connection, ids: Sequence[str]
) -> dict[str, tuple[PublishedVersion, ...]]:
    rows = connection.execute(
        select(
            versions.c.registration,
            versions.c.number,
            versions.c.method,
            (aliases.c.number == versions.c.number).label("champion"),
        )
        .outerjoin(
            aliases,
            (aliases.c.occupation == versions.c.occupation) & (aliases.c.alias == CHAMPION),
        )
        .where(versions.c.registration.in_(list(ids)))
        .order_by(versions.c.number)
    )
    published: dict[str, tuple[PublishedVersion, ...]] = {}
    for row in rows:
        version = PublishedVersion(row.number, Method(row.method), bool(row.champion))
        published[row.registration] = (*published.get(row.registration, ()), version)
    return published


def _registration(row: Row[Any], published: tuple[PublishedVersion, ...]) -> Registration:
    return Registration(
        id=row.id,
        occupation=row.occupation,
        method=Method(row.method),
        state=RegistrationState(row.state),
        stage=Stage(row.stage) if row.stage else None,
        progress=row.progress,
        error=row.error,
        created_at=parse_time(row.created_at),
        updated_at=parse_time(row.updated_at),
        versions=published,
    )


def time_out(connection: Connection, id: str) -> None:
    """Fail a registration whose workflow was given up before it could say so itself."""
    problem = {
        "type": "urn:vocation:problem:training_timed_out",
        "title": "Training took too long",
        "status": 500,
        "detail": "The registration was stopped at its deadline or after too many crashes.",
        "code": "training_timed_out",
    }
    finish(connection, id, RegistrationState.FAILED, problem)
