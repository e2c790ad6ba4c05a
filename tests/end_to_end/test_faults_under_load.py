"""Processes that end under load: no accepted request or registration is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

from service.telemetry.metrics_directory import keep_in_memory
from tests.support.load import Load, Outcome, load
from tests.support.measured import Measured
from tests.support.running_service import RunningService, running, wait_for
from tests.support.sommelier import SOMMELIER

SEED = int(os.environ.get("FAULTS_SEED", "2027"))
KILLS = int(os.environ.get("FAULTS_KILLS", "2"))
CLIENTS = 6
# Long enough that every client has a request in progress at any moment.
LONG = {
    "experiences": [
        {"text": f"{number} " + "encadrement d'équipes en cuisine " * 30, "occupations": ["chef"]}
        for number in range(128)
    ]
}


def _register(service: RunningService, id: str) -> str | None:
    """The registration's id where it was accepted."""
    body: dict[str, Any] = {**SOMMELIER, "id": id, "training": {"method": "head"}}
    try:
        reply = service.client.post("/v1/occupations", json=body)
    except httpx.TransportError:
        return None
    return str(reply.json()["id"]) if reply.status_code == 202 else None


def _answers(service: RunningService) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return service.client.get("/readyz").status_code == 200
    return False


def _metrics(service: RunningService) -> list[str]:
    return httpx.get(f"{service.client.base_url}/metrics", timeout=60).text.splitlines()


def _in_progress(service: RunningService) -> float:
    # On a connection of its own, which is accepted after those that came before.
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in _metrics(service)
        if line.startswith("bentoml_service_request_in_progress{") and '"/v1/classify"' in line
    )


def _seen_in_progress(service: RunningService, clients: Load) -> float | None:
    """A moment at which requests were in progress, if it was seen sooner than they are answered."""
    moment = time.monotonic()
    usual = statistics.median(outcome.over - outcome.sent for outcome in clients.outcomes)
    in_progress = _in_progress(service) >= 2
    return moment if in_progress and time.monotonic() - moment < usual / 2 else None


def _answered_since(clients: Load, moment: float) -> Callable[[], list[Outcome]]:
    return lambda: clients.answered_after(moment)


def _another(service: RunningService, name: str, dead: int) -> Callable[[], bool]:
    return lambda: service.worker(name).pid != dead


def test_sigterm_under_load_answers_every_request_that_was_accepted(
    tiny_home: Path, tiny_settings: Mapping[str, str], measured: Measured
) -> None:
    # Nothing kept: each request is computed, and takes its time. None is refused for the wait.
    environment = {
        **tiny_settings,
        "VOCATION_EMBEDDING_CACHE_BYTES": "0",
        "VOCATION_LONGEST_WAIT_SECONDS": "60",
    }
    service = RunningService(tiny_home, environment=environment)
    service.start()
    accepted = []
    with load(str(service.client.base_url), LONG, CLIENTS) as clients:
        wait_for("a load", lambda: len(clients.answered_after(0)) >= 2 * CLIENTS, 120)
        accepted = [_register(service, f"before-{number}") for number in range(4)]
        assert all(accepted)
        # Connected, sent and read by the service: a connection that still waits to be accepted
        # when the service stops listening is refused, and the client may send again.
        in_time = wait_for("requests in progress", lambda: _seen_in_progress(service, clients), 120)
        assert service.process is not None
        signalled = time.monotonic()
        service.stop(signal.SIGTERM)
        seconds = time.monotonic() - signalled
    in_progress = [o for o in clients.outcomes if o.sent < in_time and o.over > signalled]
    earlier = [o for o in clients.outcomes if o.over <= signalled]
    assert in_progress
    assert {outcome.status for outcome in (*earlier, *in_progress)} == {200}
    refused = [o for o in clients.outcomes if o.sent >= in_time and o.status is None]
    measured("requests in progress at the signal, all answered", len(in_progress), "requests")
    measured("until every process has ended", seconds, "s")
    measured("refused after the signal", len(refused), "requests")
    service.start()
    try:
        for registration in accepted:
            assert service.follow(str(registration))["state"] == "succeeded"
    finally:
        service.stop()
        service.client.close()


