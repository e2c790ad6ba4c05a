"""A request's body, read as a whole within its limits before anything looks at it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope

from service.domain.errors import BodyTooLarge, BodyTooSlow, UnsupportedMediaType

_JSON = re.compile(r"^application/(?:[a-z0-9.\-]+\+)?json$")


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """What a request may cost: its bytes, and the wait for them or for its reply to be read."""

    max_body_bytes: int
    body_timeout_seconds: float


async def read_body(scope: Scope, receive: Receive, limits: EdgeLimits) -> bytes:
    """The body, streamed ones too.

    Raises:
        BodyTooLarge: if it is, or says it is, over the limit.
        BodyTooSlow: if it does not arrive in time.
        UnsupportedMediaType: if it is compressed, or is not JSON.
    """
    headers = dict(scope["headers"])
    limit = limits.max_body_bytes
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length) > limit:
        raise BodyTooLarge(f"The body is over {limit} bytes.")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        # Not to be unpacked: a few kilobytes may hold gigabytes.
        raise UnsupportedMediaType("Send the body without a Content-Encoding.")
    try:
        async with asyncio.timeout(limits.body_timeout_seconds):
            body = await _gather(receive, limit)
    except TimeoutError:
        raise BodyTooSlow("The body did not arrive in time.") from None
    media_type = headers.get(b"content-type", b"application/json").split(b";")[0].strip()
    if body and not _JSON.match(media_type.decode("latin-1").lower()):
        raise UnsupportedMediaType("Send application/json.")
    return body


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives a body that was read, and then what still comes."""
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _gather(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(chunks)
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"The body is over {limit} bytes.")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
