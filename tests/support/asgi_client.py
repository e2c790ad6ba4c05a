"""A synchronous HTTP client of an ASGI application in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import httpx
from starlette.types import ASGIApp, Message


class AsgiClient:
    """Starts an application's lifespan and sends it requests, one at a time."""

    def __init__(
        self, app: ASGIApp, on_response: Callable[[httpx.Response], Awaitable[None]]
    ) -> None:
        self._app = app
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._http = httpx.AsyncClient(
            transport=transport,
            base_url="http://testserver",
            event_hooks={"response": [on_response]},
        )

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request; the arguments are those of ``httpx.AsyncClient.request``."""
        return self._runner.run(self._http.request(method, path, **arguments))

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("GET", path, **arguments)

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("POST", path, **arguments)

    def put(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("PUT", path, **arguments)

    def delete(self, path: str) -> httpx.Response:
        return self.request("DELETE", path)

    def __enter__(self) -> Self:
        self._runner.run(self._start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.run(self._http.aclose())
        self._runner.close()

    async def _start(self) -> None:
        messages: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent: list[str] = []

        async def receive() -> Message:
            return messages.pop(0)

        async def send(message: Message) -> None:
            sent.append(message["type"])

        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        await self._app(scope, receive, send)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
