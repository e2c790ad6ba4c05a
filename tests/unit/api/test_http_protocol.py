"""What is no body has a bound: heads and trailers, whole or cut anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from service.api.http_protocol import MAX_HEAD_BYTES, BoundedHttpProtocol, read_requests_so

OPENING = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = OPENING + b"Transfer-Encoding: chunked\r\n\r\n"
OK, BAD = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 400 Bad Request\r\n"


async def echo_length(scope: Scope, receive: Receive, send: Send) -> None:
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    content = str(length).encode()
    headers = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def sent(parts: Iterable[bytes]) -> bytes:
    """The first line of the answer to what is sent part by part, each read by itself."""
    return answer(parts).partition(b"\r\n")[0] + b"\r\n"


def answer(parts: Iterable[bytes]) -> bytes:
    """All that is answered until the connection ends, which the client ends after the last part."""

    async def ask() -> bytes:
        config = uvicorn.Config(echo_length, lifespan="off", log_config=None)
        read, closing = asyncio.Event(), False

        def told(protocol: asyncio.Protocol) -> asyncio.Protocol:
            take = protocol.data_received

            def data_received(data: bytes) -> None:
                nonlocal closing
                take(data)
                transport: asyncio.Transport = protocol.transport  # type: ignore[attr-defined]
                closing = transport.is_closing()
                if transport.get_protocol() is not protocol:
                    told(transport.get_protocol())  # type: ignore[arg-type]
                read.set()

            protocol.data_received = data_received  # type: ignore[method-assign]
            return protocol

        loop, state = asyncio.get_running_loop(), ServerState()
        server = await loop.create_server(
            lambda: told(BoundedHttpProtocol(config, state, {})), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        for part in parts:
            read.clear()
            writer.write(part)
            await read.wait()
            if closing:
                break
        # Half: what has been sent is answered.
        writer.write_eof()
        said = await reader.read()
        writer.close()
        server.close()
        return said

    return asyncio.run(asyncio.wait_for(ask(), 60))


def in_pieces(text: bytes, size: int) -> list[bytes]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def head(header_bytes: int) -> bytes:
    # The name counts too, and so do target and other headers.
    length = header_bytes - len("x" + "/v1/classify" + "Hostlocalhost" + "Content-Length2")
    return OPENING + b"x: " + b"a" * length + b"\r\nContent-Length: 2\r\n\r\n"


@pytest.mark.parametrize("piece_bytes", [1000, 1 << 20])
def test_a_head_up_to_the_limit_is_read_and_one_byte_more_is_not(piece_bytes: int) -> None:
    # In pieces, what is around names and values counts while the head has no end.
    spare = 100 if piece_bytes == 1000 else 0
    assert sent(in_pieces(head(MAX_HEAD_BYTES - spare) + b"{}", piece_bytes)) == OK
    assert sent(in_pieces(head(MAX_HEAD_BYTES + 1) + b"{}", piece_bytes)) == BAD


@pytest.mark.parametrize(
    "opening",
    [
        b"GET /",
        OPENING + b"x: ",
        OPENING + b"x",
        CHUNKED + b"2\r\n{}\r\n0\r\nx: ",
        CHUNKED + b"2;",
    ],
    ids=["target", "header", "name of a header", "trailer", "chunk extension"],
)
def test_what_never_ends_is_not_kept(opening: bytes) -> None:
    assert sent([opening, *in_pieces(b"a" * (MAX_HEAD_BYTES + 1000), 1000)]) == BAD


@pytest.mark.parametrize("opening", [OPENING, CHUNKED + b"2\r\n{}\r\n0\r\n"])
def test_many_short_headers_or_trailers_are_not_kept_either(opening: bytes) -> None:
    lines = b"".join(b"x-%d: 1\r\n" % number for number in range(12_000))
    assert sent([opening, *in_pieces(lines, 1000)]) == BAD


def test_a_body_and_the_next_request_have_nothing_to_do_with_it() -> None:
    length = 2 * MAX_HEAD_BYTES
    with_length = OPENING + b"Content-Length: %d\r\n\r\n" % length + b"a" * length
    assert sent(in_pieces(with_length, 1000)) == OK
    in_chunks = CHUNKED + b"1\r\na\r\n" * length + b"0\r\n\r\n"
    assert sent(in_pieces(in_chunks, 10_000)) == OK
    one = OPENING + b"x: " + b"a" * (MAX_HEAD_BYTES // 2) + b"\r\nContent-Length: 2\r\n\r\n{}"
    assert sent([one, one, one]) == OK


HTTP_2 = OPENING + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"


@pytest.mark.parametrize("piece_bytes", [7, 1000])
@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 4\r\n\r\n{}{}", b"Transfer-Encoding: chunked\r\n\r\n4\r\n{}{}\r\n0\r\n\r\n"],
    ids=["length", "chunks"],
)
def test_the_body_beside_an_offer_of_another_protocol_is_read(
    body: bytes, piece_bytes: int
) -> None:
    # On one connection: after an ordinary request, and with another one after it.
    before, after = (
        OPENING + b"Content-Length: 1\r\n\r\n1",
        OPENING + b"Content-Length: 2\r\n\r\n12",
    )
    offered = in_pieces(HTTP_2 + body, piece_bytes)
    said = answer([before, *offered, after]).split(OK)
    assert [part.rpartition(b"\r\n\r\n")[2] for part in said] == [b"", b"1", b"4", b"2"]


def test_an_offer_of_another_protocol_has_a_bound_too() -> None:
    assert sent([HTTP_2, *in_pieces(b"x: " + b"a" * MAX_HEAD_BYTES, 1000)]) == BAD


def test_who_asks_for_a_proxy_is_refused() -> None:
    assert sent([b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"]) == BAD


def test_a_request_that_names_no_host_is_refused_where_http_asks_for_one() -> None:
    assert sent([b"GET / HTTP/1.1\r\n\r\n"]) == BAD
    assert sent([b"GET / HTTP/1.0\r\n\r\n"]) == OK


def test_uvicorn_takes_it_where_nothing_else_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn.config, "HTTP_PROTOCOLS", dict(uvicorn.config.HTTP_PROTOCOLS))
    read_requests_so()
    config = uvicorn.Config(echo_length, log_config=None)
    config.load()
    assert config.http_protocol_class is BoundedHttpProtocol
