"""A steady load of classify requests, and what became of each of them."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: when it was sent and over, on the monotonic clock, and how it ended.

    ``sent`` is when the last byte was written, or could not be. ``status`` is None where the
    connection was refused or broke.
    """

    sent: float
    over: float
    status: int | None


@dataclass(slots=True)
class Load:
    """Clients that send one request after the other, each on a connection of its own."""

    host: str
    port: int
    body: bytes
    outcomes: list[Outcome] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def in_seconds(self, begin: float, end: float) -> list[Outcome]:
        """The requests that were sent in between."""
        return [outcome for outcome in self.outcomes if begin <= outcome.sent < end]

    def answered_after(self, moment: float) -> list[Outcome]:
        """The requests that were sent after a moment and answered with a 200."""
        return [o for o in list(self.outcomes) if o.sent >= moment and o.status == 200]

    def _send(self) -> None:
        while not self._ended.is_set():
            # A new connection each: one that is kept may end while a request is on its way.
            connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
            status = None
            try:
                connection.request("POST", "/v1/classify", self.body, _JSON)
            except OSError:
                sent = time.monotonic()
            else:
                sent = time.monotonic()
                with contextlib.suppress(OSError, http.client.HTTPException):
                    reply = connection.getresponse()
                    reply.read()
                    status = reply.status
            finally:
                connection.close()
            self.outcomes.append(Outcome(sent, time.monotonic(), status))
            if status is None:
                self._ended.wait(0.02)


@contextlib.contextmanager
def load(base_url: str, body: Mapping[str, Any], clients: int) -> Iterator[Load]:
    """Keep so many clients busy during the block."""
    address = urlsplit(base_url)
    assert address.hostname is not None
    assert address.port is not None
    made = Load(address.hostname, address.port, json.dumps(body).encode())
    threads = [threading.Thread(target=made._send, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        made._ended.set()
        for thread in threads:
            thread.join(70)
