"""``vocation backup`` on real homes; a running service's is in tests/end_to_end."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

from service.registry import encoders
from service.registry.artifacts import ArtifactStore
from service.registry.backup import back_up
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from tests.support.backups import rows, run
from tests.support.bytes_at_rest import files_with
from tests.support.make import add_occupation, example


def test_a_backup_holds_what_was_committed_and_is_still_in_the_write_ahead_log(
    content: Path, database: Database, tmp_path: Path
) -> None:
    with database.write() as connection:
        add_occupation(connection, "caviste")
    assert (content / "registry.sqlite-wal").stat().st_size > 0
    assert run("backup", str(tmp_path / "made")).exit_code == 0
    assert ("caviste",) in [row[:1] for row in rows(tmp_path / "made")["occupations"]]


def test_a_backup_taken_beside_a_writer_is_one_moment_of_it(
    content: Path, database: Database, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    """Each transaction adds an occupation and an example: the copy has as many of each."""
    stopping, written = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not stopping.is_set():
            with database.write() as connection:
                add_occupation(connection, f"o-{number}", [example(f"{'x' * 500} {number}")])
            number += 1
            if number == 20:
                written.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(30)
        manifests = [
            back_up(database.file, artifacts, tmp_path / f"made-{number}") for number in range(3)
        ]
    finally:
        stopping.set()
        writer.join()
    counts = [manifest.counts for manifest in manifests]
    assert all(count["occupations"] == count["examples"] for count in counts)
    assert counts[0]["occupations"] >= 22


def test_the_manifest_counts_what_is_in_the_backup_and_names_its_versions(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_bytes())
    assert manifest["format"] == 1
    assert manifest["schema_version"] == 1
    assert manifest["counts"] == {
        "occupations": 2,
        "examples": 2,
        "versions": 2,
        "registrations": 3,
        "keys": 1,
    }
    found = {path.name for path in (made / "artifacts").glob("??/*")}
    assert set(manifest["artifacts"]) == found
    assert len(found) == 4


def test_a_backup_is_for_its_owner_alone(made: Path) -> None:
    assert made.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in made.iterdir()} == {
        "artifacts",
        "manifest.json",
        "registry.sqlite",
    }
    assert not (made / "artifacts" / ".staging").exists()


def test_an_artifact_that_nothing_refers_to_is_left_out(
    content: Path, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    unused = artifacts.put({"unused": b"1"})
    assert run("backup", str(tmp_path / "made")).exit_code == 0
    assert unused not in json.loads((tmp_path / "made" / "manifest.json").read_bytes())["artifacts"]


def test_what_was_erased_is_in_no_backup_even_before_the_home_is_scrubbed(
    content: Path, database: Database, tmp_path: Path
) -> None:
    with database.write() as writing:
        add_occupation(writing, "erased", [example("MARK-ERASED")])
    with closing(sqlite3.connect(content / "registry.sqlite")) as connection, connection:
        # As SQLite itself has it: the row's bytes stay until something is written over them.
        connection.execute("PRAGMA secure_delete=OFF")
        connection.execute("DELETE FROM examples WHERE occupation = 'erased'")
    assert files_with(b"MARK-ERASED", content)
    assert run("backup", str(tmp_path / "made")).exit_code == 0
    assert files_with(b"MARK-ERASED", tmp_path / "made") == []


def test_an_encoder_that_is_used_no_more_is_left_out_and_may_be_damaged(
    content: Path,
    database: Database,
    artifacts: ArtifactStore,
    base_encoder: EncoderRecord,
    tmp_path: Path,
) -> None:
    former = [artifacts.put({"model.onnx": name}) for name in (b"former", b"its background")]
    with database.write() as connection:
        encoders.record_encoder(connection, EncoderRecord("former", *former))
    artifacts.remove(former[0])
    assert run("backup", str(tmp_path / "made")).exit_code == 0
    kept = json.loads((tmp_path / "made" / "manifest.json").read_bytes())["artifacts"]
    assert not set(former) & set(kept)
    assert {base_encoder.digest, base_encoder.background_digest} <= set(kept)
