"""Promotion under load, over two API processes: at once, and nobody notices but by the version."""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.support.running_service import RunningService, running, wait_for
from tests.support.tiny_service import write_tiny_settings
from tests.support.training_faults import register

FLIPS = 20
CALLERS = 3
# More than one batch takes (VOCATION_MAX_BATCH_SIZE), so that a request is split and joined.
EXPERIENCES = [
    {"text": f"Sommelier {n}", "occupations": ["tuned", "chef"][: 1 + n % 2]} for n in range(70)
]
_BODY = json.dumps({"experiences": EXPERIENCES})
# What fails the test; what was measured is printed.
LONGEST_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One answered request: when it was sent and answered, and what it says."""

    sent: float
    answered: float
    status: int
    versions: frozenset[int]
    items: int


class Callers:
    """Threads that classify without a pause, each request on a connection of its own."""

    def __init__(self, service: RunningService) -> None:
        self._port = service.port
        self._stopping = threading.Event()
        self.replies: list[Reply] = []

    def call(self) -> None:
        """Classify until told to stop."""
        while not self._stopping.is_set():
            # The kernel gives each connection to one of the processes that listen.
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            sent = time.monotonic()
            connection.request("POST", "/v1/classify", _BODY, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            content = reply.read()
            answered = time.monotonic()
            connection.close()
            items = json.loads(content) if reply.status == 200 else []
            self.replies.append(
                Reply(
                    sent,
                    answered,
                    reply.status,
                    frozenset(
                        score["version"]
                        for item in items
                        for score in item.get("scores", [])
                        if score["occupation"] == "tuned"
                    ),
                    sum("scores" in item for item in items),
                )
            )

    def stop(self) -> None:
        """Let the threads end after the request they are in."""
        self._stopping.set()

    def since(self, moment: float) -> list[Reply]:
        """Replies to what was sent after a moment, in the order of sending."""
        return sorted(
            (reply for reply in list(self.replies) if reply.sent > moment), key=lambda r: r.sent
        )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Two API processes, and an occupation with a head (1) and a fine-tuned version (2)."""
    folder = tmp_path_factory.mktemp("promotion")
    environment = {**write_tiny_settings(folder), "VOCATION_API_WORKERS": "2"}
    # Whoever waits is answered: refusals are of other tests.
    environment["VOCATION_LONGEST_WAIT_SECONDS"] = "60"
    with running(folder / "home", environment=environment) as started:
        finished = started.follow(register(started, "tuned"))
        assert [version["method"] for version in finished["versions"]] == ["head", "setfit"]
        yield started


def test_a_promotion_is_seen_by_every_process_at_once_and_no_request_fails_or_mixes_versions(
    service: RunningService, record_property: Callable[[str, object], None]
) -> None:
    busy_before = _busy_seconds(service)
    callers = Callers(service)
    with ThreadPoolExecutor(CALLERS) as pool:
        running_callers = [pool.submit(callers.call) for _ in range(CALLERS)]
        try:
            wait_for("first replies", lambda: len(callers.replies) >= CALLERS)
            lags = [_promote(service, callers, 1 + flip % 2) for flip in range(FLIPS)]
        finally:
            callers.stop()
        for caller in running_callers:
            caller.result()
    replies = callers.replies
    assert {reply.status for reply in replies} == {200}
    assert {reply.items for reply in replies} == {len(EXPERIENCES)}
    assert {len(reply.versions) for reply in replies} == {1}
    assert {version for reply in replies for version in reply.versions} == {1, 2}
    seconds = [reply.answered - reply.sent for reply in replies]
    assert max(seconds) < LONGEST_SECONDS
    # Both processes have answered, or it would show nothing about the second.
    busy = {pid: seconds - busy_before[pid] for pid, seconds in _busy_seconds(service).items()}
    assert min(busy.values()) > 0.1 * max(busy.values()), busy
    measured = {
        "promotions": FLIPS,
        "requests": len(replies),
        "longest_lag_seconds": round(max(lags), 3),
        "median_request_seconds": round(statistics.median(seconds), 3),
        "longest_request_seconds": round(max(seconds), 3),
    }
    record_property("measured", measured)
    sys.stdout.write(f"{measured}\n")


def _promote(service: RunningService, callers: Callers, version: int) -> float:
    """Promote; returns how long after the reply a request was sent that the former answered."""
    reply = service.client.put("/v1/occupations/tuned/champion", json={"version": version})
    assert reply.status_code == 200
    promoted = time.monotonic()

    def settled() -> bool:
        # So many in a row that each process is among them.
        last = callers.since(promoted)[-20:]
        return len(last) == 20 and all(r.versions == {version} for r in last)

    wait_for(f"version {version} in every process", settled, LONGEST_SECONDS + 15)
    seen = callers.since(promoted)
    former = [reply.sent - promoted for reply in seen if reply.versions != {version}]
    assert max(former, default=0.0) < LONGEST_SECONDS
    return max(former, default=0.0)


def _busy_seconds(service: RunningService) -> dict[int, float]:
    found = {}
    for process in service.workers("vocation"):
        times = process.cpu_times()
        found[process.pid] = times.user + times.system
    assert len(found) == 2
    return found
