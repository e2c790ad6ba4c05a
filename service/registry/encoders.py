"""Which encoder artifact was built from which source, and which one new versions use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from service.domain.errors import EncoderUnusable
from service.registry import generation
from service.registry.database import utc_now
from service.registry.tables import encoders

_BASE = "base_encoder"


@dataclass(frozen=True, slots=True)
class EncoderRecord:
    """An encoder built from a source, and the background as it embeds it."""

    fingerprint: str
    digest: str
    background_digest: str


def record_encoder(connection: Connection, record: EncoderRecord) -> None:
    """Remember what was built from a source, so that no later start builds it again.

    A record keeps the time of its first build: which record of an artifact is the first
    (`first_record`) must not depend on which is used.
    """
    built = {"digest": record.digest, "background_digest": record.background_digest}
    known = connection.execute(
        update(encoders).where(encoders.c.fingerprint == record.fingerprint).values(built)
    )
    if known.rowcount == 0:
        connection.execute(
            insert(encoders).values(fingerprint=record.fingerprint, created_at=utc_now(), **built)
        )


def set_base_encoder(connection: Connection, fingerprint: str) -> None:
    """Make an encoder the one that new versions use."""
    if generation.get(connection, _BASE) != fingerprint:
        generation.put(connection, _BASE, fingerprint)
        generation.bump(connection)


def find_encoder(connection: Connection, fingerprint: str) -> EncoderRecord | None:
    """What was built from a source, None when nothing was."""
    row = connection.execute(
        select(encoders).where(encoders.c.fingerprint == fingerprint)
    ).one_or_none()
    return _record(row) if row is not None else None


def base_encoder(connection: Connection) -> EncoderRecord | None:
    """The encoder that new versions use, None before the first start has built it."""
    fingerprint = generation.get(connection, _BASE)
    return find_encoder(connection, fingerprint) if fingerprint is not None else None


def referenced_artifacts(connection: Connection) -> frozenset[str]:
    """Digests of every artifact that an encoder record needs."""
    digests: set[str] = set()
    for row in connection.execute(select(encoders.c.digest, encoders.c.background_digest)):
        digests.update(row)
    return frozenset(digests)


def first_record(connection: Connection, digest: str) -> EncoderRecord | None:
    """The first record of an artifact, whose background every version on that artifact has.

    Only registries of former releases have records of one artifact with several backgrounds.
    """
    row = connection.execute(
        select(encoders)
        .where(encoders.c.digest == digest)
        .order_by(encoders.c.created_at, encoders.c.fingerprint)
    ).first()
    return _record(row) if row is not None else None


def background_of(connection: Connection, digest: str) -> str:
    """The artifact with the background as an encoder embeds it; raises EncoderUnusable."""
    first = first_record(connection, digest)
    if first is None:
        raise EncoderUnusable("The registry does not know this encoder.")
    return first.background_digest


def _record(row: Row[Any]) -> EncoderRecord:
    return EncoderRecord(row.fingerprint, row.digest, row.background_digest)
