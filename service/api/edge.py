"""The outermost ASGI layer: request ids, keys, bounded bodies and labels, problem documents.

BentoML puts its metrics, concurrency limit and deadline outside of a service's own middleware, so
their 429, 504 and 5xx bodies, and the raw path as a metric label, can only be reached from further
out. ``Edge`` is installed there through the ASGI lifespan, which hands every middleware the
application: public Starlette, no private module of BentoML.
"""

from __future__ import annotations

import asyncio
import logging
import re
import resource
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import classify, problems
from service.api.access import Guard, without_key
from service.api.paths import UNKNOWN_PATH, PathTable
from service.api.request_body import EdgeLimits, read_body, replay
from service.domain.errors import BodyTooSlow, Overloaded, VocationError
from service.telemetry import metrics

logger = logging.getLogger(__name__)

# Keys in the ASGI scope.
REQUEST_ID = "vocation.request_id"
TRUE_PATH = "vocation.path"
BODY = "vocation.body"

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._\-]{1,128}")
_REFUSED = metrics.REQUESTS_REFUSED.labels(classify.ROUTE, "429")
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class EdgeInstaller:
    """A BentoML middleware that wraps the whole application in an edge at start-up.

    ``edge`` makes it around an application. Below the metrics each request gets its true path
    back. A path that is not in the table keeps its label, which no route has: BentoML's own pages
    and schemas, a second contract beside ours, are not served.
    """

    def __init__(self, app: ASGIApp, edge: Callable[[ASGIApp], Edge]) -> None:
        self.app = app
        self._edge = edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Install the edge, or restore the path."""
        if scope["type"] == "lifespan":
            _allow_connections()
            application = scope["app"]
            application.middleware_stack = self._edge(application.middleware_stack)
        elif TRUE_PATH in scope and scope["path"] != UNKNOWN_PATH:
            scope = {**scope, "path": scope[TRUE_PATH]}
        await self.app(scope, receive, send)


class Edge:
    """Checks the key, reads the body within its limits, answers every error as a problem.

    ``refuse_overload`` raises Overloaded where a classify request would wait too long.
    """

    def __init__(
        self,
        app: ASGIApp,
        paths: PathTable,
        limits: EdgeLimits,
        guard: Guard,
        refuse_overload: Callable[[], None],
    ) -> None:
        self.app = app
        self._paths = paths
        self._limits = limits
        self._guard = guard
        self._refuse_overload = refuse_overload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "websocket":
            # No route speaks it: refused (RFC 6455, section 7.4.1) before anything can be asked.
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        path = scope["path"]
        request_id = _request_id(scope)
        label = self._paths.label(path)
        verdict = self._guard.judge(scope["method"], label, scope["headers"])
        reading = _within(send, self._limits.body_timeout_seconds)
        methods = self._paths.methods(label)
        has_method = scope["method"] in methods
        reply = _Reply(reading, path, request_id, methods, verdict.headers, has_method=has_method)
        inner = {
            **scope,
            "path": label,
            TRUE_PATH: path,
            REQUEST_ID: request_id,
        }
        if verdict.caller is not None:
            inner["headers"] = without_key(scope["headers"])
        refusal = verdict.refusal or self._overload(scope["method"], label)
        if refusal is not None:
            await reply.send_error(refusal)
        else:
            await self._answer(inner, receive, reply)
        logger.debug(
            "request",
            extra={
                "request_id": request_id,
                "method": scope["method"],
                "route": inner["path"],
                "key": verdict.caller,
                "status": reply.status,
                "seconds": round(time.perf_counter() - started, 6),
            },
        )

    def _overload(self, method: str, label: str) -> VocationError | None:
        # Here, before the body and before BentoML's layers: what a refusal costs is taken from what
        # was accepted (docs/adr/0009). BentoML's counters do not see it, so it is counted here.
        if method != "POST" or label != classify.ROUTE:
            return None
        try:
            self._refuse_overload()
        except Overloaded as error:
            _REFUSED.inc()
            return error
        return None

    async def _answer(self, inner: Scope, receive: Receive, reply: _Reply) -> None:
        try:
            if inner["method"] in _WITH_BODY:
                body = await read_body(inner, receive, self._limits)
                inner[BODY] = body
                receive = replay(body, receive)
            await self.app(inner, receive, reply)
        except VocationError as error:
            await reply.send_error(error)
        except _NotRead:
            # Its place among the requests in progress is free again; the server closes.
            logger.debug("reply not read", extra={"request_id": inner[REQUEST_ID]})
        except Exception:
            # ServerErrorMiddleware has answered; the reply went out as a problem document.
            logger.exception("request failed", extra={"request_id": inner[REQUEST_ID]})
            await reply.send_internal_error()


class _Reply:
    """The ``send`` of one request: adds headers of ours, turns foreign errors into problems."""

    def __init__(
        self,
        send: Send,
        path: str,
        request_id: str,
        methods: Sequence[str],
        headers: problems.FixedHeaders,
        *,
        has_method: bool,
    ) -> None:
        self._send = send
        self._methods = methods
        self._path = path
        self._request_id = request_id
        self._headers = ((b"x-request-id", request_id.encode()), *headers)
        self._replaced = False
        self._has_method = has_method
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._start(message)
        elif not self._replaced:
            await self._send(message)

    async def send_error(self, error: VocationError) -> None:
        """Answer one of our errors, unless an answer is under way."""
        if self.status is None:
            document = problems.problem_of(error, self._path, self._request_id)
            # What is left of a slow body would come on for ever (RFC 9110, section 15.5.9).
            close = [(b"connection", b"close")] if isinstance(error, BodyTooSlow) else []
            await self._send_problem(document, close)

    async def send_internal_error(self) -> None:
        """Answer an error that nobody expected, unless an answer is under way."""
        if self.status is None:
            document = problems.problem_of_status(500, self._path, self._request_id)
            await self._send_problem(document, [])

    async def _start(self, message: Message) -> None:
        headers: list[tuple[bytes, bytes]] = list(message.get("headers", []))
        foreign = dict(headers).get(b"content-type", b"") != problems.MEDIA_TYPE.encode()
        status = message["status"]
        if status >= 400 and foreign:
            if status == 404 and self._methods and not self._has_method:
                # A route that is answered ahead of the router is unknown to it.
                status = 405
            document = problems.problem_of_status(status, self._path, self._request_id)
            kept = [(k, v) for k, v in headers if k in (b"allow", b"www-authenticate")]
            if status == 405 and self._methods:
                # Starlette names the methods of one route only where several share the path.
                kept = [(b"allow", ", ".join(self._methods).encode())]
            await self._send_problem(document, kept)
            return
        self.status = message["status"]
        await self._send({**message, "headers": [*headers, *self._headers]})

    async def _send_problem(self, document: dict[str, Any], extra: problems.Headers) -> None:
        self.status = document["status"]
        self._replaced = True
        await problems.send(self._send, document, [*self._headers, *extra])


class _NotRead(Exception):
    """The client does not read its reply."""


def _within(send: Send, timeout_seconds: float) -> Send:
    # A server that has enough unread waits in `send`, where BentoML's deadline has ended.
    async def sent(message: Message) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await send(message)
        except TimeoutError:
            raise _NotRead from None

    return sent


def _allow_connections() -> None:
    # Each connection is an open file. The soft limit is 1,024 on most machines, there for programs
    # that use select(); so few silent connections would keep everybody else out.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _request_id(scope: Scope) -> str:
    given: bytes = dict(scope["headers"]).get(b"x-request-id", b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
