"""The schema version: which tables a registry has, checked before anything is read from it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from service.domain.errors import RegistryDamaged, RegistryTooNew

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

    Without SQLAlchemy, which takes a start a quarter of a second. Raises sqlite3.Error, a
    DatabaseError for a file that is damaged.
    """
    if not file.is_file():
        return None
    _refuse_truncated(file)
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        if not {"registry_state", "versions"} <= tables:
            return None
        found = connection.execute(
            "SELECT value FROM registry_state WHERE key = ?", (SCHEMA_VERSION_KEY,)
        ).fetchone()
    return int(found[0]) if found else 0


def _refuse_truncated(file: Path) -> None:
    """Raise sqlite3.DatabaseError for a file that is shorter than its header says.

    SQLite itself would notice only when it reads what is missing. Source: the file format,
    sqlite.org/fileformat2.html, section 1.3 (page size at byte 16, pages at byte 28).
    """
    with file.open("rb") as content:
        header = content.read(100)
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        return
    page_bytes = int.from_bytes(header[16:18], "big")
    whole = (65536 if page_bytes == 1 else page_bytes) * int.from_bytes(header[28:32], "big")
    if file.stat().st_size < whole:
        raise sqlite3.DatabaseError("the file is truncated")


def require_known_schema(url: str) -> None:
    """Raise RegistryTooNew for a newer schema, RegistryDamaged for a file that is damaged.

    Of a SQLite file only. What cannot be read now, and other databases, are the service's own to
    report.
    """
    if not url.startswith(_SQLITE):
        return
    try:
        found = read_schema_version(Path(url.removeprefix(_SQLITE)))
    except sqlite3.OperationalError:
        return
    except sqlite3.DatabaseError as error:
        file = url.removeprefix(_SQLITE)
        raise RegistryDamaged(f"{file}: {error}. Restore a backup (vocation restore).") from None
    if found is not None:
        refuse_newer(found)
