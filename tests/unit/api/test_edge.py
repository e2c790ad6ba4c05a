from __future__ import annotations

import asyncio

import pytest
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from service.api.edge import EdgeInstaller
from tests.support.asgi import call
from tests.support.edge import echo, edge


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


def test_the_installer_gives_the_routes_their_true_path_back() -> None:
    installed = EdgeInstaller(echo, edge)
    reply = call(edge(installed), path="/v1/things/7")
    assert reply.json["label"] == "/v1/things/7"
