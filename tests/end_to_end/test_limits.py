"""Overload and deadlines, ours and BentoML's, as problem documents."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import httpx

from tests.support.running_service import RunningService, running, wait_for

LONG = {"text": "Conduite de projets et encadrement d'équipes pluridisciplinaires. " * 40}


def test_too_many_requests_are_refused_with_retry_after_and_the_rest_are_answered(
    fresh_home: Path,
) -> None:
    with running(fresh_home, environment={"VOCATION_MAX_CONCURRENCY": "2"}) as service:
        together = threading.Barrier(16)

        def ask(_: int) -> httpx.Response:
            together.wait()
            return service.client.post("/v1/classify", json={"experiences": [LONG] * 64})

        with ThreadPoolExecutor(16) as pool:
            replies = list(pool.map(ask, range(16)))
        assert {reply.status_code for reply in replies} == {200, 429}
        for refused in (reply for reply in replies if reply.status_code == 429):
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.headers["retry-after"] == "1"
            assert refused.json()["code"] == "overloaded"
        assert service.classify([LONG])


def test_what_would_wait_too_long_is_refused_and_each_refusal_is_counted(fresh_home: Path) -> None:
    with running(fresh_home, environment={"VOCATION_LONGEST_WAIT_SECONDS": "0.000001"}) as service:
        # How long an experience takes is learnt from answers: nobody is refused before the first.
        assert service.classify([LONG])
        numbers = count()

        def ask(_: int) -> httpx.Response:
            # Texts that no request had before: what is kept of those takes no time.
            texts = [{"text": f"{next(numbers)} {LONG['text']}"} for _ in range(64)]
            return service.client.post("/v1/classify", json={"experiences": texts})

        replies: list[httpx.Response] = []

        def refused() -> list[httpx.Response]:
            with ThreadPoolExecutor(8) as pool:
                replies.extend(pool.map(ask, range(16)))
            return [reply for reply in replies if reply.status_code != 200]

        refusals = wait_for("refusals", refused, 60)
        assert {reply.status_code for reply in refusals} == {429}
        assert {reply.json()["code"] for reply in refusals} == {"overloaded"}
        wait_for("each of them counted", lambda: _refused(service) == len(refusals), 20)


def _refused(service: RunningService) -> float:
    """Classify requests refused: at the edge, and behind BentoML's layers, which counts those."""
    counters = ("vocation_requests_refused_total{", "bentoml_service_request_total{")
    labels = ('endpoint="/v1/classify"', 'http_response_code="429"')
    return sum(
        float(sample.rsplit(" ", 1)[1])
        for sample in service.client.get("/metrics").text.splitlines()
        if sample.startswith(counters) and all(label in sample for label in labels)
    )


def test_a_request_over_its_deadline_is_a_504(fresh_home: Path) -> None:
    environment = {"VOCATION_REQUEST_TIMEOUT_SECONDS": "1", "VOCATION_THREADS": "1"}
    with running(fresh_home, environment=environment) as service:
        texts = [{"text": f"{n} {LONG['text']}"} for n in range(256)]
        with ThreadPoolExecutor(4) as pool:
            replies = list(
                pool.map(
                    lambda _: service.client.post("/v1/classify", json={"experiences": texts}),
                    range(4),
                )
            )
        late = [reply for reply in replies if reply.status_code != 200]
        assert late
        assert {reply.json()["code"] for reply in late} <= {"deadline_exceeded", "overloaded"}
        assert "deadline_exceeded" in {reply.json()["code"] for reply in late}


def test_metrics_have_bounded_paths_and_every_stage(service: RunningService) -> None:
    for number in range(50):
        service.client.get(f"/v1/occupations/unknown-{number}")
        service.client.get(f"/nowhere/{number}")
    service.classify([{"text": "Cheffe de cuisine"}])
    metrics = service.client.get("/metrics").text
    assert 'endpoint="/v1/occupations/{id}"' in metrics
    assert 'endpoint="/{unknown}"' in metrics
    assert "unknown-7" not in metrics
    assert "nowhere" not in metrics
    for stage in ("queue", "tokenise", "encode", "head"):
        assert f'vocation_stage_seconds_count{{stage="{stage}"}}' in metrics
    assert "vocation_batch_experiences_count" in metrics


def test_metrics_add_up_over_several_api_workers(fresh_home: Path) -> None:
    with running(fresh_home, environment={"VOCATION_API_WORKERS": "2"}) as service:
        requests = 40
        for number in range(requests):
            # A connection each: the kernel spreads them over the workers.
            with httpx.Client(base_url=service.client.base_url) as client:
                body = {"experiences": [{"text": f"Poste {number}", "occupations": ["chef"]}]}
                assert client.post("/v1/classify", json=body).status_code == 200

        def counted() -> bool:
            samples = service.client.get("/metrics").text.splitlines()
            predictions = sum(
                float(line.rsplit(" ", 1)[1])
                for line in samples
                if line.startswith("vocation_predictions_total{") and 'occupation="chef"' in line
            )
            return predictions == requests

        wait_for(f"{requests} predictions in the metrics of two workers", counted, 10)
