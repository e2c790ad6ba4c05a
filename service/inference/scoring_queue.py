"""Adaptive batching: threads that share what waits, so that no processor idles while a text waits.

A batch is never waited for. A free thread takes its share of what waits at that moment: alone a
request is cut into parts that run side by side; under load many small requests are one batch. Short
texts are kept together, for they share a run; long ones make a batch small, so that a title beside
them is soon answered. A large request goes back to the end of the queue after each turn: it does
not hold up small ones.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from service.domain.errors import Overloaded
from service.inference.batch import Answer, BatchItem
from service.inference.sharing import Room, Sharing
from service.telemetry import metrics

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

_QUEUE_SECONDS = metrics.STAGE_SECONDS.labels("queue")

# What a request may have scored before those behind it have their turn: an ordinary profile.
_TURN = 16
# Weight of the newest batch in the running mean of the time that an item takes: tens of batches,
# a fraction of a second under load.
_RECENT = 0.05


class ScoresBatches(Protocol):
    """What is asked for the answers of a batch, by several threads at once."""

    def score(self, batch: Sequence[BatchItem]) -> list[Answer]:
        """The answers in the order of the batch."""
        ...


class TracesBatches(Protocol):
    """What ties batches to the requests that they score; service/telemetry/traces.py has it."""

    def origin(self) -> SpanContext | None:
        """The span of the request that is queued now; None where it is not traced."""
        ...

    def batch(
        self, origins: Sequence[SpanContext], experiences: int, waited_seconds: float
    ) -> AbstractContextManager[None]:
        """Surrounds the scoring of a batch; the wait is the longest of its requests."""
        ...


class _Call:
    """One request: what has not been taken yet, and the answers so far."""

    __slots__ = (
        "answers", "ended", "future", "in_turn", "items", "missing", "origin", "queued_at", "taken",
    )  # fmt: skip

    def __init__(self, items: Sequence[BatchItem], origin: SpanContext | None) -> None:
        self.items = items
        self.origin = origin
        self.answers: list[Answer | None] = [None] * len(items)
        self.taken = 0
        self.in_turn = 0
        self.missing = len(items)
        self.ended = False
        self.queued_at = time.perf_counter()
        self.future: Future[list[Answer]] = Future()


# A call, and which of its items: from the first number up to the second.
_Part = tuple[_Call, int, int]


class ScoringQueue:
    """Calls in the order of their turns, and the threads that score them."""

    def __init__(
        self,
        scorer: ScoresBatches,
        sharing: Sharing,
        longest_wait_seconds: float = float("inf"),
        trace: TracesBatches | None = None,
    ) -> None:
        self._scorer = scorer
        self._trace = trace
        self._sharing = sharing
        self._longest_wait_seconds = longest_wait_seconds
        self._item_seconds = 0.0
        self._calls: deque[_Call] = deque()
        self._waiting = 0
        self._ended = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"scoring-{number}", daemon=True)
            for number in range(sharing.threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def wait_seconds(self) -> float:
        """How long a request that came now would wait, by how long items took of late."""
        return self._waiting * self._item_seconds / len(self._threads)

    def refuse_overload(self) -> None:
        """Raise Overloaded where a request that came now would wait too long.

        Cheap, so that refusals leave the processors to what was accepted.
        """
        if self.wait_seconds > self._longest_wait_seconds:
            raise Overloaded("Too many experiences wait to be scored.")

    def submit(self, items: Sequence[BatchItem]) -> Future[list[Answer]]:
        """Queue a request's items, at least one; a cancelled future takes back what still waits."""
        call = _Call(items, None if self._trace is None else self._trace.origin())
        with self._changed:
            if self._ended:
                raise RuntimeError("the queue is closed")
            self._calls.append(call)
            self._waiting += len(items)
            self._changed.notify(min(len(items), len(self._threads)))
        return call.future

    def close(self) -> None:
        """Answer what waits, and end the threads."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while parts := self._take():
            # Whatever fails here, a metric that cannot be written too, fails these calls alone: a
            # thread that ended would leave everybody behind them waiting.
            try:
                item_seconds = self._score_parts(parts)
            except Exception as error:
                self._fail([call for call, _, _ in parts], error)
            else:
                self._answer(parts, item_seconds)

    def _score_parts(self, parts: Sequence[_Part]) -> float:
        """Score the parts as one batch; returns the seconds that an item took."""
        now = time.perf_counter()
        for call, _, _ in parts:
            _QUEUE_SECONDS.observe(now - call.queued_at)
        batch = [item for call, start, stop in parts for item in call.items[start:stop]]
        answers = self._score(batch, parts, now)
        if len(answers) != len(batch):
            raise ValueError(f"{len(batch)} items, {len(answers)} answers")
        given = iter(answers)
        for call, start, stop in parts:
            call.answers[start:stop] = [next(given) for _ in range(start, stop)]
        return (time.perf_counter() - now) / len(batch)

    def _score(
        self, batch: Sequence[BatchItem], parts: Sequence[_Part], taken_at: float
    ) -> list[Answer]:
        if self._trace is None:
            return self._scorer.score(batch)
        origins = [call.origin for call, _, _ in parts if call.origin is not None]
        waited_seconds = taken_at - min(call.queued_at for call, _, _ in parts)
        with self._trace.batch(origins, len(batch), waited_seconds):
            return self._scorer.score(batch)

    def _answer(self, parts: Sequence[_Part], item_seconds: float) -> None:
        done = []
        with self._changed:
            weight = _RECENT if self._item_seconds else 1.0
            self._item_seconds += weight * (item_seconds - self._item_seconds)
            for call, start, stop in parts:
                call.missing -= stop - start
                if not call.missing and not call.ended:
                    call.ended = True
                    done.append(call)
        for call in done:
            if call.future.set_running_or_notify_cancel():
                call.future.set_result([answer for answer in call.answers if answer is not None])

    def _fail(self, calls: Sequence[_Call], error: Exception) -> None:
        failed = []
        with self._changed:
            for call in calls:
                if not call.ended:
                    call.ended = True
                    failed.append(call)
        for call in failed:
            if call.future.set_running_or_notify_cancel():
                call.future.set_exception(error)

    def _take(self) -> list[_Part]:
        """Wait for something to do and take this thread's share of it; empty at the end."""
        parts: list[_Part] = []
        with self._changed:
            while not parts:
                while not self._calls:
                    if self._ended:
                        return []
                    self._changed.wait()
                room = Room(self._sharing, self._waiting)
                while self._calls and room.left:
                    part = self._next_part(room)
                    if part is not None:
                        parts.append(part)
        return parts

    def _next_part(self, room: Room) -> _Part | None:
        """Some of the first call's items, or None when nobody wants them any more."""
        call = self._calls.popleft()
        start, end = call.taken, len(call.items)
        if call.ended or call.future.cancelled():
            self._waiting -= end - start
            return None
        while call.taken < end and call.in_turn < _TURN and room.left:
            room.take(call.items[call.taken])
            call.taken += 1
            call.in_turn += 1
        self._waiting -= call.taken - start
        if call.taken < end:
            if call.in_turn < _TURN:
                # Whoever was cut short by a thread's part has not had its turn yet.
                self._calls.appendleft(call)
            else:
                call.in_turn = 0
                self._calls.append(call)
        return call, start, call.taken
