"""The least HTTP/1.1 that a load client needs: keep-alive connections over asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

# What stands for a reply that never came.
LOST = 0


class UnreadableReply(ValueError):
    """Bytes that are no HTTP/1.1 reply with a Content-Length."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a load client looks at; ``status`` is LOST when the connection ended first."""

    status: int
    retry_after: bool = False
    body: bytes = b""


class ReplyParser:
    """Cuts a stream of bytes into replies."""

    def __init__(self) -> None:
        self._buffer = b""
        self._head: tuple[int, bool, int] | None = None

    def feed(self, data: bytes) -> Reply | None:
        """Take bytes; the reply that they complete, if they do. Raises UnreadableReply.

        One request is under way on a connection at a time: what follows a reply is kept for the
        next call.
        """
        self._buffer = self._buffer + data if self._buffer else data
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return None
            self._head = _parse_head(self._buffer[:end])
            self._buffer = self._buffer[end + 4 :]
        status, retry_after, length = self._head
        if len(self._buffer) < length:
            return None
        self._head = None
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Reply(status, retry_after, body)


def _parse_head(head: bytes) -> tuple[int, bool, int]:
    # Status, whether Retry-After is there, length of the body.
    if not head.startswith(b"HTTP/1."):
        raise UnreadableReply("not HTTP/1")
    fields = head.lower()
    start = fields.find(b"\r\ncontent-length:")
    if start < 0:
        raise UnreadableReply("no Content-Length")
    start += len(b"\r\ncontent-length:")
    end = fields.find(b"\r\n", start)
    length = int(fields[start : end if end >= 0 else None])
    return int(head[9:12]), b"\r\nretry-after:" in fields, length


Answered = Callable[["Connection", Reply], None]


class Connection(asyncio.Protocol):
    """One keep-alive connection; ``answered`` is called once for each request."""

    def __init__(self, answered: Answered) -> None:
        self._answered = answered
        self._parser = ReplyParser()
        self._transport: asyncio.Transport | None = None
        self._waiting = False
        # When the request under way was meant to be sent, on the caller's clock.
        self.since = 0.0

    @property
    def open(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None

    def send(self, request: bytes, since: float) -> None:
        """Send a whole request."""
        self.since = since
        self._waiting = True
        if self._transport is None:
            self._answer(Reply(LOST))
        else:
            self._transport.write(request)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; asyncio calls it."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes; asyncio calls it."""
        try:
            reply = self._parser.feed(data)
        except ValueError:
            self.close()
            return
        if reply is not None:
            self._answer(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; asyncio calls it."""
        del exc
        self._transport = None
        if self._waiting:
            self._answer(Reply(LOST))

    def _answer(self, reply: Reply) -> None:
        self._waiting = False
        self._answered(self, reply)


async def connect(port: int, answered: Answered) -> Connection:
    """Open a connection to this machine; raises OSError."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Connection(answered), host="127.0.0.1", port=port
    )
    return connection
