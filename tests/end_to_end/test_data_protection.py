"""Backups, erasures and texts at rest on a real running service, byte by byte on the disk."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.bytes_at_rest import files_with
from tests.support.running_service import BIN, RunningService, running, wait_for
from tests.support.tiny_service import write_tiny_settings
from tests.support.training_faults import check_published_once, register, training_child

ASKED = [{"text": text} for text in ("Sommelière, Brest", "Night shift nurse", "Cheffe de cuisine")]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    tiny = write_tiny_settings(tmp_path_factory.mktemp("tiny"))
    # The most that is ever logged.
    return {**tiny, "VOCATION_LOG_LEVEL": "debug", "VOCATION_LOG_FORMAT": "json"}


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, settings: Mapping[str, str]
) -> Iterator[RunningService]:
    home = tmp_path_factory.mktemp("protected") / "home"
    with running(home, environment=settings) as started:
        yield started


def vocation(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command beside the service, in a process of its own."""
    return subprocess.run(
        [str(BIN / "vocation"), *arguments],
        env={**os.environ, "VOCATION_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def at_rest(service: RunningService, marker: str) -> list[Path]:
    """Files of the home, of BentoML's home and of the log that hold a text."""
    return files_with(marker.encode(), service.home.parent)


def _examples(mark: str, count: int = 4) -> list[dict[str, Any]]:
    return [{"text": f"{mark} sommelier {number}", "label": "in"} for number in range(count)]


def _state(home: Path, registration: str) -> str:
    with closing(sqlite3.connect(home / "registry.sqlite")) as connection:
        query = "SELECT state FROM registrations WHERE id = ?"
        return str(connection.execute(query, (registration,)).fetchone()[0])


def test_texts_sent_to_be_scored_are_stored_nowhere(service: RunningService) -> None:
    marker = "MARK-CLASSIFY"
    text = f"{marker}, cheffe de cuisine"
    scored = {"id": marker, "title": text, "company": marker, "explain": True}
    assert service.classify([scored, {"text": text}])[0]["scores"]
    unlabelled = {"experiences": [{"text": f"{text} {number}"} for number in range(5)]}
    suggested = service.client.post("/v1/occupations/chef/suggest", json=unlabelled)
    assert suggested.status_code == 200
    # What is refused is not kept either.
    bad = [{"experiences": [{"text": text, marker: 1}]}, {"experiences": text}, text]
    for body in bad:
        assert service.client.post("/v1/classify", json=body).status_code == 422
    unknown = service.classify([{"text": text, "occupations": ["unknown"]}])
    assert unknown[0]["error"]["code"] == "occupation_not_found"
    assert len(service.log.read_text().splitlines()) > 5
    assert at_rest(service, marker) == []


def test_an_erased_example_and_a_deleted_occupation_leave_no_byte(service: RunningService) -> None:
    """Neither the registry nor the queue, log, job's folder or artifact has the texts."""
    first, second = "MARK-FIRST", "MARK-SECOND"
    body = {"id": "wine", "examples": _examples(first), "training": {"method": "setfit"}}
    accepted = service.client.post(
        "/v1/occupations", json=body, headers={"Idempotency-Key": "wine-1"}
    )
    assert service.follow(accepted.json()["id"])["state"] == "succeeded"
    path = "/v1/occupations/wine/examples"
    more = {"examples": _examples(second, 1), "training": {"method": "head"}}
    accepted = service.client.post(path, json=more)
    assert service.follow(accepted.json()["id"])["state"] == "succeeded"
    before = service.classify(ASKED)

    exported = json.loads(vocation(service.home, "export", "wine").stdout)
    (found,) = (item for item in exported["examples"] if second in item["text"])
    assert len(exported["examples"]) == 5
    assert at_rest(service, second)
    assert service.client.delete(f"{path}/{found['id']}").status_code == 204
    wait_for("the erased text to be gone", lambda: not at_rest(service, second), 20)
    assert at_rest(service, first)
    versions = service.client.get("/v1/occupations/wine/versions").json()["items"]
    marks = {version["version"]: version["erased_examples"] for version in versions}
    assert marks == {1: 0, 2: 0, 3: 1}
    assert service.classify(ASKED) == before

    assert vocation(service.home, "erase", "wine", "--yes").returncode == 0
    assert at_rest(service, first) == []
    assert service.client.get("/v1/occupations/wine").status_code == 404


def test_a_backup_of_a_running_service_restores_to_the_same_bytes_and_goes_on(
    service: RunningService, settings: Mapping[str, str], tmp_path: Path
) -> None:
    backup, home = tmp_path / "backup", tmp_path / "home"
    id = register(service, "sommelier")
    # It loads its libraries for seconds: whatever comes after stands still.
    child = wait_for("the training child", lambda: training_child(service))
    child.suspend()
    made = vocation(service.home, "backup", str(backup))
    child.resume()
    service.client.delete(f"/v1/registrations/{id}")
    assert made.returncode == 0, made.stderr
    assert _state(backup, id) == "running"
    champions = [{**item, "occupations": ["chef@1", "sommelier@1"]} for item in ASKED]
    before = service.client.post("/v1/classify", json={"experiences": champions}).content
    refused = vocation(service.home, "restore", str(backup))
    assert refused.returncode == 2
    assert "A service runs" in refused.stderr
    restored = vocation(home, "restore", str(backup))
    assert restored.returncode == 0, restored.stderr
    with running(home, environment=settings) as again:
        after = again.client.post("/v1/classify", json={"experiences": champions})
        assert after.content == before
        # What was running when the backup was taken is done again here.
        assert again.follow(id)["state"] == "succeeded"
        check_published_once(again, "sommelier", id)
