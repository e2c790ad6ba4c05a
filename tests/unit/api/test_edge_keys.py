from __future__ import annotations

import asyncio
import logging

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.access import Guard
from service.api.edge import Edge
from service.api.request_body import EdgeLimits
from service.domain.keys import KeyScope, NewKey
from tests.support.asgi import call
from tests.support.edge import (
    JSON,
    MAX_BODY_BYTES,
    PATHS,
    answering,
    assert_problem,
    echo,
    edge,
    failing,
    nothing_waits,
)
from tests.support.keys import bearer, known_key


def guarded(app: ASGIApp, key: NewKey, requests_per_minute: int | None = None) -> Edge:
    """An edge whose one key, of the name `bot`, may classify."""
    guard = Guard(api_processes=1, metrics_open=True)
    guard.load(
        [known_key(key, KeyScope.CLASSIFY, name="bot", requests_per_minute=requests_per_minute)]
    )
    return Edge(app, PATHS, EdgeLimits(MAX_BODY_BYTES, 20.0), guard, nothing_waits)


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
