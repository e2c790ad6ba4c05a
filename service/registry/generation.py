"""The registry's generation: moves whenever what is served may have changed."""

from __future__ import annotations

from sqlalchemy import Connection, Integer, String, cast, insert, select, update

from service.registry.tables import state

_GENERATION = "generation"


def read(connection: Connection) -> int:
    """The generation, 0 before the first change."""
    return int(get(connection, _GENERATION) or 0)


def bump(connection: Connection) -> None:
    """Tell every process that reads the registry to look again."""
    increased = cast(cast(state.c.value, Integer) + 1, String)
    changed = connection.execute(
        update(state).where(state.c.key == _GENERATION).values(value=increased)
    )
    if changed.rowcount == 0:
        connection.execute(insert(state).values(key=_GENERATION, value="1"))


def get(connection: Connection, key: str) -> str | None:
    """A value of the registry's state, None when it was never set."""
    return connection.execute(select(state.c.value).where(state.c.key == key)).scalar_one_or_none()


def put(connection: Connection, key: str, value: str) -> None:
    """Set a value of the registry's state."""
    changed = connection.execute(update(state).where(state.c.key == key).values(value=value))
    if changed.rowcount == 0:
        connection.execute(insert(state).values(key=key, value=value))
