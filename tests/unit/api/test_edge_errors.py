from __future__ import annotations

import pytest
from prometheus_client import REGISTRY
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from service.api import problems
from service.api.edge import REQUEST_ID
from service.domain.errors import NotReady
from tests.support.asgi import call
from tests.support.edge import answering, assert_problem, edge, failing


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "bad_request"),
        (401, "unauthenticated"),
        (403, "forbidden"),
        (404, "not_found"),
        (405, "method_not_allowed"),
        (411, "length_required"),
        (413, "body_too_large"),
        (415, "unsupported_media_type"),
        (418, "bad_request"),
        (422, "invalid_fields"),
        (429, "overloaded"),
        (500, "internal"),
        (502, "internal"),
        (504, "deadline_exceeded"),
    ],
)
def test_an_error_of_a_lower_layer_becomes_a_problem_without_its_words(
    status: int, code: str
) -> None:
    foreign = JSONResponse(["a secret of a lower layer"], status_code=status)
    reply = call(edge(answering(foreign)), path="/v1/things/7")
    assert_problem(reply, status, code)
    assert reply.json["instance"] == "/v1/things/7"
    assert b"secret" not in reply.body


def test_a_503_of_a_lower_layer_says_when_to_come_back() -> None:
    foreign = PlainTextResponse("gave up", status_code=503)
    reply = call(edge(answering(foreign)), path="/readyz")
    assert_problem(reply, 503, "not_ready")
    assert "retry-after" in reply.headers


def test_a_method_that_an_address_has_not_is_405_though_the_router_knows_no_such_address() -> None:
    async def unknown(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=404)(scope, receive, send)

    reply = call(edge(unknown), "TRACE", "/v1/things")
    assert_problem(reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == "GET, POST"
    assert_problem(call(edge(unknown), "GET", "/v1/things/7"), 404, "not_found")
    assert_problem(call(edge(unknown), "TRACE", "/nowhere"), 404, "not_found")


@pytest.mark.parametrize(("status", "due"), [(404, False), (429, True), (500, False), (503, True)])
def test_retry_after_is_sent_where_another_try_may_help(status: int, *, due: bool) -> None:
    reply = call(edge(answering(PlainTextResponse("no", status_code=status))))
    assert ("retry-after" in reply.headers) == due
    assert not due or int(reply.headers["retry-after"]) >= 1


def test_the_headers_that_explain_a_refusal_are_kept() -> None:
    foreign = PlainTextResponse(
        "no", status_code=405, headers={"Allow": "GET, PUT", "X-Powered-By": "a lower layer"}
    )
    reply = call(edge(answering(foreign)))
    assert reply.headers["allow"] == "GET, PUT"
    assert "x-powered-by" not in reply.headers


def test_a_problem_of_ours_is_passed_on_as_it_is() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        document = problems.problem_of(NotReady("Not yet."), "/v1/things", scope[REQUEST_ID])
        await problems.send(send, document)

    reply = call(edge(app), path="/v1/things")
    assert_problem(reply, 503, "not_ready")
    assert reply.json["detail"] == "Not yet."


def test_an_error_of_ours_that_escapes_becomes_its_problem() -> None:
    assert_problem(call(edge(failing(NotReady("Not yet.")))), 503, "not_ready")


def test_any_other_exception_is_a_500_that_does_not_repeat_it() -> None:
    reply = call(edge(failing(ValueError("the caller's private text"))), path="/v1/things")
    assert_problem(reply, 500, "internal")
    assert b"private" not in reply.body
    assert b"ValueError" not in reply.body


def test_an_exception_after_the_reply_has_begun_begins_no_second_one() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    reply = call(edge(app))
    assert (reply.starts, reply.status) == (1, 200)


def test_an_error_reply_that_streams_is_replaced_once() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"secret", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    assert_problem(call(edge(app)), 500, "internal")


def test_every_problem_sent_is_counted_by_its_code() -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("vocation_errors_total", {"code": "not_found"}) or 0.0

    before = counted()
    call(edge(answering(PlainTextResponse("no", status_code=404))))
    assert counted() - before == 1
