"""An edge around a small application, what stands below it, and the problem that it answers."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.access import Guard
from service.api.edge import BODY, REQUEST_ID, TRUE_PATH, Edge
from service.api.paths import PathTable
from service.api.request_body import EdgeLimits
from tests.support.asgi import AsgiReply

MAX_BODY_BYTES = 1000
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
    return Edge(
        app, PATHS, EdgeLimits(MAX_BODY_BYTES, body_timeout_seconds), open_guard(), nothing_waits
    )


def nothing_waits() -> None:
    """Raises nothing: whatever comes is scored at once."""


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
