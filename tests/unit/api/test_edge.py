from __future__ import annotations

import asyncio
import logging
import tracemalloc
from collections.abc import Iterator

import orjson
import pytest
from prometheus_client import REGISTRY
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import problems
from service.api.access import Guard
from service.api.edge import BODY, REQUEST_ID, TRUE_PATH, Edge, EdgeInstaller
from service.api.paths import UNKNOWN_PATH, PathTable
from service.api.request_body import EdgeLimits
from service.domain.errors import NotReady, Overloaded
from service.domain.keys import KeyScope, NewKey, make_key
from tests.support.asgi import AsgiReply, call
from tests.support.keys import bearer, known_key

LIMIT = 1000
PATHS = PathTable(
    {
        "/v1/classify": ["POST"],
        "/v1/things": ["POST", "GET"],
        "/v1/things/{id}": ["GET"],
        "/v1/things/{id}/parts/{number}": ["GET"],
    }
)
JSON = {"Content-Type": "application/json"}


def open_guard() -> Guard:
    """A guard of a service without keys."""
    guard = Guard(api_processes=1, metrics_open=True)
    guard.load([])
    return guard


def edge(app: ASGIApp, body_timeout_seconds: float = 20.0) -> Edge:
    return Edge(app, PATHS, EdgeLimits(LIMIT, body_timeout_seconds), open_guard(), nothing_waits)


def nothing_waits() -> None:
    """Raises nothing: whatever comes is scored at once."""


