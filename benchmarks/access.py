"""What access control costs a request: the guard alone, and the whole edge around an empty reply.

One command: ``PROMETHEUS_MULTIPROC_DIR=$(mktemp -d) python -m benchmarks.access
[--requests 20000] [--keys 50] [--rounds 9]``; with the variable, metrics cost what they do when
served. Each figure is the median over
rounds of the mean time of a request, in microseconds; the cases of a round follow one another, so
that a busy machine disturbs them alike.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import values

from service.api.access import Guard
from service.api.app import create_app, path_table
from service.api.edge import Edge
from service.api.request_body import EdgeLimits
from service.domain.keys import Key, KeyScope, make_key

Header = tuple[bytes, bytes]
HEADERS: list[Header] = [
    (b"host", b"127.0.0.1:3000"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"user-agent", b"benchmark"),
    (b"content-type", b"application/json"),
    (b"content-length", b"2"),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--keys", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    _measure(arguments.requests, arguments.keys, arguments.rounds)


def _measure(requests: int, key_count: int, rounds: int) -> None:
    print(
        f"Python {platform.python_version()}, {values.ValueClass.__name__} of prometheus_client, "
        f"{key_count} keys, {requests} requests x {rounds} rounds; microseconds a request"
    )
    open_guard, _ = _guard(0, None)
    plain, plain_key = _guard(key_count, None)
    limited, limited_key = _guard(key_count, 1_000_000_000)
    wrong = _bearer("voc_abcdefgh_" + "x" * 43)
    cases: dict[str, tuple[Guard, list[Header]]] = {
        "no key configured": (open_guard, HEADERS),
        "valid key": (plain, [*HEADERS, _bearer(plain_key)]),
        "valid key with a rate limit": (limited, [*HEADERS, _bearer(limited_key)]),
        "no key sent (401)": (plain, HEADERS),
        "unknown key (401)": (plain, [*HEADERS, wrong]),
    }
    for what, timer in (
        ("guard alone", _time_guard),
        ("whole edge, POST /v1/classify", _time_edge),
    ):
        figures: dict[str, list[float]] = {case: [] for case in cases}
        for _ in range(rounds):
            for case, (guard, headers) in cases.items():
                figures[case].append(timer(guard, headers, requests))
        base = statistics.median(figures["no key configured"])
        for case, measured in figures.items():
            median = statistics.median(measured)
            spread = f"{min(measured):.2f} to {max(measured):.2f}"
            print(f"{what}: {case}: {median:.2f} ({spread}), {median - base:+.2f}")


def _guard(count: int, limit: int | None) -> tuple[Guard, str]:
    """A guard that knows so many keys, and the text of one in their middle."""
    guard = Guard(api_processes=1, metrics_open=True)
    made = [make_key() for _ in range(count)]
    now = datetime.now(UTC)
    keys = [
        Key(
            id=new.id,
            name=f"key-{number}",
            scopes=frozenset({KeyScope.CLASSIFY}),
            secret_digest=new.secret_digest,
            created_at=now,
            expires_at=now + timedelta(days=1),
            revoked_at=None,
            requests_per_minute=limit,
        )
        for number, new in enumerate(made)
    ]
    guard.load(keys)
    return guard, made[count // 2].text if made else ""


def _bearer(text: str) -> Header:
    return b"authorization", f"Bearer {text}".encode()


def _time_guard(guard: Guard, headers: list[Header], requests: int) -> float:
    judge: Callable[..., Any] = guard.judge
    started = time.perf_counter()
    for _ in range(requests):
        judge("POST", "/v1/classify", headers)
    return (time.perf_counter() - started) / requests * 1e6


def _time_edge(guard: Guard, headers: list[Header], requests: int) -> float:
    return asyncio.run(_requests(guard, headers, requests)) / requests * 1e6


async def _requests(guard: Guard, headers: list[Header], requests: int) -> float:
    async def empty(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"[]"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(_: Any) -> None:
        pass

    edge = Edge(empty, path_table(create_app()), EdgeLimits(1 << 20, 20.0), guard, lambda: None)
    scope = {"type": "http", "method": "POST", "path": "/v1/classify", "headers": headers}
    started = time.perf_counter()
    for _ in range(requests):
        await edge(dict(scope), receive, send)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
