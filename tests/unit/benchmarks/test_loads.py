"""The loads against a small server on a free port, in one event loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from benchmarks.serving_bench.bodies import encode_request
from benchmarks.serving_bench.http import LOST
from benchmarks.serving_bench.loads import Answer, ClosedLoad, OpenLoad, Window

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REFUSED = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
Reply = Callable[[bytes], Awaitable[bytes | None]]


class TinyServer:
    """Keep-alive HTTP that answers each body as it is told; None ends the connection."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.bodies: list[bytes] = []
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.bodies.append(body)
                answer = await self._reply(body)
                if answer is None:
                    return
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


async def at_once(_: bytes) -> bytes:
    return OK


def requests() -> itertools.count[int]:
    return itertools.count()


def closed(
    reply: Reply, connections: int, marks: list[None] | None = None, seconds: float = 0.1
) -> tuple[Window, TinyServer, int]:
    marks = [] if marks is None else marks

    async def load() -> tuple[Window, TinyServer]:
        tiny = TinyServer(reply)
        server = await asyncio.start_server(tiny, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        numbered = (encode_request("/x", str(n).encode()) for n in requests())
        closed_load = ClosedLoad(port, numbered, connections, lambda: marks.append(None))
        window = await closed_load.run(warm_seconds=0.02, seconds=seconds)
        server.close()
        return window, tiny

    window, tiny = asyncio.run(load())
    return window, tiny, len(marks)


def opened(reply: Reply, times: list[float], connections: int) -> tuple[list[Answer], TinyServer]:
    async def load() -> tuple[list[Answer], TinyServer]:
        tiny = TinyServer(reply)
        server = await asyncio.start_server(tiny, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        numbered = (encode_request("/x", str(n).encode()) for n in requests())
        answers = await OpenLoad(port, numbered, connections).run(times)
        server.close()
        return answers, tiny

    return asyncio.run(load())


def test_a_closed_load_keeps_its_connections_and_sends_every_request_once() -> None:
    window, tiny, marks = closed(at_once, connections=3)
    assert tiny.connections == 3
    assert len(set(tiny.bodies)) == len(tiny.bodies)
    assert marks == 2
    assert 0 < len(window.latencies) <= len(tiny.bodies)
    assert window.wall_seconds >= 0.1
    assert not window.errors


def test_a_closed_load_counts_only_what_was_answered_with_200() -> None:
    async def every_other(body: bytes) -> bytes:
        return OK if int(body) % 2 else REFUSED

    window, _, _ = closed(every_other, connections=2)
    assert window.latencies
    assert set(window.errors) == {429}


def test_a_closed_load_counts_connections_that_end_without_a_reply() -> None:
    marks: list[None] = []
    lost: list[bytes] = []

    async def lose_one(body: bytes) -> bytes | None:
        if marks and not lost:
            lost.append(body)
            return None
        return OK

    window, _, _ = closed(lose_one, connections=2, marks=marks)
    assert dict(window.errors) == {LOST: 1}


def test_a_window_lasts_until_there_are_as_many_replies_as_connections() -> None:
    async def slowly(_: bytes) -> bytes:
        await asyncio.sleep(0.75)
        return OK

    window, _, _ = closed(slowly, connections=2, seconds=0.5)
    assert len(window.latencies) >= 2
    assert window.wall_seconds > 0.5


def test_a_rate_is_over_whole_periods_however_the_window_cuts_them() -> None:
    async def every_seven_hundredths(_: bytes) -> bytes:
        await asyncio.sleep(0.07)
        return OK

    # A window of 0.1 s meets one reply or two: over 0.1 s, two would be a rate that never was.
    window, _, _ = closed(every_seven_hundredths, connections=1)
    assert len(window.latencies) / window.seconds <= 1 / 0.07


def test_an_open_load_answers_in_the_order_in_which_requests_were_meant() -> None:
    times = [0.0, 0.01, 0.02, 0.03]
    answers, tiny = opened(at_once, times, connections=8)
    assert [answer.meant for answer in answers] == pytest.approx(times, abs=1e-6)
    assert {answer.status for answer in answers} == {200}
    assert len(tiny.bodies) == 4


def test_an_open_load_counts_from_when_a_request_was_meant_to_be_sent() -> None:
    async def slowly(_: bytes) -> bytes:
        await asyncio.sleep(0.05)
        return OK

    answers, tiny = opened(slowly, [0.0, 0.0, 0.0], connections=1)
    assert tiny.connections == 1
    # One connection serves them one after the other: the last one waited for two before it.
    assert answers[-1].latency >= 0.15
    assert answers[-1].lag >= 0.1


def test_an_open_load_tells_refusals_apart() -> None:
    async def refuse(_: bytes) -> bytes:
        return REFUSED

    answers, _ = opened(refuse, [0.0, 0.005], connections=2)
    assert [(answer.status, answer.retry_after) for answer in answers] == [(429, True)] * 2
