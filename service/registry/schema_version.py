"""The schema version: which tables a registry has, checked before anything is read from it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from service.domain.errors import RegistryTooNew

# Moves with every change of `service.registry.tables`; see `service.registry.migrations`.
SCHEMA_VERSION = 1
# Its key in the table `registry_state`. A registry without it is of version 0.
SCHEMA_VERSION_KEY = "schema_version"
_SQLITE = "sqlite:///"


def refuse_newer(found: int) -> None:
    """Raise RegistryTooNew when a schema version is not known to this release."""
    if found > SCHEMA_VERSION:
        raise RegistryTooNew(
            f"It has schema version {found}, and this release knows versions up to "
            f"{SCHEMA_VERSION}. Install the release that wrote it, or restore a backup that was "
            "made before the upgrade."
        )


def read_schema_version(file: Path) -> int | None:
    """The schema version of a SQLite file, None when it holds no registry.

    Without SQLAlchemy, which takes a start a quarter of a second. Raises sqlite3.Error.
    """
    if not file.is_file():
        return None
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        if not {"registry_state", "versions"} <= tables:
            return None
        found = connection.execute(
            "SELECT value FROM registry_state WHERE key = ?", (SCHEMA_VERSION_KEY,)
        ).fetchone()
    return int(found[0]) if found else 0


def require_known_schema(url: str) -> None:
    """Raise RegistryTooNew when the registry in a SQLite file has a newer schema.

    What cannot be read now, and other databases, are the service's own to report.
    """
    if not url.startswith(_SQLITE):
        return
    try:
        found = read_schema_version(Path(url.removeprefix(_SQLITE)))
    except sqlite3.Error:
        return
    if found is not None:
        refuse_newer(found)
