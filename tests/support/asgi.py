"""Direct ASGI calls: what a server would send to an application, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Scope


@dataclass(frozen=True, slots=True)
class AsgiReply:
    """What an application answered, and how many body messages it asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    starts: int
    received: int

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class _NeverEnding:
    """The ``receive`` of a client that goes silent."""

    async def __call__(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError


def call(
    app: ASGIApp,
    method: str = "GET",
    path: str = "/",
    *,
    headers: Mapping[str, str | bytes] | None = None,
    chunks: Iterable[bytes] = (b"",),
    stalls: bool = False,
) -> AsgiReply:
    """Send one request; ``stalls`` never delivers the end of the body."""
    return asyncio.run(_call(app, method, path, headers or {}, iter(chunks), stalls=stalls))


async def _call(
    app: ASGIApp,
    method: str,
    path: str,
    headers: Mapping[str, str | bytes],
    chunks: Iterator[bytes],
    *,
    stalls: bool,
) -> AsgiReply:
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (name.lower().encode(), value if isinstance(value, bytes) else value.encode())
            for name, value in headers.items()
        ],
        "server": ("testserver", 80),
        "client": ("testclient", 50000),
        "state": {},
    }
    received = 0
    ahead = next(chunks, None)
    sent: list[Message] = []

    async def receive() -> Message:
        nonlocal received, ahead
        if ahead is None:
            return await _NeverEnding()() if stalls else {"type": "http.disconnect"}
        received += 1
        chunk, ahead = ahead, next(chunks, None)
        return {
            "type": "http.request",
            "body": chunk,
            "more_body": stalls or ahead is not None,
        }

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    starts = [message for message in sent if message["type"] == "http.response.start"]
    bodies = [message["body"] for message in sent if message["type"] == "http.response.body"]
    return AsgiReply(
        status=starts[0]["status"],
        headers={name.decode(): value.decode() for name, value in starts[0]["headers"]},
        body=b"".join(bodies),
        starts=len(starts),
        received=received,
    )
