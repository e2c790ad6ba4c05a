"""How the API process reads HTTP: uvicorn's protocol on httptools, with a bound on what it keeps."""

from __future__ import annotations

import httptools
import uvicorn.config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# As h11 has it, uvicorn's other parser (uvicorn.config, h11_max_incomplete_event_size).
MAX_HEAD_BYTES = 64 * 1024


class BoundedHttpProtocol(HttpToolsProtocol):
    """Answers a head, or what else is no body, with a 400 once it is over ``MAX_HEAD_BYTES``.

    httptools (llhttp, in C) takes a quarter of the time of h11 for a small request and its answer (25
    and 98 us of one processor). It keeps a header or a trailer until its end, however far that is,
    and one may be cut anywhere: what has come since the last part that was understood counts too.

    httptools ends where a request offers another protocol, body or not, as Java's HTTP client offers
    HTTP/2 (``Upgrade: h2c``). The offer may be ignored (RFC 9110, section 7.8): h11 goes on.
    """

    _head_bytes = 0
    _kept_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Read what a client has sent."""
        self._unset_keepalive_if_required()
        self._kept_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        else:
            if self._kept_bytes > MAX_HEAD_BYTES:
                self.send_400_response("The request's head is too large.")

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start to answer."""
        self._kept_bytes = 0
        if self.parser.get_http_version() == "1.1" and not any(
            n == b"host" for n, _ in self.headers
        ):
            # RFC 9112, section 3.2: such a request is a 400, and h11 says so.
            raise ValueError("a request without Host")
        if not self.parser.should_upgrade() or self._should_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, which has a bound of its own."""
        self._kept_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._kept_bytes = 0
        if not self.parser.should_upgrade() or self._should_upgrade():
            super().on_message_complete()

    def _count(self, more_bytes: int) -> None:
        self._head_bytes += more_bytes
        if self._head_bytes > MAX_HEAD_BYTES:
            # Within a callback of httptools, which makes an HttpParserError of it.
            raise ValueError("the request's head is too large")

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        if self.parser.get_method() == b"CONNECT":
            self.send_400_response("This server is no proxy.")
            return
        if self.cycle is not None and not self.cycle.response_complete:
            # The answer to an earlier request is on its way: two protocols would mix theirs.
            self.send_400_response("An upgrade was offered before an answer was over.")
            return
        version = self.parser.get_http_version().encode()
        head = [b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)]
        head += [b"%b: %b\r\n" % header for header in self.headers]
        protocol = H11Protocol(self.config, self.server_state, self.app_state)
        self.connections.discard(self)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.data_received(b"".join([*head, b"\r\n", rest]))


def read_requests_so() -> None:
    """Let the uvicorn that BentoML starts in this process use :class:`BoundedHttpProtocol`.

    uvicorn's ``--http`` takes the name of any such class; BentoML has no setting for it.
    """
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedHttpProtocol.__name__}"
