"""``vocation restore`` of real backups."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest

from service.registry import keys, occupations
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.home import held
from tests.support.backups import files, flip, full_disk, rows, run
from tests.support.make import add_occupation


def test_a_restored_home_has_every_row_and_every_artifact(
    content: Path, made: Path, new_home: Path
) -> None:
    result = run("restore", str(made))
    assert result.exit_code == 0, result.output
    assert rows(new_home) == rows(content)
    restored, backed_up = (
        {name: bytes for name, bytes in files(home / "artifacts").items() if ".staging" not in name}
        for home in (new_home, content)
    )
    assert restored == backed_up
    assert len(restored) > 6


def test_artifacts_of_a_remote_store_are_in_the_backup_and_restored_into_one(
    content: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    local = ArtifactStore(str(content / "artifacts"), content / "cache")
    remote = ArtifactStore("memory://source", content / "cache")
    for digest in list(local.digests()):
        local.copy_to(remote, digest)
        local.remove(digest)
    monkeypatch.setenv("VOCATION_ARTIFACT_URL", "memory://source")
    assert run("backup", str(tmp_path / "made")).exit_code == 0
    monkeypatch.setenv("VOCATION_HOME", str(tmp_path / "new"))
    monkeypatch.setenv("VOCATION_ARTIFACT_URL", "memory://target")
    assert run("restore", str(tmp_path / "made")).exit_code == 0
    restored = ArtifactStore("memory://target", tmp_path / "cache")
    assert set(restored.digests()) == set(remote.digests())
    assert all(restored.whole(digest) for digest in restored.digests())
    fsspec.filesystem("memory").rm("/", recursive=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda backup: flip(backup / "registry.sqlite"),
        lambda backup: flip(next(backup.glob("artifacts/??/*/head.safetensors"))),
        lambda backup: shutil.rmtree(next(backup.glob("artifacts/??/*"))),
        lambda backup: (backup / "manifest.json").write_text("{"),
        lambda backup: (backup / "manifest.json").write_text('{"format": 1, "schema_version": 1}'),
    ],
)
def test_a_damaged_backup_is_refused_before_anything_is_written(
    made: Path, new_home: Path, damage: Callable[[Path], object]
) -> None:
    damage(made)
    result = run("restore", str(made))
    assert result.exit_code == 1
    assert "The backup is damaged" in result.stderr
    assert not (new_home / "registry.sqlite").exists()
    assert not (new_home / "artifacts").exists()


def _edit(backup: Path, **fields: Any) -> None:
    manifest = json.loads((backup / "manifest.json").read_bytes())
    (backup / "manifest.json").write_text(json.dumps({**manifest, **fields}))


def test_a_backup_that_lacks_an_artifact_is_refused(made: Path, new_home: Path) -> None:
    artifacts = json.loads((made / "manifest.json").read_bytes())["artifacts"]
    _edit(made, artifacts=artifacts[1:])
    result = run("restore", str(made))
    assert result.exit_code == 1
    assert artifacts[0][:12] in result.stderr


@pytest.mark.parametrize("fields", [{"schema_version": 9}, {"format": 9}])
def test_a_backup_of_a_newer_release_is_refused(
    made: Path, new_home: Path, fields: Mapping[str, int]
) -> None:
    _edit(made, **fields)
    result = run("restore", str(made))
    assert result.exit_code == 2
    assert " 9," in result.stderr
    assert not (new_home / "registry.sqlite").exists()


def test_what_is_no_backup_is_refused(made: Path, new_home: Path, tmp_path: Path) -> None:
    # What a killed backup leaves: everything but the manifest.
    (made / "manifest.json").unlink()
    for source in (made, tmp_path / "nothing"):
        result = run("restore", str(source))
        assert result.exit_code == 2
        assert "no backup" in result.stderr


def test_a_home_with_a_registry_is_refused_and_left_alone(
    content: Path, made: Path, database: Database
) -> None:
    with database.write() as connection:
        add_occupation(connection, "since")
    result = run("restore", str(made))
    assert result.exit_code == 2
    assert "empty home" in result.stderr
    with database.read() as connection:
        assert occupations.get_occupation(connection, "since").id == "since"


def test_a_home_with_other_artifacts_is_refused(made: Path, new_home: Path) -> None:
    ArtifactStore(str(new_home / "artifacts"), new_home).put({"other": b"1"})
    result = run("restore", str(made))
    assert result.exit_code == 2
    assert "another registry" in result.stderr


def test_a_home_that_a_service_works_on_is_refused(made: Path, new_home: Path) -> None:
    with held(new_home) as alone:
        assert alone
        result = run("restore", str(made))
    assert result.exit_code == 2
    assert "A service runs" in result.stderr
    assert run("restore", str(made)).exit_code == 0


def test_a_restore_that_found_no_room_can_be_run_again(
    content: Path, made: Path, new_home: Path
) -> None:
    with full_disk(60_000):
        result = run("restore", str(made))
    assert result.exit_code == 1
    assert "The restore failed" in result.stderr
    assert not (new_home / "registry.sqlite").exists()
    assert run("restore", str(made)).exit_code == 0
    assert rows(new_home) == rows(content)
    assert not list(new_home.glob(".*"))


def test_a_restore_says_that_keys_of_the_day_are_valid_again(made: Path, new_home: Path) -> None:
    result = run("restore", str(made))
    assert "Keys that were revoked since are valid again" in result.stdout
    assert "erased since are back" in result.stdout
    assert [key.revoked_at for key in _keys(new_home)] == [None]


def test_a_restore_can_revoke_every_key_and_stays_shut(made: Path, new_home: Path) -> None:
    result = run("restore", str(made), "--revoke-keys")
    assert result.exit_code == 0
    assert "Every key is revoked" in result.stdout
    (key,) = _keys(new_home)
    assert (key.name, key.revoked_at is None) == ("bot", False)


def _keys(home: Path) -> list[Any]:
    database = Database(f"sqlite:///{home / 'registry.sqlite'}")
    with database.read() as connection:
        known = keys.list_keys(connection)
    database.close()
    return known
