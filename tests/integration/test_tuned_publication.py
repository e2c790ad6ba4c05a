"""Publishing what a fine-tuning made: once, whole, and with nothing left where it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.domain.errors import RegistrationCancelled
from service.domain.types import Method
from service.jobs.fine_tuning import FineTuning
from service.registry import registrations, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from service.settings import Settings
from tests.support.make import add_occupation, example


@pytest.fixture
def tuning(home: Path, database: Database, artifacts: ArtifactStore) -> FineTuning:
    return FineTuning(Settings(home=home), database, artifacts)


@pytest.fixture
def registration(database: Database, home: Path, base_encoder: EncoderRecord) -> str:
    """A registration whose child has ended."""
    return _tuned(database, home, "sommelier")


def _tuned(database: Database, home: Path, occupation: str) -> str:
    with database.write() as connection:
        add_occupation(connection, occupation, [example(occupation)])
        id = registrations.insert_registration(connection, occupation, Method.SETFIT)
    _write_out(home / "jobs" / id / "out", occupation)
    return id


def _write_out(out: Path, mark: str) -> None:
    """The files of a child, of which publishing reads the specification and the results alone."""
    result = {
        "manifest": {"encoder": {"name": "tiny"}, "durations_seconds": {"train": 1.0}},
        "promote": True,
        "reason": "better",
    }
    contents = {
        "trunk/model.onnx": "the shared trunk",
        "encoder/model.onnx": f"the top for {mark}",
        "encoder/encoder.json": json.dumps({"name": "tiny"}),
        "background.safetensors": f"the background for {mark}",
        "head.safetensors": f"the head for {mark}",
        "head.json": json.dumps({"example_digests": []}),
        "result.json": json.dumps(result),
    }
    for name, content in contents.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(content)


def _published(database: Database, occupation: str) -> list[int]:
    with database.read() as connection:
        return versions.version_numbers_of(connection, occupation)


def test_publishing_again_after_a_crash_publishes_nothing_twice(
    tuning: FineTuning,
    database: Database,
    artifacts: ArtifactStore,
    home: Path,
    registration: str,
) -> None:
    tuning.publish(registration)
    stored = set(artifacts.digests())
    # The step runs again where the process died before it could say that it had ended.
    _write_out(home / "jobs" / registration / "out", "sommelier")
    tuning.publish(registration)
    assert _published(database, "sommelier") == [1]
    assert set(artifacts.digests()) == stored
    assert all(artifacts.whole(digest) for digest in stored)


@pytest.mark.parametrize("missing", ["background.safetensors", "head.json"])
def test_publishing_that_fails_leaves_no_artifact_but_those_of_others(
    tuning: FineTuning,
    database: Database,
    artifacts: ArtifactStore,
    home: Path,
    registration: str,
    missing: str,
) -> None:
    tuning.publish(registration)
    stored = set(artifacts.digests())
    other = _tuned(database, home, "caviste")
    (home / "jobs" / other / "out" / missing).unlink()
    with pytest.raises(OSError, match="No such file"):
        tuning.publish(other)
    assert _published(database, "caviste") == []
    # The trunk that both share is still there.
    assert set(artifacts.digests()) == stored
    assert not list((home / "artifacts" / ".staging").iterdir())


def test_what_was_cancelled_meanwhile_is_not_published_and_leaves_nothing(
    tuning: FineTuning, database: Database, artifacts: ArtifactStore, home: Path, registration: str
) -> None:
    stored = set(artifacts.digests())
    with database.write() as connection:
        registrations.cancel(connection, registration)
    with pytest.raises(RegistrationCancelled):
        tuning.publish(registration)
    assert _published(database, "sommelier") == []
    assert set(artifacts.digests()) == stored
    tuning.sweep()
    assert not list((home / "jobs").iterdir())


def test_a_sweep_leaves_the_folders_of_what_runs(
    tuning: FineTuning, home: Path, registration: str
) -> None:
    (home / "jobs" / "of-a-registration-that-is-gone").mkdir()
    tuning.sweep()
    assert [folder.name for folder in (home / "jobs").iterdir()] == [registration]
    tuning.publish(registration)


def test_a_damaged_trunk_is_stored_anew_by_the_next_version_that_stands_on_it(
    tuning: FineTuning, database: Database, artifacts: ArtifactStore, home: Path, registration: str
) -> None:
    tuning.publish(registration)
    (trunk,) = [
        path for path in (home / "artifacts").glob("??/*/model.onnx")
        if path.read_text(errors="replace") == "the shared trunk"
    ]  # fmt: skip
    trunk.write_text("the shared trunc")
    assert not artifacts.whole(trunk.parent.name)
    tuning.publish(_tuned(database, home, "caviste"))
    assert artifacts.whole(trunk.parent.name)
