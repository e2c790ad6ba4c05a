"""A backup becomes a home: everything is verified first, and the database appears last."""

from __future__ import annotations

import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from service.domain.errors import (
    ArtifactCorrupted,
    BackupDamaged,
    RestoreFailed,
    RestoreRefused,
    VocationError,
)
from service.registry.artifacts import ArtifactStore
from service.registry.backup_manifest import (
    ARTIFACTS_FOLDER,
    DATABASE_FILE,
    BackupManifest,
    file_sha256,
    read_manifest,
)
from service.registry.database import utc_now
from service.registry.home import held
from service.registry.references import references
from service.telemetry.progress import Progress

# What SQLite writes beside a database.
_BESIDE = ("-wal", "-shm", "-journal")
_PARTIAL = ".partial"


def restore(
    source: Path,
    home: Path,
    file: Path | None,
    artifacts: ArtifactStore,
    *,
    revoke_keys: bool = False,
) -> BackupManifest:
    """Restore a backup into a home without a registry; ``file`` is where its database goes.

    With ``revoke_keys`` no key of the backup is valid any more. Raises RestoreRefused where there
    is a registry or a running service, BackupDamaged where a byte differs from its digest, and
    RestoreFailed; the home has no registry after any of them.
    """
    manifest = read_manifest(source)
    if file is None:
        raise RestoreRefused(
            "The registry is not in SQLite: restore the database with its own tools."
        )
    with held(home) as alone:
        if not alone:
            raise RestoreRefused(f"A service runs on {home}: stop it, or choose another home.")
        _refuse_occupied(home, file, artifacts, manifest)
        backup = _verify(source, manifest)
        with _described_failures():
            _copy_artifacts(backup, artifacts, manifest)
            _copy_database(source / DATABASE_FILE, file, manifest, revoke_keys=revoke_keys)
    return manifest


def _refuse_occupied(
    home: Path, file: Path, artifacts: ArtifactStore, manifest: BackupManifest
) -> None:
    found = [path for path in (file, *_beside(file)) if path.exists()]
    found += [path for path in (home / "jobs", home / "cache") if path.exists()]
    if found:
        raise RestoreRefused(f"{found[0]} exists: a backup is restored into an empty home.")
    # Those of this backup are what an interrupted restore left.
    if set(artifacts.digests()) - set(manifest.artifacts):
        raise RestoreRefused("The artifact store is not empty: it belongs to another registry.")


def _beside(file: Path) -> list[Path]:
    return [file.with_name(f"{file.name}{suffix}") for suffix in _BESIDE]


def _verify(source: Path, manifest: BackupManifest) -> ArtifactStore:
    database = source / DATABASE_FILE
    backup = ArtifactStore(str(source / ARTIFACTS_FOLDER), source)
    try:
        if file_sha256(database) != manifest.database_sha256:
            raise BackupDamaged(f"{database} is not the file that was backed up.")
        missing = references(database).keys() - set(manifest.artifacts)
    except (OSError, sqlite3.Error) as error:
        raise BackupDamaged(f"{database} cannot be read: {error}.") from None
    if missing:
        raise BackupDamaged(f"It lacks the artifact {min(missing)[:12]}.")
    with Progress("verifying the backup", total=len(manifest.artifacts)) as progress:
        for digest in manifest.artifacts:
            try:
                backup.open_local(digest)
            except ArtifactCorrupted as error:
                raise BackupDamaged(error.detail) from None
            progress.advance(1)
    return backup


def _copy_artifacts(
    backup: ArtifactStore, artifacts: ArtifactStore, manifest: BackupManifest
) -> None:
    with Progress("copying artifacts", total=len(manifest.artifacts)) as progress:
        for digest in manifest.artifacts:
            backup.copy_to(artifacts, digest)
            progress.advance(1)


def _copy_database(
    backup: Path, file: Path, manifest: BackupManifest, *, revoke_keys: bool
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    for left in file.parent.glob(f".{file.name}.*{_PARTIAL}"):
        left.unlink()
    staging = file.with_name(f".{file.name}.{uuid.uuid4().hex}{_PARTIAL}")
    try:
        shutil.copyfile(backup, staging)
        if file_sha256(staging) != manifest.database_sha256:
            raise RestoreFailed("The database changed while it was copied.")
        if revoke_keys:
            with closing(sqlite3.connect(staging, isolation_level=None)) as connection:
                connection.execute(
                    "UPDATE keys SET revoked_at = ? WHERE revoked_at IS NULL", (utc_now(),)
                )
        _sync(staging)
        # A link, and no rename: a service that was started meanwhile has made its own registry.
        os.link(staging, file)
        _sync(file.parent)
    except FileExistsError:
        raise RestoreRefused(f"{file} has appeared: stop the service that made it.") from None
    finally:
        staging.unlink(missing_ok=True)


@contextmanager
def _described_failures() -> Iterator[None]:
    try:
        yield
    except VocationError:
        raise
    except sqlite3.Error as error:
        raise RestoreFailed(f"{error}. The home has no registry.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RestoreFailed(f"{reason}. The home has no registry.") from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
