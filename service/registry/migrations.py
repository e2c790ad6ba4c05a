"""Schema versions: an older registry is brought up to date step by step, a newer one refused."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, inspect

from service.registry import generation
from service.registry.schema_version import SCHEMA_VERSION, SCHEMA_VERSION_KEY, refuse_newer
from service.registry.tables import metadata, versions

# Set with every erasure; taken away when nothing that was erased is left in the file.
SCRUB_PENDING = "scrub_pending"


def up_to_date(connection: Connection) -> bool:
    """Whether a registry has this release's schema; raises RegistryTooNew for a newer one."""
    existing = set(inspect(connection).get_table_names())
    if versions.name not in existing:
        return False
    found = _found(connection)
    refuse_newer(found)
    return found == SCHEMA_VERSION and metadata.tables.keys() <= existing


def bring_up_to_date(connection: Connection) -> None:
    """Create a registry, or migrate it, all in the transaction of the caller.

    Raises RegistryTooNew for a newer one.
    """
    if versions.name in inspect(connection).get_table_names():
        found = _found(connection)
        refuse_newer(found)
        for step in _STEPS[found:]:
            step(connection)
    # A new registry's tables, and those of version 0, which some of its registries lack.
    metadata.create_all(connection)
    generation.put(connection, SCHEMA_VERSION_KEY, str(SCHEMA_VERSION))


def _found(connection: Connection) -> int:
    return int(generation.get(connection, SCHEMA_VERSION_KEY) or 0)


def _mark_erasures(connection: Connection) -> None:
    """From 0 to 1: what versions were trained on, how much of it was erased, what was suggested."""
    # As the tables were at this step: later releases change what `service.registry.tables` says.
    connection.exec_driver_sql(
        "ALTER TABLE versions ADD COLUMN erased_examples INTEGER DEFAULT '0' NOT NULL"
    )
    connection.exec_driver_sql(
        "CREATE TABLE version_examples (occupation VARCHAR(64) NOT NULL, number INTEGER NOT NULL, "
        "digest VARCHAR(64) NOT NULL, PRIMARY KEY (occupation, number, digest), "
        "FOREIGN KEY (occupation, number) REFERENCES versions (occupation, number) "
        "ON DELETE CASCADE)"
    )
    connection.exec_driver_sql(
        "ALTER TABLE examples ADD COLUMN suggested BOOLEAN DEFAULT '0' NOT NULL"
    )
    # What was there when a version was published: it may be more than the version was trained on,
    # but never less of what researchers sent.
    connection.exec_driver_sql(
        "INSERT INTO version_examples (occupation, number, digest) "
        "SELECT versions.occupation, versions.number, examples.digest "
        "FROM versions JOIN examples ON examples.occupation = versions.occupation "
        "WHERE examples.created_at <= versions.created_at"
    )
    # What was deleted before may still stand in unused parts of the file.
    generation.put(connection, SCRUB_PENDING, "schema version 1")


# The step at index n goes from version n to n + 1.
_STEPS: tuple[Callable[[Connection], None], ...] = (_mark_erasures,)
