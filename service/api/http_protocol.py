"""How the API process reads HTTP: uvicorn's protocol on httptools, with a bound on what it keeps."""

from __future__ import annotations

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# As h11 has it, uvicorn's other parser (uvicorn.config, h11_max_incomplete_event_size).
MAX_HEAD_BYTES = 64 * 1024


class BoundedHttpProtocol(HttpToolsProtocol):
    """Answers a head, or what else is no body, with a 400 once it is over ``MAX_HEAD_BYTES``.

    httptools (llhttp, in C) takes a third of the time of h11, and keeps a header or a trailer until
    its end, however far that is: one may be cut anywhere, so what has come since the last part that
    was understood is counted too.
    """

    _head_bytes = 0
    _kept_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Read what a client has sent."""
        self._kept_bytes += len(data)
        super().data_received(data)
        if self._kept_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
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
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, which has a bound of its own."""
        self._kept_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._kept_bytes = 0
        super().on_message_complete()

    def _count(self, more_bytes: int) -> None:
        self._head_bytes += more_bytes
        if self._head_bytes > MAX_HEAD_BYTES:
            # Within a callback of httptools: uvicorn answers it as it does what is no HTTP.
            raise ValueError("the request's head is too large")


def read_requests_so() -> None:
    """Let the uvicorn that BentoML starts in this process use :class:`BoundedHttpProtocol`.

    uvicorn's ``--http`` takes the name of any such class; BentoML has no setting for it.
    """
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedHttpProtocol.__name__}"
