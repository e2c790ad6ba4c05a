"""What a backup says of itself: its format, its schema version, and digests of all it holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from service.domain.errors import BackupDamaged, RestoreRefused
from service.registry.schema_version import SCHEMA_VERSION

BACKUP_FORMAT = 1
MANIFEST_FILE = "manifest.json"
DATABASE_FILE = "registry.sqlite"
ARTIFACTS_FOLDER = "artifacts"


@dataclass(frozen=True, slots=True)
class BackupManifest:
    """The facts of one backup; ``artifacts`` are digests, each of which names its bytes."""

    created_at: str
    release: str
    schema_version: int
    database_sha256: str
    database_bytes: int
    artifacts: tuple[str, ...]
    artifact_bytes: int
    counts: Mapping[str, int]
    format: int = BACKUP_FORMAT

    def write(self, folder: Path) -> None:
        """Write the manifest into a backup's folder."""
        (folder / MANIFEST_FILE).write_text(json.dumps(asdict(self), indent=1) + "\n")


def read_manifest(folder: Path) -> BackupManifest:
    """Read the manifest of a backup; raises RestoreRefused or BackupDamaged."""
    try:
        content: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_bytes())
        found = (content["format"], content["schema_version"])
    except OSError:
        raise RestoreRefused(f"{folder} is no backup: it has no {MANIFEST_FILE}.") from None
    except (ValueError, KeyError, TypeError):
        raise BackupDamaged(f"{folder / MANIFEST_FILE} cannot be read.") from None
    if found[0] != BACKUP_FORMAT:
        raise RestoreRefused(
            f"It has format {found[0]}, and this release reads format {BACKUP_FORMAT}."
        )
    if found[1] > SCHEMA_VERSION:
        raise RestoreRefused(
            f"It has schema version {found[1]}, and this release knows versions up to "
            f"{SCHEMA_VERSION}: install release {content.get('release')} or a newer one."
        )
    try:
        return BackupManifest(**{**content, "artifacts": tuple(content["artifacts"])})
    except (KeyError, TypeError):
        raise BackupDamaged(f"{folder / MANIFEST_FILE} cannot be read.") from None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
