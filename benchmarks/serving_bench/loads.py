"""Closed and open loads over keep-alive connections; they run in the client's own process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.serving_bench.http import LOST, Connection, Reply, connect

Clock = time.perf_counter

_POLL_SECONDS = 0.01
# A load ends without the replies that are still missing after this time.
_DRAIN_SECONDS = 60.0


@dataclass(slots=True)
class Window:
    """Replies within the measured time; latencies in seconds, of replies with status 200.

    ``seconds`` runs from the last reply before the window to the last one within it: replies of
    batches come in bursts, and a rate over whole periods does not hang on where the window cuts them.
    ``wall_seconds`` is the time between the two marks, in which the client used ``cpu_seconds``.
    """

    seconds: float = 0.0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: Counter[int] = field(default_factory=Counter)


class ClosedLoad:
    """A fixed number of connections, each of which sends the next request when it has its reply.

    The measured window begins when ``warm_seconds`` have passed and every connection has had a
    reply, and lasts ``seconds``, longer (thrice at most) where that is fewer replies than connections. ``mark`` is called at its begin and at its end.
    """

    def __init__(
        self, port: int, requests: Iterator[bytes], connections: int, mark: Callable[[], None]
    ) -> None:
        self._port = port
        self._requests = requests
        self._connections = connections
        self._mark = mark
        self._window = Window()
        self._replies = 0
        self._last_reply = 0.0
        self._under_way = 0
        self._stopping = False

    async def run(self, warm_seconds: float, seconds: float) -> Window:
        """Load the server; the window that was measured."""
        opened = [await connect(self._port, self._answered) for _ in range(self._connections)]
        for connection in opened:
            self._send(connection)
        await self._until(lambda: self._replies >= self._connections, warm_seconds, 4 * seconds)
        self._window = Window()
        started, cpu_started, before = Clock(), time.process_time(), self._last_reply
        self._mark()
        await self._until(
            lambda: len(self._window.latencies) >= self._connections, seconds, 3 * seconds
        )
        measured, self._window = self._window, Window()
        measured.wall_seconds = Clock() - started
        measured.seconds = self._last_reply - before or measured.wall_seconds
        measured.cpu_seconds = time.process_time() - cpu_started
        self._mark()
        # What is under way would be served in somebody else's time.
        self._stopping = True
        await self._until(lambda: not self._under_way, 0.0, _DRAIN_SECONDS)
        for connection in opened:
            connection.close()
        return measured

    async def _until(self, enough: Callable[[], bool], least: float, most: float) -> None:
        started = Clock()
        await asyncio.sleep(least)
        # Polled: an event for each reply would cost the client more than this.
        while not enough() and Clock() - started < most:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)

    def _send(self, connection: Connection) -> None:
        self._under_way += 1
        connection.send(next(self._requests), Clock())

    def _answered(self, connection: Connection, reply: Reply) -> None:
        self._under_way -= 1
        self._replies += 1
        self._last_reply = Clock()
        if reply.status == 200:
            self._window.latencies.append(self._last_reply - connection.since)
        else:
            self._window.errors[reply.status] += 1
        if reply.status != LOST and not self._stopping:
            self._send(connection)


@dataclass(frozen=True, slots=True)
class Answer:
    """One request of an open load, in seconds since its begin; status LOST: no reply."""

    meant: float
    lag: float
    latency: float
    status: int
    retry_after: bool


class OpenLoad:
    """Requests sent at given times, whether or not earlier ones have been answered.

    A request takes a free connection, or a new one up to ``most_connections``, or waits for one.
    Its latency counts from the time at which it was meant to be sent.
    """

    def __init__(self, port: int, requests: Iterator[bytes], most_connections: int) -> None:
        self._port = port
        self._requests = requests
        self._most_connections = most_connections
        self._free: deque[Connection] = deque()
        self._waiting: deque[float] = deque()
        self._opened: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._sent_at: dict[Connection, float] = {}
        self._answers: list[Answer] = []
        self._begin = 0.0

    async def run(self, times: Sequence[float]) -> list[Answer]:
        """Send a request at each time (ascending, seconds) and wait for the replies."""
        for _ in range(min(32, self._most_connections)):
            await self._open()
        self._begin = Clock()
        for meant in times:
            wait = self._begin + meant - Clock()
            if wait > 0:
                await asyncio.sleep(wait)
            self._waiting.append(self._begin + meant)
            if not self._free and len(self._opened) + len(self._opening) < self._most_connections:
                task = asyncio.create_task(self._open_another())
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            self._dispatch()
        deadline = Clock() + _DRAIN_SECONDS
        while len(self._answers) < len(times) and Clock() < deadline:  # noqa: ASYNC110 - as above
            await asyncio.sleep(_POLL_SECONDS)
        for connection in self._opened:
            connection.close()
        return sorted(self._answers, key=lambda answer: answer.meant)

    async def _open_another(self) -> None:
        # A server that takes no more connections leaves requests waiting: their latency says so.
        with contextlib.suppress(OSError):
            await self._open()

    async def _open(self) -> None:
        connection = await connect(self._port, self._answered)
        self._opened.append(connection)
        self._free.append(connection)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._waiting and self._free:
            # The one that was used last: fewer connections are kept busy, as a pool does.
            connection = self._free.pop()
            if not connection.open:
                self._opened.remove(connection)
                continue
            self._sent_at[connection] = Clock()
            connection.send(next(self._requests), self._waiting.popleft())

    def _answered(self, connection: Connection, reply: Reply) -> None:
        now, sent = Clock(), self._sent_at.pop(connection)
        self._answers.append(
            Answer(
                connection.since - self._begin,
                sent - connection.since,
                now - connection.since,
                reply.status,
                reply.retry_after,
            )
        )
        self._free.append(connection)
        self._dispatch()
