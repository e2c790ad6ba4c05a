"""Keys in the registry: who may call, by the digest of a secret that is stored nowhere."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from service.domain.errors import KeyExists, KeyNotFound
from service.domain.keys import Key, KeyScope, NewKey
from service.registry import generation
from service.registry.database import parse_time, utc_now
from service.registry.tables import keys


def insert_key(
    connection: Connection,
    new: NewKey,
    *,
    name: str,
    scopes: Iterable[KeyScope],
    expires_at: datetime | None = None,
    requests_per_minute: int | None = None,
) -> None:
    """Add a key, in force in every process once it follows; raises KeyExists."""
    try:
        connection.execute(
            insert(keys).values(
                id=new.id,
                name=name,
                scopes=",".join(sorted(set(scopes))),
                secret_digest=new.secret_digest.hex(),
                created_at=utc_now(),
                expires_at=None if expires_at is None else _stored(expires_at),
                requests_per_minute=requests_per_minute,
            )
        )
    except IntegrityError:
        raise KeyExists("A key has this name; a name is given once, revoked or not.") from None
    generation.bump(connection)


def list_keys(connection: Connection) -> list[Key]:
    """Every key there ever was, the oldest first."""
    rows = connection.execute(select(keys).order_by(keys.c.created_at, keys.c.id))
    return [_key(row) for row in rows]


def any_key(connection: Connection) -> bool:
    """Whether a key was ever created; a revoked or expired one counts."""
    return connection.execute(select(keys.c.id).limit(1)).first() is not None


def revoke_key(connection: Connection, name_or_id: str) -> Key:
    """Revoke a key for ever and return it; one that was revoked before keeps its time.

    Raises KeyNotFound when there is none, or when one key's name is another one's id.
    """
    asked = or_(keys.c.name == name_or_id, keys.c.id == name_or_id)
    found = connection.execute(select(keys.c.id).where(asked)).scalars().all()
    if not found:
        raise KeyNotFound("No key has this name or id.")
    if len(found) > 1:
        raise KeyNotFound("This is the name of one key and the id of another: give the other one.")
    unrevoked = (keys.c.id == found[0]) & keys.c.revoked_at.is_(None)
    connection.execute(update(keys).where(unrevoked).values(revoked_at=utc_now()))
    generation.bump(connection)
    return _key(connection.execute(select(keys).where(keys.c.id == found[0])).one())


def _stored(time: datetime) -> str:
    # As utc_now writes it.
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _key(row: Row[Any]) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        scopes=frozenset(KeyScope(scope) for scope in row.scopes.split(",")),
        secret_digest=bytes.fromhex(row.secret_digest),
        created_at=parse_time(row.created_at),
        expires_at=None if row.expires_at is None else parse_time(row.expires_at),
        revoked_at=None if row.revoked_at is None else parse_time(row.revoked_at),
        requests_per_minute=row.requests_per_minute,
    )
