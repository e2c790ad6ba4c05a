"""Backups that cannot be made: said clearly, and nothing that looks like one is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.domain.errors import BackupFailed
from service.domain.types import Method
from service.registry import registrations, versions
from service.registry.artifacts import ArtifactStore
from service.registry.backup import back_up
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from tests.support.backups import files, flip, full_disk, run
from tests.support.make import add_occupation, head, publish


def stored_file(home: Path, database: Database, name: str = "head.safetensors") -> Path:
    """A file of the artifact of sommelier's version."""
    with database.read() as connection:
        digest = versions.get_version(connection, "sommelier", 1).artifact_digest
    return home / "artifacts" / digest[:2] / digest / name


def nothing_there(target: Path) -> bool:
    return list(target.parent.iterdir()) == []


def test_a_damaged_base_encoder_is_named(
    content: Path, artifacts: ArtifactStore, base_encoder: EncoderRecord, target: Path
) -> None:
    target.parent.mkdir()
    artifacts.remove(base_encoder.background_digest)
    result = run("backup", str(target))
    assert result.exit_code == 1
    assert f"{base_encoder.background_digest[:12]} (an encoder)" in result.stderr


@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_a_damaged_artifact_is_named_with_its_version_and_there_is_no_backup(
    content: Path, database: Database, target: Path, damage: Callable[[Path], None]
) -> None:
    target.parent.mkdir()
    path = stored_file(content, database)
    damage(path)
    result = run("backup", str(target))
    assert result.exit_code == 1
    assert path.parent.name[:12] in result.stderr
    assert "sommelier@1" in result.stderr
    assert "serveur@1" not in result.stderr
    assert nothing_there(target)


_KILLED = """
import sys
from pathlib import Path
from service.registry.artifacts import ArtifactStore
from service.registry.backup import back_up

class Waiting(ArtifactStore):
    def copy_to(self, target, digest):
        size = super().copy_to(target, digest)
        print("copied one", flush=True)
        sys.stdin.readline()
        return size

home, target = Path(sys.argv[1]), Path(sys.argv[2])
store = Waiting(str(home / "artifacts"), home / "cache")
back_up(home / "registry.sqlite", store, target)
"""


def test_a_killed_backup_leaves_nothing_that_looks_like_one(content: Path, target: Path) -> None:
    target.parent.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(content), str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "copied one\n"
    process.kill()
    process.communicate()
    (left,) = target.parent.iterdir()
    assert left.name.startswith(".monday.")
    assert not (left / "manifest.json").exists()
    assert "no backup" in run("restore", str(left)).stderr
    assert run("backup", str(target)).exit_code == 0


class _PrunedMeanwhile(ArtifactStore):
    """A store from which another process removes a version the first time that it is read."""

    def __init__(self, url: str, cache: Path, prune: Callable[[], None]) -> None:
        super().__init__(url, cache)
        self._prune = prune

    def copy_to(self, target: ArtifactStore, digest: str) -> int:
        self._prune()
        return super().copy_to(target, digest)


def test_a_version_that_is_pruned_during_the_backup_makes_it_begin_again(
    content: Path, database: Database, target: Path
) -> None:
    target.parent.mkdir()
    pruned = stored_file(content, database).parent

    def prune() -> None:
        with database.write() as connection:
            versions.remove(connection, "sommelier", 1)
        shutil.rmtree(pruned, ignore_errors=True)

    store = _PrunedMeanwhile(str(content / "artifacts"), content / "cache", prune)
    manifest = back_up(database.file, store, target)
    assert manifest.counts["versions"] == 1
    assert pruned.name not in manifest.artifacts


def test_a_backup_that_never_finds_everything_gives_up(
    content: Path, database: Database, artifacts: ArtifactStore, base_encoder: EncoderRecord,
    target: Path,
) -> None:  # fmt: skip
    target.parent.mkdir()
    seeds = iter(range(10, 100))

    def replace() -> None:
        """Another version takes the place of the only one, and its artifact goes."""
        with database.write() as connection:
            (last,) = versions.version_numbers_of(connection, "sommelier")
            gone = versions.get_version(connection, "sommelier", last).artifact_digest
        publish(database, artifacts, base_encoder, "sommelier", head(next(seeds)))
        with database.write() as connection:
            versions.remove(connection, "sommelier", last)
        artifacts.remove(gone)

    store = _PrunedMeanwhile(str(content / "artifacts"), content / "cache", replace)
    with pytest.raises(BackupFailed, match="pruned"):
        back_up(database.file, store, target)
    assert nothing_there(target)


@pytest.mark.parametrize(
    ("room", "reason"), [(4_096, "disk"), (600_000, "File too large")], ids=["database", "artifact"]
)
def test_a_full_disk_is_said_and_leaves_no_backup(
    content: Path,
    artifacts: ArtifactStore,
    database: Database,
    target: Path,
    room: int,
    reason: str,
) -> None:
    """The database finds no room, or finds it and an artifact does not."""
    target.parent.mkdir()
    large = head(5)
    publish_large(database, artifacts, large)
    with full_disk(room):
        result = run("backup", str(target))
    assert result.exit_code == 1
    assert "The backup failed" in result.stderr
    assert reason in result.stderr
    assert nothing_there(target)


def publish_large(database: Database, artifacts: ArtifactStore, made: Any) -> None:
    """A version with an artifact of 800 kB."""
    digest = artifacts.put({**made.files(), "large": os.urandom(800_000)})
    with database.write() as connection:
        add_occupation(connection, "large")
        versions.publish(
            connection,
            occupation="large",
            method=Method.HEAD,
            encoder_digest=digest,
            trunk_digest=None,
            artifact_digest=digest,
            manifest={},
            registration=registrations.insert_registration(connection, "large", Method.HEAD),
            promote=True,
        )


def test_an_existing_target_is_refused_and_left_alone(content: Path, made: Path) -> None:
    before = files(made)
    result = run("backup", str(made))
    assert result.exit_code == 2
    assert "exists" in result.stderr
    assert files(made) == before


@pytest.mark.parametrize("target", ["nothing/here/backup", "/proc/backup"])
def test_a_target_that_cannot_be_written_is_said(
    content: Path, tmp_path: Path, target: str
) -> None:
    result = run("backup", str(tmp_path / target))
    assert result.exit_code in (1, 2)
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.output


def test_a_home_without_a_registry_is_not_backed_up_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOCATION_HOME", str(tmp_path / "nothing"))
    result = run("backup", str(tmp_path / "made"))
    assert result.exit_code == 2
    assert "VOCATION_HOME" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_another_database_is_left_to_its_own_tools(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("VOCATION_HOME", str(tmp_path / "other"))
    monkeypatch.setenv("VOCATION_DATABASE_URL", "postgresql+psycopg://localhost/vocation")
    result = run(command, str(made if command == "restore" else tmp_path / "made"))
    assert result.exit_code == 2
    assert "own tools" in result.stderr