def too_much_waits() -> None:
    raise Overloaded("Too many experiences wait to be scored.")


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what the layers below the edge see."""
    body = await Request(scope, receive).body()
    seen = {
        "label": scope["path"],
        "path": scope[TRUE_PATH],
        "request_id": scope[REQUEST_ID],
        "body": body.decode(),
        "kept": scope[BODY].decode() if BODY in scope else None,
    }
    await JSONResponse(seen)(scope, receive, send)


def answering(response: Response) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await response(scope, receive, send)

    return app


def failing(error: Exception) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app


def assert_problem(reply: AsgiReply, status: int, code: str) -> None:
    assert reply.starts == 1
    assert reply.status == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert int(reply.headers["content-length"]) == len(reply.body)
    problem = reply.json
    assert set(problem) >= {"type", "title", "status", "detail", "instance", "code", "request_id"}
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == f"urn:vocation:problem:{code}"
    assert problem["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize("given", ["a", "Trace.01_b-c", "x" * 128])
def test_a_request_id_is_taken_and_returned(given: str) -> None:
    reply = call(edge(echo), headers={"X-Request-Id": given})
    assert reply.json["request_id"] == given
    assert reply.headers["x-request-id"] == given


def test_a_request_without_an_id_is_given_one_of_its_own() -> None:
    first, second = (call(edge(echo)).headers["x-request-id"] for _ in range(2))
    assert first != second
    assert len(first) == 32


@pytest.mark.parametrize(
    "given", [b"", b"two words", b"x" * 129, b"line\nfeed", b'quote"', b"\xff\xfe", b"id\n"]
)
def test_an_id_that_could_spoil_a_log_is_replaced(given: bytes) -> None:
    reply = call(edge(echo), headers={"X-Request-Id": given})
    assert reply.headers["x-request-id"].isalnum()
    assert reply.headers["x-request-id"] != given.decode("latin-1")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_body_of_many_chunks_is_handed_on_whole(method: str) -> None:
    reply = call(edge(echo), method, "/v1/things", headers=JSON, chunks=[b"{", b'"a"', b":1}"])
    assert reply.json["body"] == reply.json["kept"] == '{"a":1}'


def test_a_body_of_exactly_the_limit_is_taken() -> None:
    body = b'"' + b"x" * (LIMIT - 2) + b'"'
    reply = call(edge(echo), "POST", headers={**JSON, "Content-Length": str(LIMIT)}, chunks=[body])
    assert reply.status == 200


@pytest.mark.parametrize("length", [str(LIMIT + 1), "99999999999999", "-1", "many", ""])
def test_a_length_over_the_limit_is_413_before_anything_is_read(length: str) -> None:
    reply = call(edge(echo), "POST", headers={**JSON, "Content-Length": length})
    assert_problem(reply, 413, "body_too_large")
    assert reply.received == 0


@pytest.mark.parametrize("length", [None, "10"])
def test_a_streamed_body_is_read_up_to_the_limit_and_no_further(length: str | None) -> None:
    headers = JSON if length is None else {**JSON, "Content-Length": length}
    reply = call(edge(echo), "POST", headers=headers, chunks=(b"x" * 100 for _ in range(10_000)))
    assert_problem(reply, 413, "body_too_large")
    assert reply.received == LIMIT // 100 + 1


def test_memory_does_not_follow_a_streamed_body() -> None:
    def megabytes() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * (1 << 20)

    call(edge(echo), "POST", headers=JSON, chunks=megabytes())
    tracemalloc.start()
    call(edge(echo), "POST", headers=JSON, chunks=megabytes())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_body_that_stops_half_way_is_408() -> None:
    app = edge(echo, body_timeout_seconds=0.05)
    reply = call(app, "POST", headers=JSON, chunks=[b"{"], stalls=True)
    assert_problem(reply, 408, "body_too_slow")


def test_a_method_that_an_address_has_not_is_405_though_the_router_knows_no_such_address() -> None:
    async def unknown(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=404)(scope, receive, send)

    reply = call(edge(unknown), "TRACE", "/v1/things")
    assert_problem(reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == "GET, POST"
    assert_problem(call(edge(unknown), "GET", "/v1/things/7"), 404, "not_found")
    assert_problem(call(edge(unknown), "TRACE", "/nowhere"), 404, "not_found")


def test_a_reply_that_nobody_reads_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    given_up: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await JSONResponse({})(scope, receive, send)
        except Exception as error:
            given_up.append(type(error).__name__)
            raise

    async def unread(message: Message) -> None:
        await asyncio.Event().wait()

    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/v1/things", "headers": []}
    asyncio.run(edge(app, body_timeout_seconds=0.05)(scope, nothing, unread))
    assert given_up == ["_NotRead"]
    assert not caplog.records


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "identity, gzip", "\u00ff"])
def test_an_encoded_body_is_415_before_it_is_read(encoding: str) -> None:
    headers: dict[str, str | bytes] = {**JSON, "Content-Encoding": encoding.encode("latin-1")}
    reply = call(edge(echo), "POST", headers=headers, chunks=[b"{}"])
    assert_problem(reply, 415, "unsupported_media_type")
    assert reply.received == 0


def test_identity_is_no_encoding() -> None:
    reply = call(
        edge(echo), "POST", headers={**JSON, "Content-Encoding": "Identity"}, chunks=[b"{}"]
    )
    assert reply.status == 200


def test_a_connection_is_closed_after_a_slow_body() -> None:
    app = edge(echo, body_timeout_seconds=0.05)
    reply = call(app, "POST", headers=JSON, chunks=[b"{"], stalls=True)
    assert_problem(reply, 408, "body_too_slow")
    assert reply.headers["connection"] == "close"


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"],
)
def test_a_body_that_is_not_json_by_its_type_is_415(media_type: str) -> None:
    reply = call(edge(echo), "POST", headers={"Content-Type": media_type}, chunks=[b"{}"])
    assert_problem(reply, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/v+json",
    ],
)
def test_json_is_taken_under_each_of_its_types(media_type: str) -> None:
    reply = call(edge(echo), "POST", headers={"Content-Type": media_type}, chunks=[b"{}"])
    assert reply.status == 200


def test_a_request_without_a_body_needs_no_type() -> None:
    assert call(edge(echo), "DELETE", headers={"Content-Type": "text/plain"}).status == 200


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


def overloaded_edge() -> Edge:
    limits = EdgeLimits(LIMIT, body_timeout_seconds=20.0)
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
    shut = Edge(echo, PATHS, EdgeLimits(LIMIT, 20.0), guard, too_much_waits)
    assert_problem(call(shut, "POST", "/v1/classify", headers=JSON), 401, "unauthenticated")


def test_every_problem_sent_is_counted_by_its_code() -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("vocation_errors_total", {"code": "not_found"}) or 0.0

    before = counted()
    call(edge(answering(PlainTextResponse("no", status_code=404))))
    assert counted() - before == 1


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/v1/things", "/v1/things"),
        ("/v1/things/7", "/v1/things/{id}"),
        ("/v1/things/été", "/v1/things/{id}"),
        ("/v1/things/7/parts/3", "/v1/things/{id}/parts/{number}"),
        ("/v1/things/", UNKNOWN_PATH),
        ("/v1/things/7/parts", UNKNOWN_PATH),
        ("/v1/things/7/8", UNKNOWN_PATH),
        ("/wp-login.php", UNKNOWN_PATH),
        ("", UNKNOWN_PATH),
    ],
)
def test_a_path_is_labelled_by_its_template_alone(path: str, label: str) -> None:
    reply = call(edge(echo), path=path)
    assert (reply.json["label"], reply.json["path"]) == (label, path)


def test_whatever_is_asked_there_are_few_labels() -> None:
    asked = [f"/v1/things/{n}" for n in range(500)] + [f"/{n}" for n in range(500)]
    assert {PATHS.label(path) for path in asked} == {"/v1/things/{id}", UNKNOWN_PATH}


def test_the_installer_gives_the_routes_their_true_path_back() -> None:
    installed = EdgeInstaller(echo, edge)
    reply = call(edge(installed), path="/v1/things/7")
    assert reply.json["label"] == "/v1/things/7"


def test_a_problem_is_json_that_holds_no_more_than_its_members() -> None:
    document = problems.problem_of(NotReady("Not yet."))
    _, body = problems.render(document)
    assert orjson.loads(body) == {
        "type": "urn:vocation:problem:not_ready",
        "title": NotReady.title,
        "status": 503,
        "detail": "Not yet.",
        "code": "not_ready",
    }


@pytest.fixture
def key() -> NewKey:
    return make_key()


def guarded(app: ASGIApp, key: NewKey, requests_per_minute: int | None = None) -> Edge:
    """An edge whose one key, of the name `bot`, may classify."""
    guard = Guard(api_processes=1, metrics_open=True)
    guard.load(
        [known_key(key, KeyScope.CLASSIFY, name="bot", requests_per_minute=requests_per_minute)]
    )
    return Edge(app, PATHS, EdgeLimits(LIMIT, 20.0), guard, nothing_waits)


@pytest.mark.parametrize("path", ["/v1/things", "/v1/things/7", "/nowhere", "/schema.json"])
def test_without_a_key_nothing_is_read_and_nothing_below_is_asked(key: NewKey, path: str) -> None:
    reply = call(guarded(failing(AssertionError()), key), "POST", path, chunks=[b"{"], stalls=True)
    assert_problem(reply, 401, "unauthenticated")
    assert reply.headers["www-authenticate"] == 'Bearer realm="vocation"'
    assert reply.received == 0


def test_the_layers_below_never_see_the_key(key: NewKey) -> None:
    seen: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(name for name, _ in scope["headers"])
        await echo(scope, receive, send)

    reply = call(
        guarded(app, key),
        "POST",
        "/v1/things",
        headers={**JSON, **bearer(key.text)},
        chunks=[b"{}"],
    )
    assert reply.status == 200
    assert seen == [b"content-type"]


def test_a_limit_is_told_with_a_reply_of_a_route_and_with_a_refusal(key: NewKey) -> None:
    app = guarded(echo, key, requests_per_minute=2)
    replies = [call(app, path="/v1/things", headers=bearer(key.text)) for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert [reply.headers["ratelimit-remaining"] for reply in replies] == ["1", "0", "0"]
    assert_problem(replies[2], 429, "rate_limited")
    assert replies[2].headers["retry-after"] == "30"


def test_a_limit_is_told_with_an_error_of_a_lower_layer_too(key: NewKey) -> None:
    app = guarded(answering(PlainTextResponse("no", status_code=404)), key, requests_per_minute=9)
    reply = call(app, path="/v1/things", headers=bearer(key.text))
    assert_problem(reply, 404, "not_found")
    assert reply.headers["ratelimit-limit"] == "9"


def test_a_request_is_logged_with_the_name_of_its_key_and_never_the_key(
    key: NewKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="service.api.edge")
    for header in (bearer(key.text), bearer(key.text[:-1] + "?"), {}):
        call(guarded(failing(ValueError()), key), path="/v1/things", headers=header)
    logged = [record for record in caplog.records if record.getMessage() == "request"]
    assert [vars(record)["key"] for record in logged] == ["bot", None, None]
    assert key.text[13:-1] not in "".join(str(vars(record)) for record in caplog.records)


@pytest.mark.parametrize("keys", [True, False])
def test_a_websocket_is_refused_at_the_edge(key: NewKey, *, keys: bool) -> None:
    app = guarded(failing(AssertionError()), key) if keys else edge(failing(AssertionError()))
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app({"type": "websocket", "path": "/v1/things", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
