"""Erasing examples for good: their rows, what marks them in versions, and their bytes."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, select, update

from service.domain.errors import ExampleNotFound, OccupationBusy, VersionInUse
from service.registry import generation, occupations, registrations, versions
from service.registry.database import Database, utc_now
from service.registry.migrations import SCRUB_PENDING
from service.registry.tables import examples, state, version_examples
from service.registry.tables import versions as versions_table


def erase_examples(connection: Connection, occupation: str, ids: Sequence[int]) -> list[int]:
    """Erase examples by their ids, and mark the versions that were trained on them.

    Returns the numbers of those versions; they go on answering. Call :func:`finish_erasures`
    after the transaction. Raises OccupationNotFound, ExampleNotFound, or OccupationBusy while a
    registration works with the examples.
    """
    occupations.get_occupation(connection, occupation)
    _refuse_busy(connection, occupation)
    chosen = (examples.c.occupation == occupation) & examples.c.id.in_(set(ids))
    digests = list(connection.execute(select(examples.c.digest).where(chosen)).scalars())
    if len(digests) != len(set(ids)):
        raise ExampleNotFound("The occupation has no example with this id.")
    marked = _mark_versions(connection, occupation, digests)
    connection.execute(delete(examples).where(chosen))
    occupations.update_occupation(connection, occupation)
    ask_for_scrub(connection)
    return marked


def erase_version(connection: Connection, occupation: str, number: int) -> None:
    """Remove a version, so that its artifacts go at the next start.

    Raises VersionNotFound, VersionInUse for the champion, or OccupationBusy while a registration
    compares with what is published.
    """
    versions.get_version(connection, occupation, number)
    if versions.champion_number(connection, occupation) == number:
        raise VersionInUse("This version is the champion: promote another one first.")
    _refuse_busy(connection, occupation)
    versions.remove(connection, occupation, number)
    ask_for_scrub(connection)


def ask_for_scrub(connection: Connection) -> None:
    """Remember that deleted rows may still be readable in the database's files."""
    generation.put(connection, SCRUB_PENDING, utc_now())


def finish_erasures(database: Database) -> bool:
    """Leave no byte of what was erased in the database's files; False when it must be tried again.

    Nothing to do is True. A process that was killed after an erasure leaves this to the Trainer.
    """
    with database.read() as connection:
        pending = generation.get(connection, SCRUB_PENDING)
    if pending is None:
        return True
    if not database.scrub():
        return False
    with database.write() as connection:
        # Another erasure may have come in between: that one is still to do.
        connection.execute(
            delete(state).where(state.c.key == SCRUB_PENDING, state.c.value == pending)
        )
    return True


def _refuse_busy(connection: Connection, occupation: str) -> None:
    if registrations.active_ids(connection, occupation):
        raise OccupationBusy(
            "A registration of this occupation is queued or running. Wait until it has ended, or "
            "cancel it first."
        )


def _mark_versions(connection: Connection, occupation: str, digests: Sequence[str]) -> list[int]:
    erased = (version_examples.c.occupation == occupation) & version_examples.c.digest.in_(digests)
    rows = connection.execute(
        select(version_examples.c.number, func.count())
        .where(erased)
        .group_by(version_examples.c.number)
        .order_by(version_examples.c.number)
    ).all()
    for number, count in rows:
        connection.execute(
            update(versions_table)
            .where(versions_table.c.occupation == occupation, versions_table.c.number == number)
            .values(erased_examples=versions_table.c.erased_examples + count)
        )
    connection.execute(delete(version_examples).where(erased))
    return [row[0] for row in rows]
