"""Keys for tests: made as the command makes them, in a registry of the test's own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from service.domain.keys import Key, KeyScope, NewKey, make_key
from service.registry import keys
from service.registry.database import Database, parse_time, utc_now


def add_key(database: Database, name: str, *scopes: KeyScope, **options: Any) -> str:
    """Add a key to the registry and return its text; the options are those of ``insert_key``."""
    new = make_key()
    with database.write() as connection:
        keys.insert_key(connection, new, name=name, scopes=scopes, **options)
    return new.text


def known_key(
    new: NewKey,
    *scopes: KeyScope,
    name: str = "bot",
    expires_at: datetime | None = None,
    revoked_at: datetime | None = None,
    requests_per_minute: int | None = None,
) -> Key:
    """A key as the registry would list it."""
    return Key(
        id=new.id,
        name=name,
        scopes=frozenset(scopes or {KeyScope.CLASSIFY}),
        secret_digest=new.secret_digest,
        created_at=parse_time(utc_now()),
        expires_at=expires_at,
        revoked_at=revoked_at,
        requests_per_minute=requests_per_minute,
    )


def bearer(text: str) -> dict[str, str]:
    """The header that presents a key."""
    return {"Authorization": f"Bearer {text}"}
