"""The registry's tables, for SQLite and PostgreSQL alike."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# Times are RFC 3339 strings in UTC: they sort as text and read the same on every database.

state = Table(
    "registry_state",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", String(255), nullable=False),
)

occupations = Table(
    "occupations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("prevalence", Float, nullable=False),
    Column("method", String(16), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("source_digest", String(64)),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
)

examples = Table(
    "examples",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("occupation", ForeignKey("occupations.id", ondelete="CASCADE"), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("title", Text),
    Column("company", Text),
    Column("description", Text),
    Column("text", Text),
    Column("label", String(8), nullable=False),
    # Chosen for a label, so no sample of what will be scored.
    Column("suggested", Boolean, nullable=False, server_default="0"),
    # Who said so last: a bundled file gives way to a researcher's correction.
    Column("origin", String(16), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    UniqueConstraint("occupation", "digest"),
    CheckConstraint("label IN ('in', 'out')"),
)

versions = Table(
    "versions",
    metadata,
    Column("occupation", ForeignKey("occupations.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("method", String(16), nullable=False),
    Column("encoder_digest", String(64), nullable=False),
    Column("trunk_digest", String(64)),
    Column("artifact_digest", String(64), nullable=False),
    Column("manifest", JSON, nullable=False),
    Column("registration", String(64), nullable=False),
    Column("created_at", String(32), nullable=False),
    # Examples it was trained on that have been erased since.
    Column("erased_examples", Integer, nullable=False, server_default="0"),
    # A stage may run again after a crash; it must not publish twice.
    UniqueConstraint("registration", "method"),
)

# What each version was trained on, so that an erasure finds the versions to mark.
version_examples = Table(
    "version_examples",
    metadata,
    Column("occupation", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), primary_key=True),
    ForeignKeyConstraint(
        ["occupation", "number"], ["versions.occupation", "versions.number"], ondelete="CASCADE"
    ),
)

# Outlives the occupation, so that a number is never given to two different versions.
version_numbers = Table(
    "version_numbers",
    metadata,
    Column("occupation", String(64), primary_key=True),
    Column("last", Integer, nullable=False),
)

aliases = Table(
    "aliases",
    metadata,
    Column("occupation", ForeignKey("occupations.id", ondelete="CASCADE"), primary_key=True),
    Column("alias", String(16), primary_key=True),
    Column("number", Integer, nullable=False),
)

registrations = Table(
    "registrations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("occupation", String(64), nullable=False),
    Column("method", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("stage", String(16)),
    Column("progress", Float, nullable=False),
    Column("error", JSON(none_as_null=True)),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Index("registrations_by_state", "state", "id"),
    Index("registrations_by_occupation", "occupation"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("route", String(128), primary_key=True),
    Column("body_digest", String(64), nullable=False),
    Column("registration", String(64), nullable=False),
    Column("created_at", String(32), nullable=False),
)

encoders = Table(
    "encoders",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("background_digest", String(64), nullable=False),
    Column("created_at", String(32), nullable=False),
)

# Of a secret only its SHA-256 is kept. A revoked key stays: its name is never given again, and a
# registry that has known a key is never open to callers without one.
keys = Table(
    "keys",
    metadata,
    Column("id", String(8), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("scopes", String(64), nullable=False),
    Column("secret_digest", String(64), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32)),
    Column("revoked_at", String(32)),
    Column("requests_per_minute", Integer),
)
