from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from service.api.access import Guard
from service.api.edge import Edge
from service.api.request_body import EdgeLimits
from service.domain.errors import Overloaded
from service.domain.keys import KeyScope, NewKey
from tests.support.asgi import call
from tests.support.edge import JSON, MAX_BODY_BYTES, PATHS, assert_problem, echo, open_guard
from tests.support.keys import known_key


def too_much_waits() -> None:
    raise Overloaded("Too many experiences wait to be scored.")


def overloaded_edge() -> Edge:
    limits = EdgeLimits(MAX_BODY_BYTES, body_timeout_seconds=20.0)
    return Edge(echo, PATHS, limits, open_guard(), too_much_waits)


def test_where_too_much_waits_classify_is_refused_before_its_body_is_read_and_counted() -> None:
    labels = {"endpoint": "/v1/classify", "http_response_code": "429"}
    before = REGISTRY.get_sample_value("vocation_requests_refused_total", labels)
    reply = call(overloaded_edge(), "POST", "/v1/classify", headers=JSON, chunks=[b"{}"])
    assert_problem(reply, 429, "overloaded")
    assert reply.headers["retry-after"] == "1"
    assert reply.received == 0
    assert before is not None
    assert REGISTRY.get_sample_value("vocation_requests_refused_total", labels) == before + 1


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/things"), ("GET", "/v1/things/7"), ("GET", "/nowhere")]
)
def test_where_too_much_waits_everything_else_is_answered(method: str, path: str) -> None:
    reply = call(overloaded_edge(), method, path, headers=JSON, chunks=[b"{}"])
    assert reply.status == 200


def test_a_caller_without_a_key_learns_nothing_of_the_load(key: NewKey) -> None:
    guard = Guard(api_processes=1, metrics_open=True)
    guard.load([known_key(key, KeyScope.CLASSIFY)])
    shut = Edge(echo, PATHS, EdgeLimits(MAX_BODY_BYTES, 20.0), guard, too_much_waits)
    assert_problem(call(shut, "POST", "/v1/classify", headers=JSON), 401, "unauthenticated")
