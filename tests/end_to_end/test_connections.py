"""Connections of hostile clients: a clear answer or a close, bounded memory, classify goes on."""

from __future__ import annotations

import contextlib
import gzip
import json
import resource
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.measured import Measured
from tests.support.running_service import SERVE, RunningService, running, wait_for

BODY_SECONDS = 5
CONCURRENCY = 8
HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = json.dumps({"experiences": [{"text": "Cheffe", "occupations": ["chef"]}]}).encode()
MOST_CONNECTIONS = 10_000
# What is left to the test itself.
SPARE_FILES = 200


def _deep(opening: bytes, closing: bytes) -> bytes:
    return opening * 100_000 + b"1" + closing * 100_000


def _with_length(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return HEAD + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


# What is sent, and the statuses that answer it: uvicorn has two parsers, which refuse some of it at
# different moments.
CASES: dict[str, tuple[bytes, set[int]]] = {
    "a header of 1 MB": (HEAD + b"X-Big: " + b"a" * 1_000_000 + b"\r\n\r\n", {400}),
    "headers of 200 kB": (HEAD + b"X-Small: 1\r\n" * 17_000 + b"\r\n", {400}),
    "a trailer of 1 MB": (CHUNKED + b"2\r\n{}\r\n0\r\nX-Big: " + b"a" * 1_000_000, {400}),
    "a target of 1 MB": (b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n", {400}),
    "a chunk in single bytes": (
        CHUNKED
        + b"".join(b'1;odd="%d"\r\n%c\r\n' % (i, c) for i, c in enumerate(BODY))
        + b"000\r\nTrailer: 1\r\n\r\n",
        {200},
    ),
    "a chunk whose size is no number": (CHUNKED + b"ZZ\r\n{}\r\n0\r\n\r\n", {400}),
    "a chunk of a negative size": (CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", {400}),
    "a chunk of more than it has": (CHUNKED + b"FFFFFFFFFFFFFFFFFF\r\n{}\r\n", {400, 408}),
    "a chunk with an endless extension": (CHUNKED + b"5;" + b"e" * 500_000, {400, 408}),
    # As Java's HTTP client does.
    "an offer of HTTP/2": (
        _with_length(
            BODY,
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        ),
        {200},
    ),
    "two lengths": (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", {400}),
    "a negative length": (HEAD + b"Content-Length: -5\r\n\r\n{}", {400}),
    "a length of twenty digits": (HEAD + b"Content-Length: " + b"9" * 20 + b"\r\n\r\n", {400, 413}),
    "a length of ten thousand digits": (
        HEAD + b"Content-Length: " + b"9" * 10_000 + b"\r\n\r\n",
        {400},
    ),
    "a body that never comes": (HEAD + b"Content-Length: 100\r\n\r\n{", {408}),
    "arrays 100,000 deep": (_with_length(_deep(b"[", b"]")), {400}),
    "objects 100,000 deep": (_with_length(_deep(b'{"experiences":', b"}")), {400}),
    "TLS to a port that speaks HTTP": (b"\x16\x03\x01\x02\x00\x01\x00" * 20 + b"\r\n\r\n", {400}),
    "a gzip bomb": (
        _with_length(gzip.compress(b" " * (64 << 20)), b"Content-Encoding: gzip"),
        {415},
    ),
}


@pytest.fixture(scope="module")
def service(
    prepared_tiny_home: Path,
    tiny_settings: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningService]:
    # The usual soft limit of open files, which the service raises by itself.
    command = ["bash", "-c", 'ulimit -Sn 1024 && exec "$0" "$@"', *SERVE]
    environment = {
        **tiny_settings,
        "VOCATION_BODY_TIMEOUT_SECONDS": str(BODY_SECONDS),
        "VOCATION_MAX_CONCURRENCY": str(CONCURRENCY),
    }
    home = tmp_path_factory.mktemp("connections") / "home"
    shutil.copytree(prepared_tiny_home, home)
    with running(home, command=command, environment=environment) as started:
        yield started


@contextlib.contextmanager
def _connection(service: RunningService) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", service.port), timeout=BODY_SECONDS + 15) as opened:
        yield opened


def _status(opened: socket.socket) -> int | None:
    """The status of the answer, None where the connection was closed without one."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while b"\r\n" not in received:
            chunk = opened.recv(65_536)
            if not chunk:
                return None
            received += chunk
        return int(received.split(b" ", 2)[1])
    return None


def _asked(service: RunningService) -> float:
    """Seconds that the service takes to classify beside all that."""
    started = time.monotonic()
    assert service.client.get("/livez").status_code == 200
    reply = service.client.post(
        "/v1/classify", content=BODY, headers={"content-type": "application/json"}
    )
    assert reply.status_code == 200
    return time.monotonic() - started


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_request_of_ours_gets_an_answer(service: RunningService, case: str) -> None:
    sent, statuses = CASES[case]
    api = service.worker("vocation")
    before = api.memory_info().rss
    with _connection(service) as opened:
        # The answer may come, and the connection end, while the rest is still on its way.
        with contextlib.suppress(ConnectionError):
            opened.sendall(sent)
        assert _status(opened) in statuses
        _asked(service)
    assert api.memory_info().rss - before < 32 << 20


def test_a_body_of_one_byte_a_second_ends_in_time_and_its_connection_too(
    service: RunningService, measured: Measured
) -> None:
    with _connection(service) as opened:
        opened.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        started = time.monotonic()
        opened.settimeout(0.5)
        received = b""
        while time.monotonic() - started < BODY_SECONDS + 10:
            with contextlib.suppress(ConnectionError):
                opened.sendall(b" ")
            try:
                chunk = opened.recv(65_536)
            except TimeoutError:
                continue
            except ConnectionResetError:
                break
            if not chunk:
                break
            received += chunk
        ended = time.monotonic() - started
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"body_too_slow" in received
    assert ended < BODY_SECONDS + 8
    measured(f"until a slow body is over (limit {BODY_SECONDS} s)", ended, "s")


def test_headers_of_one_byte_a_second_keep_nobody_else_waiting(
    service: RunningService, measured: Measured
) -> None:
    # uvicorn, which BentoML starts, has no deadline for headers: docs/security.md says what to do.
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(_connection(service)) for _ in range(200)]
        for byte in b"GET /livez HT":
            for opened in slow:
                opened.sendall(bytes([byte]))
        seconds = max(_asked(service) for _ in range(20))
        for opened in slow:
            opened.sendall(b"TP/1.1\r\nHost: localhost\r\n\r\n")
        # Slow is not wrong.
        assert {_status(opened) for opened in slow} == {200}
    measured("slowest answer beside 200 slow headers", seconds, "s")


def test_thousands_of_silent_connections_take_bounded_memory_and_classify_goes_on(
    service: RunningService, measured: Measured
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(MOST_CONNECTIONS, hard - SPARE_FILES)
    api = service.worker("vocation")
    assert api.rlimit(psutil.RLIMIT_NOFILE) == (hard, hard)
    _asked(service)
    before, files = api.memory_info().rss, api.num_fds()
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(_connection(service))
            # Asking keeps the connection that was there before, which is ended when it is idle.
            wait_for(
                "the connections",
                lambda: _asked(service) and api.num_fds() >= files + count,
                60,
            )
            grown = api.memory_info().rss - before
            slowest = max(_asked(service) for _ in range(20))
            with httpx.Client(base_url=service.client.base_url) as another:
                assert another.get("/readyz").status_code == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_for("their end", lambda: api.num_fds() <= files + 10, 60)
    assert grown < count * 16 * 1024
    measured("silent connections", count, "connections")
    measured("memory that they take", grown / 2**20, "MiB")
    measured("slowest answer beside them", slowest, "s")


def test_clients_that_never_read_their_answers_keep_their_places_only_for_so_long(
    service: RunningService, measured: Measured
) -> None:
    # Over a megabyte each, and the kernel buffers four: the last of them wait for the client.
    asset = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(CONCURRENCY):
            stack.enter_context(_connection(service)).sendall(asset * 100)
        started = time.monotonic()
        # Not only while the kernel takes what it can.
        wait_for("all places to be taken", lambda: _statuses(service) == {429}, BODY_SECONDS)
        wait_for("them to give way", lambda: 200 in _statuses(service), BODY_SECONDS + 10)
        seconds = time.monotonic() - started
    measured(f"until clients that do not read give way (limit {BODY_SECONDS} s)", seconds, "s")


def _statuses(service: RunningService) -> set[int]:
    return {service.client.post("/v1/classify", content=BODY).status_code for _ in range(100)}
