"""Which encoder artifact was built from which source, and which one new versions use."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

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
    """Remember what was built from a source, so that no later start builds it again."""
    connection.execute(delete(encoders).where(encoders.c.fingerprint == record.fingerprint))
    connection.execute(
        insert(encoders).values(
            fingerprint=record.fingerprint,
            digest=record.digest,
            background_digest=record.background_digest,
            created_at=utc_now(),
        )
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
    if row is None:
        return None
    return EncoderRecord(row.fingerprint, row.digest, row.background_digest)


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


def background_of(connection: Connection, digest: str) -> str:
    """The artifact with the background as an encoder embeds it; raises EncoderUnusable."""
    found = connection.execute(
        select(encoders.c.background_digest).where(encoders.c.digest == digest)
    ).first()
    if found is None:
        raise EncoderUnusable("The registry does not know this encoder.")
    return str(found.background_digest)
