"""Versions and the champion alias that says which of them answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from service.domain.errors import OccupationNotFound, VersionNotFound
from service.domain.types import Method, ModelVersion
from service.registry import generation
from service.registry.database import parse_time, utc_now
from service.registry.pages import Page, decode_cursor, encode_cursor
from service.registry.tables import (
    aliases,
    occupations,
    version_examples,
    version_numbers,
    versions,
)

CHAMPION = "champion"


def publish(
    connection: Connection,
    *,
    occupation: str,
    method: Method,
    encoder_digest: str,
    trunk_digest: str | None,
    artifact_digest: str,
    manifest: Mapping[str, Any],
    registration: str,
    promote: bool,
    trained_on: Sequence[str] = (),
) -> int:
    """Publish a version and, with ``promote``, make it the champion; returns its number.

    ``trained_on`` are the digests of its examples' texts. A registration publishes one version per method: called again, it returns the first number.
    Raises OccupationNotFound when the occupation was deleted meanwhile.
    """
    published = _number_of(connection, registration, method)
    if published is None:
        published = _next_number(connection, occupation)
        try:
            connection.execute(
                insert(versions).values(
                    occupation=occupation,
                    number=published,
                    method=method.value,
                    encoder_digest=encoder_digest,
                    trunk_digest=trunk_digest,
                    artifact_digest=artifact_digest,
                    manifest=dict(manifest),
                    registration=registration,
                    created_at=utc_now(),
                )
            )
        except IntegrityError:
            raise OccupationNotFound("The occupation was deleted during its training.") from None
        _record_examples(connection, occupation, published, trained_on)
    if promote:
        set_champion(connection, occupation, published)
    generation.bump(connection)
    return published


def set_champion(connection: Connection, occupation: str, number: int) -> None:
    """Move the champion alias; raises VersionNotFound."""
    get_version(connection, occupation, number)
    connection.execute(
        delete(aliases).where(aliases.c.occupation == occupation, aliases.c.alias == CHAMPION)
    )
    connection.execute(insert(aliases).values(occupation=occupation, alias=CHAMPION, number=number))
    generation.bump(connection)


def champion_number(connection: Connection, occupation: str) -> int | None:
    """The number of the champion, None before the first version."""
    return connection.execute(
        select(aliases.c.number).where(
            aliases.c.occupation == occupation, aliases.c.alias == CHAMPION
        )
    ).scalar_one_or_none()


def champions(connection: Connection) -> list[ModelVersion]:
    """The champion of every occupation that has one, by occupation id."""
    rows = connection.execute(
        select(versions)
        .join(
            aliases,
            (aliases.c.occupation == versions.c.occupation)
            & (aliases.c.number == versions.c.number),
        )
        .where(aliases.c.alias == CHAMPION)
        .order_by(versions.c.occupation)
    )
    return [_version(row) for row in rows]


def published_keys(connection: Connection) -> frozenset[tuple[str, int]]:
    """Occupation and number of every version."""
    rows = connection.execute(select(versions.c.occupation, versions.c.number))
    return frozenset((row.occupation, row.number) for row in rows)


def occupation_ids(connection: Connection) -> frozenset[str]:
    """Every registered occupation, with or without a version."""
    return frozenset(connection.execute(select(occupations.c.id)).scalars())


def get_version(connection: Connection, occupation: str, number: int) -> ModelVersion:
    """One version; raises VersionNotFound."""
    row = connection.execute(
        select(versions).where(versions.c.occupation == occupation, versions.c.number == number)
    ).one_or_none()
    if row is None:
        raise VersionNotFound("The occupation has no version with this number.")
    return _version(row)


def list_versions(
    connection: Connection, occupation: str, limit: int, cursor: str | None
) -> Page[ModelVersion]:
    """Versions of an occupation, the newest first."""
    query = (
        select(versions)
        .where(versions.c.occupation == occupation)
        .order_by(versions.c.number.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        query = query.where(versions.c.number < decode_cursor(cursor, int))
    rows = connection.execute(query).all()
    more = len(rows) > limit
    return Page(
        [_version(row) for row in rows[:limit]],
        encode_cursor(rows[limit - 1].number) if more else None,
    )


def version_numbers_of(connection: Connection, occupation: str) -> list[int]:
    """Numbers of an occupation's versions, ascending."""
    query = select(versions.c.number).where(versions.c.occupation == occupation)
    return list(connection.execute(query.order_by(versions.c.number)).scalars())


def referenced_artifacts(connection: Connection) -> frozenset[str]:
    """Digests of every artifact that a version needs."""
    digests: set[str] = set()
    columns = (versions.c.encoder_digest, versions.c.trunk_digest, versions.c.artifact_digest)
    for row in connection.execute(select(*columns)):
        digests.update(digest for digest in row if digest is not None)
    return frozenset(digests)


def find_published(
    connection: Connection, registration: str, method: Method
) -> ModelVersion | None:
    """What a registration published by a method, None when it has not."""
    row = connection.execute(
        select(versions).where(
            versions.c.registration == registration, versions.c.method == method.value
        )
    ).one_or_none()
    return _version(row) if row is not None else None


def prune(connection: Connection, occupation: str, keep: int) -> None:
    """Remove all versions of an occupation but the champion and the newest ``keep``."""
    champion = champion_number(connection, occupation)
    newest = version_numbers_of(connection, occupation)[-keep:]
    kept = {*newest, champion} - {None}
    connection.execute(
        delete(versions).where(versions.c.occupation == occupation, versions.c.number.not_in(kept))
    )
    generation.bump(connection)


def remove(connection: Connection, occupation: str, number: int) -> None:
    """Remove one version; its number is not given again."""
    connection.execute(
        delete(versions).where(versions.c.occupation == occupation, versions.c.number == number)
    )
    generation.bump(connection)


def _record_examples(
    connection: Connection, occupation: str, number: int, digests: Sequence[str]
) -> None:
    rows = [
        {"occupation": occupation, "number": number, "digest": digest}
        for digest in sorted(set(digests))
    ]
    if rows:
        connection.execute(insert(version_examples), rows)


def _number_of(connection: Connection, registration: str, method: Method) -> int | None:
    return connection.execute(
        select(versions.c.number).where(
            versions.c.registration == registration, versions.c.method == method.value
        )
    ).scalar_one_or_none()


def _next_number(connection: Connection, occupation: str) -> int:
    last = connection.execute(
        select(version_numbers.c.last).where(version_numbers.c.occupation == occupation)
    ).scalar_one_or_none()
    if last is None:
        connection.execute(insert(version_numbers).values(occupation=occupation, last=1))
        return 1
    connection.execute(
        update(version_numbers)
        .where(version_numbers.c.occupation == occupation)
        .values(last=last + 1)
    )
    return int(last) + 1


def _version(row: Row[Any]) -> ModelVersion:
    return ModelVersion(
        occupation=row.occupation,
        number=row.number,
        method=Method(row.method),
        encoder_digest=row.encoder_digest,
        artifact_digest=row.artifact_digest,
        manifest=row.manifest,
        registration=row.registration,
        created_at=parse_time(row.created_at),
        erased_examples=row.erased_examples,
    )
