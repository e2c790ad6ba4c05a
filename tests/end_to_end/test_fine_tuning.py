"""Fine-tuning by real processes: judged, shared, published whole, cancelled at once."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.running_service import RunningService, running, wait_for
from tests.support.sommelier import SOMMELIER
from tests.support.training_faults import training_child

TUNED = {"VOCATION_FINE_TUNING": "auto"}
FORCED = {**SOMMELIER, "training": {"method": "setfit"}}
TEXTS = [
    {"text": "Sommelière, restaurant étoilé"},
    {"text": "Data engineer, Spark et Airflow"},
    *({"text": f"Poste {n}: " + "missions variées " * n} for n in range(30)),
]


def test_a_registration_goes_on_to_a_tuned_version_that_shares_its_trunk(
    fresh_home: Path,
) -> None:
    with running(fresh_home, environment=TUNED) as service:
        first = _register(service, "sommelier")
        second = _register(service, "caviste")
        # The head versions answer long before.
        wait_for("the first head version", lambda: _champion(service, "sommelier") == 1)
        for registration in (first, second):
            finished = service.follow(registration, 600)
            assert finished["state"] == "succeeded", finished
            assert finished["versions"] == [
                {"version": 1, "method": "head", "champion": False},
                {"version": 2, "method": "setfit", "champion": True},
            ]
        manifests = [
            service.client.get(f"/v1/occupations/{id}/versions/2").json()["manifest"]
            for id in ("sommelier", "caviste")
        ]
        assert manifests[0]["encoder"]["trunk"] == manifests[1]["encoder"]["trunk"]
        # The same examples give the same version, digest for digest.
        assert manifests[0]["encoder"]["digest"] == manifests[1]["encoder"]["digest"]
        assert manifests[0]["data"]["digest"] == manifests[1]["data"]["digest"]
        assert {"average_precision", "f1"} <= manifests[0]["metrics"].keys()
        assert manifests[0]["decision"]["reason"]

        asked = [{**text, "occupations": ["sommelier", "caviste@2", "chef"]} for text in TEXTS]
        together = service.classify(asked)
        assert [answer["scores"][0]["version"] for answer in together] == [2] * len(TEXTS)
        for index in (0, 1, 31):
            assert service.classify([asked[index]]) == [together[index]]
        assert together[0]["scores"][0]["score"] > together[1]["scores"][0]["score"]
        assert together[0]["scores"][0]["score"] == together[0]["scores"][1]["score"]
        assert service.classify([{**TEXTS[0], "occupations": ["sommelier@1"]}])[0]["scores"]
    assert not list((fresh_home / "jobs").iterdir())
    with running(fresh_home, environment=TUNED) as service:
        assert service.classify(asked) == together


def test_cancelling_stops_the_child_within_a_second_and_leaves_nothing(
    fresh_home: Path, record_property: Callable[[str, object], None]
) -> None:
    with running(fresh_home, environment=TUNED) as service:
        registration = _register(service, "sommelier")
        child = wait_for("the training child", lambda: training_child(service))
        assert service.client.delete(f"/v1/registrations/{registration}").status_code == 200
        started = time.monotonic()
        _, alive = psutil.wait_procs([child], timeout=5)
        seconds = round(time.monotonic() - started, 3)
        assert not alive
        record_property("child_gone_after_seconds", seconds)
        sys.stdout.write(f"the child was gone {seconds} s after the reply\n")
        assert service.follow(registration)["state"] == "cancelled"
        wait_for("the job's folder to go", lambda: not list((fresh_home / "jobs").iterdir()), 10)
        assert not list((fresh_home / "artifacts").glob(".staging/*"))
        # The head version that was published before stays.
        assert _champion(service, "sommelier") == 1


def _register(service: RunningService, id: str) -> str:
    body: dict[str, Any] = {**FORCED, "id": id}
    reply = service.client.post("/v1/occupations", json=body)
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


def _champion(service: RunningService, id: str) -> int | None:
    with contextlib.suppress(httpx.TransportError):
        champion: int | None = service.client.get(f"/v1/occupations/{id}").json()["champion"]
        return champion
    return None
