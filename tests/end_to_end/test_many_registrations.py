"""Many registrations queued at once: all end, in their order, and classify goes on."""

from __future__ import annotations

import os
import time
from typing import Any

from tests.support.measured import Measured
from tests.support.running_service import RunningService, wait_for
from tests.support.sommelier import SOMMELIER

# REGISTRATIONS=1000 for the figure in docs/faults.md; CI takes fewer.
COUNT = int(os.environ.get("REGISTRATIONS", "100"))
CHEF = {"text": "Cheffe de cuisine", "occupations": ["chef@1"]}
CORRECTIONS = 5


def _finished(service: RunningService) -> bool:
    unfinished = (
        service.client.get(f"/v1/registrations?state={state}&limit=1").json()["items"]
        for state in ("queued", "running")
    )
    return not any(unfinished)


def test_many_registrations_at_once_all_end_in_order_beside_classify(
    tiny_service: RunningService, measured: Measured
) -> None:
    service = tiny_service
    # What it takes for its libraries is not of the registrations.
    service.wait_for_trainer()
    processes = [service.worker(name) for name in ("vocation", "trainer")]
    before = service.classify([CHEF])
    memory = [process.memory_info().rss for process in processes]
    started = time.monotonic()
    accepted, corrections = [], []
    for number in range(COUNT):
        body: dict[str, Any] = {
            **SOMMELIER,
            "id": f"many-{number:04}",
            "training": {"method": "head"},
        }
        reply = service.client.post("/v1/occupations", json=body)
        assert reply.status_code == 202, reply.text
        accepted.append(reply.json()["id"])
        if number % (COUNT // CORRECTIONS) == 0:
            more = {"examples": [{"text": f"Cuisinier {number}", "label": "in"}]}
            reply = service.client.post("/v1/occupations/chef/examples", json=more)
            corrections.append(reply.json()["id"])
    queued = time.monotonic() - started
    slowest = 0.0

    def ended() -> bool:
        nonlocal slowest
        asked = time.monotonic()
        assert service.classify([CHEF])[0]["scores"] == before[0]["scores"]
        slowest = max(slowest, time.monotonic() - asked)
        return _finished(service)

    wait_for(f"{COUNT} registrations", ended, 300 + COUNT)
    seconds = time.monotonic() - started
    registrations = [service.client.get(f"/v1/registrations/{id}").json() for id in accepted]
    assert {item["state"] for item in registrations} == {"succeeded"}
    assert all([v["version"] for v in item["versions"]] == [1] for item in registrations)
    # Those of one occupation run one after the other, in the order in which they were accepted.
    corrected = [service.client.get(f"/v1/registrations/{id}").json() for id in corrections]
    assert [v["version"] for item in corrected for v in item["versions"]] == [
        *range(2, 2 + len(corrections))
    ]
    ends = sorted(item["updated_at"] for item in registrations)
    places = {end: place for place, end in enumerate(ends)}
    overtaken = max(places[item["updated_at"]] - n for n, item in enumerate(registrations))
    grown = [
        process.memory_info().rss - rss for process, rss in zip(processes, memory, strict=True)
    ]
    measured("registrations", COUNT, "registrations")
    measured("until all were queued", queued, "s")
    measured("until all had ended", seconds, "s")
    measured("slowest classify meanwhile", slowest, "s")
    measured("most places that one lost", overtaken, "places")
    measured("memory that the API process gained", grown[0] / 2**20, "MiB")
    measured("memory that the Trainer gained", grown[1] / 2**20, "MiB")
    assert max(grown) < (64 << 20) + COUNT * 512 * 1024