def test_kills_at_any_moment_under_load_lose_no_registration_and_classify_comes_back(
    tiny_home: Path, tiny_settings: Mapping[str, str], measured: Measured
) -> None:
    chance = random.Random(SEED)  # noqa: S311  # moments, not secrets
    one = {"experiences": [{"text": "Cheffe de cuisine", "occupations": ["chef"]}]}
    accepted: list[str] = []
    gaps: dict[str, list[float]] = {"vocation": [], "trainer": []}
    with (
        running(tiny_home, environment=tiny_settings) as service,
        load(str(service.client.base_url), one, CLIENTS) as clients,
    ):
        for number in range(KILLS):
            victim = ("vocation", "trainer")[number % 2]
            for each in range(4):
                registration = _register(service, f"kill-{number}-{each}")
                accepted += [registration] if registration else []
            time.sleep(chance.uniform(0.0, 0.6))  # the moment is what is drawn
            process = service.worker(victim)
            parent = process.ppid()
            process.kill()
            killed = time.monotonic()
            wait_for("an answer", _answered_since(clients, killed), 60)
            gaps[victim].append(min(o.over for o in clients.answered_after(killed)) - killed)
            wait_for(f"another {victim}", _another(service, victim, process.pid), 60)
            # By its own parent: the supervisor looks only every ten seconds.
            assert service.worker(victim).ppid() == parent
            if victim == "trainer":
                meanwhile = clients.in_seconds(killed, time.monotonic())
                assert {outcome.status for outcome in meanwhile} == {200}
        # A POST whose reply was lost may have been accepted too: it is there, and ends as well.
        ids = {item["id"] for item in _registrations(service)}
        assert set(accepted) <= ids
        for registration in ids:
            assert service.follow(registration)["state"] == "succeeded"
        versions = [item["versions"] for item in _registrations(service)]
        assert all([version["version"] for version in each] == [1] for each in versions)
    lost = [outcome for outcome in clients.outcomes if outcome.status != 200]
    measured("classify requests", len(clients.outcomes), "requests")
    measured("of them lost, over all kills", len(lost), "requests")
    measured("longest silence after an API process was killed", max(gaps["vocation"]), "s")
    measured("longest silence after a Trainer was killed", max(gaps["trainer"]), "s")
    measured("registrations accepted, all succeeded", len(accepted), "registrations")
    assert max(gaps["trainer"]) < 2
    # The supervisor looks every ten seconds: this is not its work.
    assert max(gaps["vocation"]) < 8


def test_a_killed_parent_of_the_api_process_is_replaced_and_no_request_notices(
    tiny_home: Path, tiny_settings: Mapping[str, str], measured: Measured
) -> None:
    one = {"experiences": [{"text": "Cheffe de cuisine", "occupations": ["chef"]}]}
    with (
        running(tiny_home, environment=tiny_settings) as service,
        load(str(service.client.base_url), one, CLIENTS) as clients,
    ):
        left = service.worker("vocation")
        service.waiting_process("vocation").kill()
        killed = time.monotonic()
        # The parent may be seen for a moment yet, and then the worker that it leaves is too.
        wait_for("another", lambda: [w for w in service.workers("vocation") if w != left], 120)
        # Both serve by now, from the same socket.
        wait_for("answers", lambda: len(clients.answered_after(killed)) > 10 * CLIENTS, 60)
        measured("until a parent was there again", time.monotonic() - killed, "s")
        requests = list(clients.outcomes)
        left.terminate()
    measured("requests meanwhile, all answered", len(requests), "requests")
    assert {outcome.status for outcome in requests} == {200}


def _registrations(service: RunningService) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = service.client.get("/v1/registrations?limit=500").json()["items"]
    return items


def test_what_a_killed_supervisor_leaves_goes_on_and_is_started_again_until_it_is_ended(
    tiny_home: Path, tiny_settings: Mapping[str, str]
) -> None:
    service = RunningService(tiny_home, environment=tiny_settings)
    service.start()
    supervisor, *left = service.family()
    api = service.worker("vocation")
    assert service.process is not None
    try:
        supervisor.kill()
        service.process.wait()
        # As a worker of another service does that starts on the machine.
        keep_in_memory({"PROMETHEUS_MULTIPROC_DIR": ""}, supervisor=os.getpid())
        registration = _register(service, "unsupervised")
        assert service.follow(str(registration))["state"] == "succeeded"
        assert service.classify([{"text": "Sommelier", "occupations": ["unsupervised"]}])
        api.kill()
        wait_for("the successor", lambda: _answers(service), 60)
        assert service.classify([{"text": "Sommelier", "occupations": ["unsupervised"]}])
        # By both API processes: the successor goes on where the one before it was.
        assert 'vocation_experiences_total{outcome="scored"} 2.0' in _metrics(service)
    finally:
        # The port is theirs until then.
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                left += [child for child in process.children() if child not in left]
                process.kill()
        psutil.wait_procs(left, timeout=10)
        service.process = None
    service.start()
    try:
        assert service.classify([{"text": "Sommelier", "occupations": ["unsupervised"]}])
    finally:
        service.stop()
        service.client.close()
