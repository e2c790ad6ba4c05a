"""Another process holds SQLite's write lock."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.support.measured import Measured
from tests.support.running_service import RunningService
from tests.support.sommelier import SOMMELIER

CHEF = {"text": "Cheffe de cuisine", "occupations": ["chef"]}
# The registry waits so long for a lock (BUSY_TIMEOUT_MILLISECONDS).
LOCK_WAIT_SECONDS = 15
_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Another process holds the write lock of a home's registry during the block."""
    command = [sys.executable, "-c", _HOLD, str(home / "registry.sqlite")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as holder:  # type: ignore[call-overload]  # two pipes
        assert holder.stdout.readline() == b"held\n"
        yield
        holder.stdin.close()
        assert holder.wait(10) == 0


def _register(service: RunningService, id: str) -> httpx.Response:
    body: dict[str, Any] = {**SOMMELIER, "id": id, "training": {"method": "head"}}
    return service.client.post("/v1/occupations", json=body)


def test_while_the_registry_is_locked_writes_wait_and_then_say_so_and_reads_go_on(
    tiny_service: RunningService, measured: Measured
) -> None:
    service = tiny_service
    # It writes at its start: a lock then would be another test.
    service.wait_for_trainer()
    before = service.classify([CHEF])
    with ThreadPoolExecutor(2) as pool:
        with locked(service.home):
            started = time.monotonic()
            first = pool.submit(_register, service, "refused")
            slowest, later = 0.0, None
            while not first.done():
                asked = time.monotonic()
                assert service.classify([CHEF]) == before
                assert service.client.get("/v1/occupations").status_code == 200
                assert service.client.get("/readyz").status_code == 200
                slowest = max(slowest, time.monotonic() - asked)
                if later is None and time.monotonic() - started > LOCK_WAIT_SECONDS / 2:
                    later = pool.submit(_register, service, "waiting")
                time.sleep(0.05)
            waited = time.monotonic() - started
            refused = first.result()
            assert refused.status_code == 503, refused.text
            assert refused.json()["code"] == "storage_unavailable"
            assert refused.headers["retry-after"] == "1"
        assert later is not None
        accepted = later.result()
    assert accepted.status_code == 202, accepted.text
    assert service.follow(accepted.json()["id"])["state"] == "succeeded"
    # What was refused left nothing behind.
    again = _register(service, "refused")
    assert again.status_code == 202
    assert service.follow(again.json()["id"])["state"] == "succeeded"
    measured("until a write is refused", waited, "s")
    measured("slowest three reads meanwhile", slowest, "s")
