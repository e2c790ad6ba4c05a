"""A backup of a registry and its artifacts, taken beside a running service.

The database is copied first, by SQLite's online backup: one moment of it, whatever is written
meanwhile. Artifacts never change and are stored before a version refers to them, so all that the
copy refers to is there, unless the service pruned it since: then everything is done again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from service import __version__
from service.domain.errors import (
    ArtifactCorrupted,
    BackupFailed,
    BackupRefused,
    RegistryNotFound,
    VocationError,
)
from service.registry.artifacts import ArtifactStore
from service.registry.backup_manifest import (
    ARTIFACTS_FOLDER,
    DATABASE_FILE,
    BackupManifest,
    file_sha256,
)
from service.registry.database import utc_now
from service.registry.references import Reference, references
from service.registry.schema_version import read_schema_version, refuse_newer
from service.telemetry.progress import Progress

_ATTEMPTS = 3
_TIMEOUT_SECONDS = 15.0
_COUNTED = ("occupations", "examples", "versions", "registrations", "keys")


def back_up(file: Path | None, artifacts: ArtifactStore, target: Path) -> BackupManifest:
    """Write a backup of a SQLite registry and what it refers to into a new folder ``target``.

    The folder appears whole, by one rename, readable by its owner alone. Raises BackupRefused,
    RegistryNotFound or RegistryTooNew before anything is written, BackupFailed (an artifact is
    damaged, the disk is full) with nothing left at ``target``.
    """
    source = _checked(file, target)
    staging = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        with _described_failures(target):
            manifest = _fill(source, artifacts, staging)
            _sync_tree(staging)
            if target.exists():
                raise BackupRefused(f"{target} exists: choose another name.")
            staging.rename(target)
            _sync(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return manifest


def _checked(file: Path | None, target: Path) -> Path:
    if file is None:
        raise BackupRefused(
            "The registry is not in SQLite: back the database up with its own tools (pg_dump for "
            "PostgreSQL) first, and then copy the artifacts."
        )
    if target.exists():
        raise BackupRefused(f"{target} exists: choose another name.")
    if not target.parent.is_dir():
        raise BackupRefused(f"{target.parent} is not a folder.")
    try:
        found = read_schema_version(file)
    except sqlite3.Error as error:
        raise BackupFailed(f"{file}: {error}.") from None
    if found is None:
        raise RegistryNotFound(f"{file} is no registry: set VOCATION_HOME.")
    refuse_newer(found)
    return file


def _fill(source: Path, artifacts: ArtifactStore, staging: Path) -> BackupManifest:
    for _attempt in range(_ATTEMPTS):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(mode=0o700)
        _copy_database(source, staging / DATABASE_FILE)
        needed = references(staging / DATABASE_FILE)
        damaged, size = _copy_artifacts(artifacts, staging, needed)
        if not damaged:
            return _describe(staging, needed, size)
        still_needed = _still_needed(source, damaged)
        if still_needed:
            raise BackupFailed(_name_damaged(still_needed))
    raise BackupFailed(f"Versions were pruned during each of {_ATTEMPTS} attempts: try again.")


def _copy_database(source: Path, copy: Path) -> None:
    uri = f"{source.resolve().as_uri()}?mode=rw"
    with (
        closing(sqlite3.connect(uri, _TIMEOUT_SECONDS, uri=True)) as running,
        closing(sqlite3.connect(copy, isolation_level=None)) as made,
    ):
        running.backup(made)
        # One file, without a log beside it; the service turns the log on again.
        made.execute("PRAGMA journal_mode=DELETE")
        # What has just been erased may still stand in pages that were copied.
        made.execute("VACUUM")
        (verdict,) = made.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise BackupFailed(f"The database {source} is damaged: {verdict}.")


def _copy_artifacts(
    artifacts: ArtifactStore, staging: Path, needed: Mapping[str, Iterable[Reference]]
) -> tuple[list[str], int]:
    """Copy what is whole; returns the digests of what is not, and the bytes copied."""
    store = ArtifactStore(str(staging / ARTIFACTS_FOLDER), staging)
    damaged, size = [], 0
    with Progress("copying artifacts", total=len(needed)) as progress:
        for digest in sorted(needed):
            try:
                size += artifacts.copy_to(store, digest)
            except ArtifactCorrupted:
                damaged.append(digest)
            progress.advance(1)
    store.sweep_staging()
    return damaged, size


def _still_needed(source: Path, damaged: Iterable[str]) -> dict[str, tuple[Reference, ...]]:
    now = references(source)
    return {digest: tuple(now[digest]) for digest in damaged if digest in now}


def _name_damaged(damaged: Mapping[str, Iterable[Reference]]) -> str:
    named = "; ".join(
        f"{digest[:12]} ({', '.join(map(str, users))})" for digest, users in damaged.items()
    )
    return f"Damaged or missing artifacts, of which no backup would be whole: {named}."


def _describe(staging: Path, needed: Iterable[str], artifact_bytes: int) -> BackupManifest:
    database = staging / DATABASE_FILE
    with closing(sqlite3.connect(database)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        counts = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608  # our own names
            for table in _COUNTED
            if table in tables
        }
    manifest = BackupManifest(
        created_at=utc_now(),
        release=__version__,
        schema_version=read_schema_version(database) or 0,
        database_sha256=file_sha256(database),
        database_bytes=database.stat().st_size,
        artifacts=tuple(sorted(needed)),
        artifact_bytes=artifact_bytes,
        counts=counts,
    )
    manifest.write(staging)
    return manifest


@contextmanager
def _described_failures(target: Path) -> Iterator[None]:
    try:
        yield
    except VocationError:
        raise
    except sqlite3.Error as error:
        raise BackupFailed(f"{error}. Nothing is left at {target}.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BackupFailed(f"{reason}. Nothing is left at {target}.") from None


def _sync_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
