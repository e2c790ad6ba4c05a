"""Bad input over real HTTP: refused before the batch, by a problem document that names the field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.running_service import RunningService

SECRET = "Marguerite Yourcenar, agrafeuse-zingueuse"
ONE = {"text": SECRET}


def _experiences(*items: object) -> bytes:
    return json.dumps({"experiences": list(items)}).encode()


CASES: dict[str, tuple[bytes, int, str, str | None]] = {
    "empty list": (_experiences(), 422, "invalid_fields", "/experiences"),
    "empty text": (_experiences(ONE, {"text": ""}), 422, "invalid_fields", "/experiences/1/text"),
    "blank text": (_experiences({"text": "  "}), 422, "invalid_fields", "/experiences/0/text"),
    "missing text": (_experiences(ONE, {"id": "x"}), 422, "invalid_fields", "/experiences/1/text"),
    "257 experiences": (_experiences(*[ONE] * 257), 422, "invalid_fields", "/experiences"),
    "10,001 characters": (
        _experiences({"text": "é" * 10_001}),
        422,
        "invalid_fields",
        "/experiences/0/text",
    ),
    "10,001 characters in three fields": (
        _experiences({"title": "a" * 5_000, "company": "b", "description": "c" * 5_000}),
        422,
        "invalid_fields",
        "/experiences/0/description",
    ),
    "NUL": (_experiences({"title": "a\u0000b"}), 422, "invalid_fields", "/experiences/0/title"),
    "lone surrogate": (
        b'{"experiences": [{"title": "a\\ud800"}]}',
        422,
        "invalid_fields",
        "/experiences/0/title",
    ),
    "not JSON": (b"experiences=1", 400, "invalid_json", None),
    "not UTF-8": (b'{"experiences": [{"text": "\xff\xfe"}]}', 400, "invalid_json", None),
    "no body": (b"", 400, "invalid_json", None),
    "deep JSON": (b"[" * 100_000, 400, "invalid_json", None),
    "wrong type": (_experiences({"text": 12}), 422, "invalid_fields", "/experiences/0/text"),
    "not an object": (_experiences("text"), 422, "invalid_fields", "/experiences/0"),
    "no experiences": (b"{}", 422, "invalid_fields", "/experiences"),
    "unknown field": (
        _experiences({"text": SECRET, "txt": "b"}),
        422,
        "invalid_fields",
        "/experiences/0/txt",
    ),
    "text and title": (
        _experiences({"text": SECRET, "title": "b"}),
        422,
        "invalid_fields",
        "/experiences/0/title",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_classify_refuses(service: RunningService, case: str) -> None:
    body, status, code, pointer = CASES[case]
    reply = service.client.post(
        "/v1/classify", content=body, headers={"content-type": "application/json"}
    )
    problem = _problem(reply, status, code)
    assert [field["pointer"] for field in problem.get("errors", [])] == (
        [pointer] if pointer else []
    )
    assert SECRET not in reply.text


def test_an_unknown_occupation_is_its_items_error_and_its_neighbours_are_answered(
    service: RunningService,
) -> None:
    answers = service.classify(
        [
            {"id": "a", "text": "Chef de cuisine", "occupations": ["chef"]},
            {"id": "b", "text": "Chef de cuisine", "occupations": ["no-such-occupation"]},
            {"id": "c", "text": "Chef de cuisine", "occupations": ["chef@99"]},
            {"id": "d", "text": "Chef de cuisine", "occupations": ["chef@1"]},
        ]
    )
    assert [answer["id"] for answer in answers] == ["a", "b", "c", "d"]
    assert answers[1]["error"]["code"] == "occupation_not_found"
    assert answers[2]["error"]["code"] == "version_not_found"
    assert answers[0]["scores"] == answers[3]["scores"]


def test_a_form_is_an_unsupported_media_type(service: RunningService) -> None:
    reply = service.client.post("/v1/classify", data={"text": SECRET})
    _problem(reply, 415, "unsupported_media_type")


def test_a_body_over_the_limit_is_refused_by_its_length(service: RunningService) -> None:
    reply = service.client.post(
        "/v1/classify",
        content=b" " * (17 * 1024 * 1024),
        headers={"content-type": "application/json"},
    )
    _problem(reply, 413, "body_too_large")


def test_a_streamed_body_over_the_limit_is_refused_and_memory_does_not_follow_it(
    service: RunningService,
) -> None:
    api = service.worker("vocation")
    before = api.memory_info().rss
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(400):
            sent += 1 << 20
            yield b" " * (1 << 20)

    try:
        reply = service.client.post(
            "/v1/classify", content=chunks(), headers={"content-type": "application/json"}
        )
        _problem(reply, 413, "body_too_large")
    except httpx.TransportError:
        # The server may close the connection while the client is still sending.
        assert sent < 400 << 20
    grown = api.memory_info().rss - before
    assert grown < 64 << 20


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/classify", 405, "method_not_allowed"),
        ("GET", "/v1/nothing-here", 404, "not_found"),
        ("DELETE", "/v1/occupations", 405, "method_not_allowed"),
        ("GET", "/v1/occupations/unknown", 404, "occupation_not_found"),
        ("GET", "/v1/occupations/chef/versions/99", 404, "version_not_found"),
        ("GET", "/v1/occupations/chef/versions/x", 422, "invalid_fields"),
        ("GET", "/v1/registrations/unknown", 404, "registration_not_found"),
        ("GET", "/v1/occupations?limit=0", 422, "invalid_fields"),
        ("GET", "/v1/occupations?cursor=?!", 422, "invalid_fields"),
    ],
)
def test_every_layers_errors_are_problem_documents(
    service: RunningService, method: str, path: str, status: int, code: str
) -> None:
    _problem(service.client.request(method, path), status, code)


def test_a_request_id_is_taken_or_made_and_returned(service: RunningService) -> None:
    taken = service.client.get("/v1/occupations/unknown", headers={"x-request-id": "bot-42"})
    assert taken.headers["x-request-id"] == "bot-42"
    assert taken.json()["request_id"] == "bot-42"
    made = service.client.get("/v1/occupations", headers={"x-request-id": "no spaces allowed"})
    assert made.headers["x-request-id"] not in ("", "no spaces allowed")


def test_no_text_of_a_profile_reaches_the_log_or_the_metrics(service: RunningService) -> None:
    service.classify([{"text": SECRET, "explain": True}])
    service.client.post("/v1/classify", content=_experiences({"text": SECRET, "x": 1}))
    assert SECRET not in service.log.read_text()
    assert SECRET not in service.client.get("/metrics").text


def _problem(reply: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = reply.json()
    assert problem["code"] == code
    assert problem["status"] == status
    assert problem["instance"] == reply.request.url.path
    assert problem["request_id"] == reply.headers["x-request-id"]
    assert problem["type"]
    assert problem["title"]
    assert problem["detail"]
    return problem


@pytest.mark.parametrize("path", ["/schema.json", "/docs.json", "/static_content/index.css"])
def test_bentomls_own_pages_are_not_a_second_contract(service: RunningService, path: str) -> None:
    _problem(service.client.get(path), 404, "not_found")


def test_the_root_leads_to_the_documentation(service: RunningService) -> None:
    page = service.client.get("/", follow_redirects=True)
    assert page.status_code == 200
    assert page.url.path == "/docs"
    assert "/openapi.json" in page.text
    script = service.client.get("/docs/assets/swagger-ui-bundle.js")
    assert script.status_code == 200
