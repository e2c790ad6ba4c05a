"""What a SQLite registry refers to in the artifact store, and who does."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path

_VERSIONS = (
    "SELECT occupation || '@' || number, encoder_digest, trunk_digest, artifact_digest "
    "FROM versions ORDER BY occupation, number"
)
# An encoder that is neither the base nor a version's is built again where it is wanted again.
_ENCODERS = (
    "SELECT digest, background_digest FROM encoders "
    "WHERE digest IN (SELECT encoder_digest FROM versions) "
    "OR fingerprint = (SELECT value FROM registry_state WHERE key = 'base_encoder') "
    "ORDER BY created_at"
)

# "chef@3" or "an encoder".
Reference = str


def references(file: Path) -> dict[str, list[Reference]]:
    """Digests of the artifacts that a registry needs, each with who needs it.

    Works on a file of any schema version. Raises sqlite3.Error.
    """
    needed: dict[str, list[Reference]] = defaultdict(list)
    uri = f"{file.resolve().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        for version, *digests in connection.execute(_VERSIONS):
            for digest in digests:
                if digest is not None:
                    needed[digest].append(version)
        for digests in connection.execute(_ENCODERS):
            for digest in digests:
                needed[digest].append("an encoder")
    return dict(needed)
