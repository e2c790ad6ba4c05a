"""A disk that turns read-only under a running service, and one that is so at a start.

``tests/support/read_only_disk.py`` says how it is made without privileges, and what it leaves out.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.registry import encoders, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from tests.support.measured import Measured
from tests.support.read_only_disk import ReadOnlyDisk
from tests.support.running_service import (
    SERVE,
    RunningService,
    free_port,
    running,
    wait_for,
)
from tests.support.sommelier import SOMMELIER
from tests.support.training_faults import Missed, catch, read_registration, register

CHEF = {"text": "Cheffe de cuisine", "occupations": ["chef"]}
MORE = {"examples": [{"text": "Sommelière de palace", "label": "in"}]}


@pytest.fixture
def disk(tiny_home: Path, tmp_path: Path) -> ReadOnlyDisk:
    return ReadOnlyDisk(tiny_home, tmp_path)


def _catch_in_head(service: RunningService) -> tuple[str, str]:
    """Registrations of one occupation: one whose Trainer stands still amid its work, one behind."""
    for attempt in range(10):
        occupation = f"sommelier-{attempt}"
        working = register(service, occupation, "head")
        queued = service.client.post(f"/v1/occupations/{occupation}/examples", json=MORE)
        with contextlib.suppress(Missed):
            trainer = catch(service, working, "head")
            if not read_registration(service, working)["versions"]:
                return working, str(queued.json()["id"])
            trainer.resume()
    raise AssertionError("every registration had ended before it was seen")


def _register(service: RunningService, occupation: str) -> str | None:
    new = {**SOMMELIER, "id": occupation, "training": {"method": "head"}}
    reply = service.client.post("/v1/occupations", json=new)
    return str(reply.json()["id"]) if reply.status_code == 202 else None


def _refused(reply: httpx.Response) -> None:
    assert reply.status_code == 503, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["retry-after"] == "1"
    assert reply.json()["code"] == "storage_unavailable"


def _every_write(service: RunningService, registration: str) -> float:
    """Try every kind of write, each of which is refused; returns the slowest one's seconds."""
    new = {**SOMMELIER, "id": "refused", "training": {"method": "head"}}
    tried: list[tuple[str, str, Any]] = [
        ("POST", "/v1/occupations", new),
        ("POST", "/v1/occupations/chef/examples", MORE),
        ("PUT", "/v1/occupations/chef/champion", {"version": 1}),
        ("DELETE", "/v1/occupations/chef", None),
        ("DELETE", f"/v1/registrations/{registration}", None),
    ]
    slowest = 0.0
    for method, path, body in tried:
        started = time.monotonic()
        _refused(service.client.request(method, path, json=body))
        slowest = max(slowest, time.monotonic() - started)
    return slowest


def _check_published_whole(service: RunningService) -> None:
    """Every version that the registry knows has whole artifacts, and answers."""
    store = ArtifactStore(str(service.home / "artifacts"), service.home / "cache")
    registry = Database(f"sqlite:///{service.home / 'registry.sqlite'}")
    with registry.read() as connection:
        used = versions.referenced_artifacts(connection)
        used |= encoders.referenced_artifacts(connection)
    registry.close()
    assert all(store.whole(digest) for digest in used)
    occupations = service.client.get("/v1/occupations").json()["items"]
    for occupation in (item["id"] for item in occupations):
        found = service.client.get(f"/v1/occupations/{occupation}/versions").json()["items"]
        asked = [f"{occupation}@{version['version']}" for version in found]
        answers = service.classify([{"text": "Sommelier", "occupations": [id]} for id in asked])
        assert all("scores" in answer for answer in answers), answers


def test_while_the_disk_is_read_only_classify_goes_on_writes_say_so_and_nothing_accepted_is_lost(
    tiny_home: Path, tiny_settings: Mapping[str, str], disk: ReadOnlyDisk, measured: Measured
) -> None:
    with running(tiny_home, environment={**tiny_settings, **disk.environment}) as service:
        service.wait_for_trainer()
        before = service.classify([CHEF])
        working, queued = _catch_in_head(service)
        with disk.read_only():
            service.worker("trainer").resume()
            # More connections than the pool has yet: SQLite opens them read-only.
            with ThreadPoolExecutor(8) as pool:
                read = list(pool.map(service.client.get, ["/v1/occupations"] * 32))
            assert {reply.status_code for reply in read} == {200}
            slowest = _every_write(service, queued)
            # It has tried to go on, and could not.
            wait_for("a failure", lambda: "registration failed" in service.log.read_text(), 20)
            assert service.client.get("/livez").status_code == 200
            assert service.client.get("/readyz").status_code == 200
            assert service.classify([CHEF]) == before
            assert read_registration(service, working)["versions"] == []
            assert read_registration(service, queued)["state"] == "queued"
        writable = time.monotonic()
        failed, succeeded = service.follow(working), service.follow(queued)
        measured("until what was accepted has ended", time.monotonic() - writable, "s")
        measured("slowest refused write", slowest, "s")
        assert (failed["state"], failed["error"]["code"]) == ("failed", "storage_unavailable")
        assert failed["versions"] == []
        assert succeeded["state"] == "succeeded"
        assert succeeded["versions"] == [{"version": 1, "method": "head", "champion": True}]
        # A name that was refused is free. What SQLite opened meanwhile may refuse once more.
        accepted = wait_for("a write that is accepted", lambda: _register(service, "refused"), 10)
        assert service.follow(accepted)["state"] == "succeeded"
        assert service.classify([CHEF]) == before
        _check_published_whole(service)


def test_a_start_on_a_read_only_disk_ends_with_status_2_and_one_line_that_names_the_folder(
    tiny_home: Path, tiny_settings: Mapping[str, str], disk: ReadOnlyDisk
) -> None:
    own = {"VOCATION_HOME": str(tiny_home), **tiny_settings, **disk.environment}
    command = [*SERVE, "--port", str(free_port())]
    with disk.read_only():
        ended = subprocess.run(
            command,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert str(tiny_home) in line
    assert "Read-only file system" in line
