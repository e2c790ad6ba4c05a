"""Killed processes: nothing accepted is lost, and classify goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.running_service import RunningService, running, wait_for
from tests.support.sommelier import SOMMELIER


def test_a_killed_trainer_comes_back_and_ends_what_was_accepted(fresh_home: Path) -> None:
    with running(fresh_home) as service:
        accepted = [
            service.client.post("/v1/occupations", json={**SOMMELIER, "id": f"sommelier-{n}"})
            for n in range(6)
        ]
        trainer = service.worker("trainer")
        trainer.send_signal(signal.SIGKILL)
        # Classify and readiness do not depend on the Trainer.
        assert service.classify([{"text": "Chef de cuisine"}])
        assert service.client.get("/readyz").status_code == 200
        for reply in accepted:
            finished = service.follow(reply.json()["id"])
            assert finished["state"] == "succeeded"
            assert [version["version"] for version in finished["versions"]] == [1]
        assert service.worker("trainer").pid != trainer.pid


def test_a_killed_api_process_comes_back_with_the_same_answers(fresh_home: Path) -> None:
    with running(fresh_home) as service:
        before = service.classify([{"text": "Infirmière de bloc"}])
        api = service.worker("vocation")
        accepted = service.client.post("/v1/occupations", json=SOMMELIER).json()
        api.send_signal(signal.SIGKILL)
        api.wait()
        wait_for("/readyz of a new process", lambda: _ready(service))
        assert service.follow(accepted["id"])["state"] == "succeeded"
        assert service.classify([{"text": "Infirmière de bloc", "occupations": ["nurse"]}]) == [
            {**before[0], "scores": [s for s in before[0]["scores"] if s["occupation"] == "nurse"]}
        ]


def test_an_interrupt_ends_every_process(fresh_home: Path) -> None:
    service = RunningService(fresh_home)
    service.start()
    family = service.family()
    assert len(family) >= 3
    service.stop(signal.SIGINT)
    assert not any(process.is_running() and not _zombie(process) for process in family)


def test_a_second_service_on_the_same_home_stands_by_and_takes_over(fresh_home: Path) -> None:
    with running(fresh_home) as first, running(fresh_home) as second:
        accepted = second.client.post("/v1/occupations", json=SOMMELIER).json()
        assert second.follow(accepted["id"])["state"] == "succeeded"
        # Both serve it, whoever trained it.
        text = {"text": "Sommelier", "occupations": ["sommelier"]}
        assert first.classify([text]) == second.classify([text])
        first.stop()
        again = second.client.post("/v1/occupations", json={**SOMMELIER, "id": "caviste"}).json()
        assert second.follow(again["id"])["state"] == "succeeded"


def test_a_promotion_reaches_requests_within_a_second_and_fails_none(fresh_home: Path) -> None:
    with running(fresh_home) as service:
        added = service.client.post(
            "/v1/occupations/chef/examples",
            json={"examples": [{"title": "Pâtissier tourier", "label": "in"}]},
        ).json()
        assert service.follow(added["id"])["state"] == "succeeded"
        text = {"text": "Cheffe pâtissière", "occupations": ["chef"]}
        assert _version(service, text) == 2
        promoted = service.client.put("/v1/occupations/chef/champion", json={"version": 1})
        assert promoted.status_code == 200
        started = time.monotonic()
        wait_for("the former champion", lambda: _version(service, text) == 1, 5)
        assert time.monotonic() - started < 5
        assert (
            service.classify([{**text, "occupations": ["chef@2"]}])[0]["scores"][0]["version"] == 2
        )


def _ready(service: RunningService) -> bool:
    try:
        return service.client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _version(service: RunningService, text: Mapping[str, Any]) -> int:
    return int(service.classify([text])[0]["scores"][0]["version"])


def _zombie(process: psutil.Process) -> bool:
    return bool(process.status() == psutil.STATUS_ZOMBIE)
