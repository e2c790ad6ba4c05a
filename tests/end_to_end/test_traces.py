"""What a real service sends to a collector, and what it does when nobody collects."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.collector import Collector, Received
from tests.support.running_service import RunningService, running, wait_for
from tests.support.sommelier import SOMMELIER

CALLERS_TRACE, CALLERS_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = {"traceparent": f"00-{CALLERS_TRACE}-{CALLERS_SPAN}-01"}
UNSAMPLED = {"traceparent": f"00-{'ab' * 16}-{CALLERS_SPAN}-00"}

TEXT = "Taxidermiste itinérante zyzzyva"
EXPERIENCE_ID = "profil-zyzzyva-7"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="module")
def service(
    collector: Collector, prepared_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    home = tmp_path_factory.mktemp("traced") / "home"
    shutil.copytree(prepared_home, home)
    environment = {
        "VOCATION_TRACES_ENDPOINT": collector.endpoint,
        "VOCATION_LOG_FORMAT": "json",
        "VOCATION_LOG_LEVEL": "debug",
        # Of the SDK's own settings, in milliseconds: sooner than every 5 s.
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with running(home, environment=environment) as started:
        yield started


def request_span(collector: Collector, route: str, request_id: str) -> Received:
    """The server's span of a request, once it has been sent."""

    def find() -> Received | None:
        for span in collector.named(route):
            if span.attributes.get("vocation.request_id") == request_id:
                return span
        return None

    return wait_for(f"the span of {request_id}", find, 20)


def log_lines(service: RunningService) -> list[dict[str, Any]]:
    # The last line may be half written.
    lines = service.log.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_a_request_continues_its_callers_trace_and_its_batch_links_to_it(
    service: RunningService, collector: Collector
) -> None:
    reply = service.client.post(
        f"/v1/classify?note={TEXT}",
        json={"experiences": [{"id": EXPERIENCE_ID, "text": TEXT}]},
        headers={**TRACEPARENT, "X-Request-Id": "traced-1"},
    )
    assert reply.status_code == 200
    span = request_span(collector, "POST /v1/classify", "traced-1")
    assert (span.trace_id, span.parent_id) == (CALLERS_TRACE, CALLERS_SPAN)
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/classify",
        "http.response.status_code": 200,
        "vocation.request_id": "traced-1",
    }

    def linked() -> list[Received]:
        mine = (span.trace_id, span.span_id)
        return [batch for batch in collector.named("score batch") if mine in batch.links]

    (batch,) = wait_for("a batch that links to the request", linked, 20)
    assert batch.attributes["vocation.experiences"] == 1
    assert batch.trace_id != CALLERS_TRACE
    for said in (TEXT, "zyzzyva", EXPERIENCE_ID):
        assert said.encode() not in collector.received


def test_a_request_that_is_refused_is_traced_by_its_template(
    service: RunningService, collector: Collector
) -> None:
    headers = {"X-Request-Id": "traced-2"}
    assert service.client.get("/v1/occupations/zyzzyva", headers=headers).status_code == 404
    span = request_span(collector, "GET /v1/occupations/{id}", "traced-2")
    assert span.attributes["http.response.status_code"] == 404
    assert (span.parent_id, span.failed) == ("", False)
    reply = service.client.post("/v1/classify", content=b"{", headers={"X-Request-Id": "traced-3"})
    assert reply.status_code == 400
    request_span(collector, "POST /v1/classify", "traced-3")
    assert b"zyzzyva" not in collector.received


def test_what_the_caller_does_not_sample_and_probes_are_not_sent(
    service: RunningService, collector: Collector
) -> None:
    headers = {**UNSAMPLED, "X-Request-Id": "unsampled"}
    body = {"experiences": [{"text": "Comptable"}]}
    assert service.client.post("/v1/classify", json=body, headers=headers).status_code == 200
    for probe in ("/readyz", "/livez", "/metrics", "/nowhere"):
        service.client.get(probe)
    service.client.get("/v1/occupations", headers={"X-Request-Id": "after"})
    # Sent in the order in which they ended: what came before would have come by then.
    request_span(collector, "GET /v1/occupations", "after")
    sent = collector.received
    assert b"unsampled" not in sent
    assert bytes.fromhex("ab" * 16) not in sent
    assert not [word for word in (b"readyz", b"livez", b"metrics", b"nowhere") if word in sent]


def test_a_registrations_spans_carry_the_id_that_its_requests_span_carries(
    service: RunningService, collector: Collector
) -> None:
    headers = {"X-Request-Id": "registering"}
    reply = service.client.post("/v1/occupations", json=SOMMELIER, headers=headers)
    registration = reply.json()["id"]
    assert service.follow(registration)["state"] == "succeeded"
    span = request_span(collector, "POST /v1/occupations", "registering")
    assert span.attributes["vocation.registration"] == registration

    def of_registration(name: str) -> list[Received]:
        mine = {"vocation.registration": registration}
        return [span for span in collector.named(name) if span.attributes == mine]

    (whole,) = wait_for("the registration", lambda: of_registration("registration"), 20)
    assert whole.service == "vocation-trainer"
    for name in ("head", "succeed"):
        (stage,) = of_registration(name)
        assert (stage.trace_id, stage.parent_id) == (whole.trace_id, whole.span_id)


def test_a_requests_log_line_has_its_request_id_and_the_id_of_its_trace(
    service: RunningService,
) -> None:
    def lines() -> list[dict[str, Any]]:
        return [line for line in log_lines(service) if line.get("request_id") == "traced-1"]

    (line,) = wait_for("the request's line", lines, 20)
    assert (line["message"], line["route"]) == ("request", "/v1/classify")
    assert line["trace_id"] == CALLERS_TRACE


def test_without_its_collector_a_service_answers_says_so_once_and_ends_in_time(
    service: RunningService, collector: Collector
) -> None:
    """The last test of the module: neither comes back."""

    def warnings() -> list[dict[str, Any]]:
        return [line for line in log_lines(service) if "does not answer" in line["message"]]

    assert warnings() == []
    collector.close()
    for number in range(20):
        (answer,) = service.classify([{"text": f"Infirmier {number}"}])
        assert answer["scores"]
    wait_for("a word of the lost spans", warnings, 20)
    for number in range(20):
        service.classify([{"text": f"Infirmière {number}"}])
    started = time.monotonic()
    service.stop()
    assert time.monotonic() - started < 15
    # Once a minute and process; the Trainer had nothing to send.
    (line,) = warnings()
    assert (line["level"], line["logger"]) == ("warning", "service.telemetry.span_exporter")
