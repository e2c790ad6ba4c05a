"""A span for each request of the API, around everything else; installed only where tracing is on.

BentoML traces requests too, below the edge: it would not see what the edge refuses, and it writes
down query strings and callers' addresses. It is told to leave requests alone (service/bento.py).
"""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.paths import PathTable
from service.api.process import ApiProcess

_TRACED = "/v1/"
_CALLERS_CONTEXT = (b"traceparent", b"tracestate")


class RequestSpansInstaller:
    """Wraps the whole application at start-up, as EdgeInstaller does; added after it."""

    def __init__(self, app: ASGIApp, paths: PathTable, process: ApiProcess) -> None:
        self.app = app
        self._paths = paths
        self._process = process

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Install the spans; nothing else is done here."""
        if scope["type"] == "lifespan":
            application = scope["app"]
            application.middleware_stack = RequestSpans(
                application.middleware_stack, self._paths, self._process
            )
        await self.app(scope, receive, send)


class RequestSpans:
    """Continues the caller's trace (W3C Trace Context) or begins one."""

    def __init__(self, app: ASGIApp, paths: PathTable, process: ApiProcess) -> None:
        self.app = app
        self._paths = paths
        self._process = process

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Trace a request to a route of ours; probes, pages and unknown paths are not traced."""
        tracer = self._process.tracer
        if tracer is None or scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route = self._paths.label(scope["path"])
        if not route.startswith(_TRACED):
            await self.app(scope, receive, send)
            return
        # Few names whatever callers send.
        method = scope["method"] if scope["method"] in self._paths.methods(route) else "_OTHER"
        with tracer.start_as_current_span(
            f"{method} {route}",
            context=_callers_context(scope),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            await self.app(scope, receive, _observed(send, span) if span.is_recording() else send)


def _callers_context(scope: Scope) -> Context:
    carrier = {
        name.decode(): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in _CALLERS_CONTEXT
    }
    return TraceContextTextMapPropagator().extract(carrier, Context())


def _observed(send: Send, span: Span) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            _describe(span, message)
        await send(message)

    return sent


def _describe(span: Span, start: Message) -> None:
    status = start["status"]
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(Status(StatusCode.ERROR))
    headers = dict(start.get("headers", ()))
    if b"x-request-id" in headers:
        span.set_attribute("vocation.request_id", headers[b"x-request-id"].decode())
    if status == 202 and b"location" in headers:
        # Of /v1/registrations/{id}: the Trainer's spans carry it too.
        registration = headers[b"location"].decode().rpartition("/")[2]
        span.set_attribute("vocation.registration", registration)
