"""Everything that a registry holds about one occupation, as one JSON document."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, select

from service.registry import occupations as stored_occupations
from service.registry.database import utc_now
from service.registry.tables import aliases, examples, occupations, registrations, versions

EXPORT_FORMAT = 1


def export_occupation(connection: Connection, id: str) -> dict[str, Any]:
    """An occupation's record, examples, versions with manifests, aliases and registrations.

    Examples have every field, with their label, origin and times. Raises OccupationNotFound.
    """
    stored_occupations.get_occupation(connection, id)
    return {
        "format": EXPORT_FORMAT,
        "exported_at": utc_now(),
        "occupation": _rows(connection, occupations, "id", id)[0],
        "examples": _rows(connection, examples, "occupation", id),
        "versions": _rows(connection, versions, "occupation", id),
        "aliases": _rows(connection, aliases, "occupation", id),
        "registrations": _rows(connection, registrations, "occupation", id),
    }


def _rows(connection: Connection, table: Table, column: str, id: str) -> list[dict[str, Any]]:
    query = select(table).where(table.c[column] == id).order_by(*table.primary_key)
    return [dict(row) for row in connection.execute(query).mappings()]
