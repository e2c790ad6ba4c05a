"""How waiting requests are shared out: at once, in fair turns, each answered whole and in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, wait
from contextlib import contextmanager

import pytest

from service.domain.errors import Overloaded, VocationError
from service.domain.types import Experience
from service.inference import scoring_queue
from service.inference.batch import (
    Answer,
    BatchItem,
    RefusedExperience,
    ScoredExperience,
    ScoringRequest,
)
from service.inference.scoring_queue import ScoringQueue
from service.inference.sharing import Sharing
from service.inference.snapshot import make_target

DEADLINE_SECONDS = 20.0


class Gate:
    """A scorer that answers each item with itself or its id, when it is let through."""

    def __init__(self, *, closed: bool = False) -> None:
        self.batches: list[list[str]] = []
        self._lock = threading.Lock()
        self._open = threading.Event()
        self.entered = threading.Semaphore(0)
        if not closed:
            self._open.set()

    def score(self, batch: Sequence[BatchItem]) -> list[Answer]:
        with self._lock:
            self.batches.append([str(item.id) for item in batch])
        self.entered.release()
        assert self._open.wait(DEADLINE_SECONDS)
        if any(item.id == "bad" for item in batch):
            raise ValueError("a fault")
        return [
            item if isinstance(item, RefusedExperience) else ScoredExperience(item.id, False, ())
            for item in batch
        ]

    def open(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def wait_for(self, batches: int) -> None:
        for _ in range(batches):
            assert self.entered.acquire(timeout=DEADLINE_SECONDS)


def items(*names: str) -> list[BatchItem]:
    return [RefusedExperience(name, VocationError("no")) for name in names]


def texts(characters: int, *names: str) -> list[BatchItem]:
    target = make_target([])
    return [ScoringRequest(name, Experience(title="x" * characters), target) for name in names]


@contextmanager
def running(
    gate: Gate,
    threads: int,
    most_at_once: int = 8,
    *,
    shares: int | None = None,
    most_characters: float = float("inf"),
) -> Iterator[ScoringQueue]:
    queue = ScoringQueue(gate, Sharing(threads, most_at_once, shares, most_characters))
    try:
        yield queue
    finally:
        gate.open()
        queue.close()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 7, 256])
def test_every_request_is_answered_whole_and_in_its_order(threads: int, size: int) -> None:
    with running(Gate(), threads) as queue:
        sent = [items(*(f"{call}-{n}" for n in range(size))) for call in range(9)]
        for one, future in [(one, queue.submit(one)) for one in sent]:
            assert future.result(DEADLINE_SECONDS) == one


def test_a_lone_request_is_shared_by_all_threads() -> None:
    gate = Gate(closed=True)
    with running(gate, threads=2) as queue:
        future = queue.submit(items(*"abcdefgh"))
        gate.wait_for(2)
        assert sorted(map(len, gate.batches)) == [4, 4]
        gate.open()
        future.result(DEADLINE_SECONDS)
    assert sorted(name for batch in gate.batches for name in batch) == list("abcdefgh")


def test_small_requests_that_wait_become_one_batch() -> None:
    gate = Gate(closed=True)
    with running(gate, threads=1) as queue:
        queue.submit(items("first"))
        gate.wait_for(1)
        futures = [queue.submit(items(name)) for name in "abcdefghij"]
        gate.open()
        wait(futures, DEADLINE_SECONDS)
    assert gate.batches == [["first"], list("abcdefgh"), ["i", "j"]]


def test_with_more_shares_than_threads_something_is_left_for_the_next_turn() -> None:
    gate = Gate(closed=True)
    with running(gate, threads=1, shares=2) as queue:
        queue.submit(items("first"))
        gate.wait_for(1)
        futures = [queue.submit(items(str(number))) for number in range(14)]
        gate.open()
        wait(futures, DEADLINE_SECONDS)
    assert list(map(len, gate.batches)) == [1, 7, 4, 3]


@pytest.mark.parametrize(("characters", "parts"), [(40, [4, 4]), (300, [2, 2, 1, 1, 1, 1])])
def test_a_few_short_texts_stay_together_and_long_ones_are_shared_out(
    characters: int, parts: list[int]
) -> None:
    gate = Gate()
    # One thread takes in turn what several take side by side.
    with running(gate, threads=1, shares=4) as queue:
        queue.submit(texts(characters, *"abcdefgh")).result(DEADLINE_SECONDS)
    assert list(map(len, gate.batches)) == parts


def test_a_batch_ends_when_it_has_text_enough() -> None:
    """A title that comes with long texts does not wait for many of them."""
    gate = Gate(closed=True)
    with running(gate, threads=1, most_at_once=16, most_characters=1000) as queue:
        queue.submit(items("first"))
        gate.wait_for(1)
        long = queue.submit(texts(400, *(f"long-{n}" for n in range(6))))
        short = queue.submit(texts(20, *(f"short-{n}" for n in range(20))))
        gate.open()
        wait([long, short], DEADLINE_SECONDS)
    assert list(map(len, gate.batches)) == [1, 3, 3, 16, 4]


def test_a_text_longer_than_a_batch_may_hold_is_scored() -> None:
    with running(Gate(), threads=1, most_characters=10) as queue:
        answers = queue.submit(texts(500, "a", "b")).result(DEADLINE_SECONDS)
    assert [answer.id for answer in answers] == ["a", "b"]


@pytest.mark.parametrize("most_at_once", [5, 8, 16, 100])
def test_a_large_request_takes_turns_with_those_behind_it(most_at_once: int) -> None:
    gate = Gate(closed=True)
    with running(gate, threads=1, most_at_once=most_at_once) as queue:
        queue.submit(items("first"))
        gate.wait_for(1)
        large = queue.submit(items(*(f"large-{n}" for n in range(40))))
        small = queue.submit(items("small"))
        gate.open()
        wait([large, small], DEADLINE_SECONDS)
    order = [name for batch in gate.batches for name in batch]
    assert order.index("small") == 1 + 16


def test_what_nobody_waits_for_any_more_is_not_scored() -> None:
    gate = Gate(closed=True)
    with running(gate, threads=1) as queue:
        queue.submit(items("first"))
        gate.wait_for(1)
        given_up, kept = queue.submit(items("given up")), queue.submit(items("kept"))
        assert given_up.cancel()
        gate.open()
        assert kept.result(DEADLINE_SECONDS) == items_like(kept.result(), "kept")
        with pytest.raises(CancelledError):
            given_up.result(DEADLINE_SECONDS)
    assert gate.batches == [["first"], ["kept"]]


def items_like(answers: Sequence[Answer], *names: str) -> list[Answer]:
    assert [answer.id for answer in answers] == list(names)
    return list(answers)


def test_a_request_is_refused_while_what_waits_would_take_too_long() -> None:
    gate = Gate(closed=True)
    queue = ScoringQueue(gate, Sharing(threads=1, most_at_once=1), longest_wait_seconds=1e-9)
    try:
        queue.refuse_overload()
        first, second = queue.submit(items("first")), queue.submit(items("second"))
        gate.open()
        wait([first, second], DEADLINE_SECONDS)
        # Now it is known how long items take; nothing waits, so nothing is refused.
        queue.refuse_overload()
        gate.close()
        gate.wait_for(2)
        queue.submit(items("scored now"))
        gate.wait_for(1)
        queue.submit(items("waiting"))
        with pytest.raises(Overloaded):
            queue.refuse_overload()
    finally:
        gate.open()
        queue.close()
    queue.refuse_overload()


def test_a_fault_reaches_the_requests_of_its_batch_and_the_thread_goes_on() -> None:
    with running(Gate(), threads=1) as queue:
        with pytest.raises(ValueError, match="a fault"):
            queue.submit(items("bad")).result(DEADLINE_SECONDS)
        assert len(queue.submit(items("good")).result(DEADLINE_SECONDS)) == 1


class Unwritable:
    """A metric whose file is gone."""

    def observe(self, _: float) -> None:
        raise FileNotFoundError("histogram.db")


def test_a_metric_that_cannot_be_written_fails_its_batch_and_the_threads_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running(Gate(), threads=2) as queue:
        with monkeypatch.context() as patched:
            patched.setattr(scoring_queue, "_QUEUE_SECONDS", Unwritable())
            for name in "abcd":
                with pytest.raises(FileNotFoundError):
                    queue.submit(items(name)).result(DEADLINE_SECONDS)
        assert len(queue.submit(items("written again")).result(DEADLINE_SECONDS)) == 1


class Forgetful(Gate):
    """A scorer with a defect: it forgets one answer."""

    def score(self, batch: Sequence[BatchItem]) -> list[Answer]:
        return super().score(batch)[1:]


def test_a_batch_with_too_few_answers_fails_and_the_thread_goes_on() -> None:
    with running(Forgetful(), threads=1) as queue:
        for name in "ab":
            with pytest.raises(ValueError, match="1 items, 0 answers"):
                queue.submit(items(name)).result(DEADLINE_SECONDS)


def test_a_fault_in_one_part_of_a_request_fails_it_once() -> None:
    with running(Gate(), threads=3, most_at_once=1) as queue:
        with pytest.raises(ValueError, match="a fault"):
            queue.submit(items("bad", "a", "bad", "b", "bad")).result(DEADLINE_SECONDS)
        assert len(queue.submit(items("good")).result(DEADLINE_SECONDS)) == 1


def test_closing_answers_what_waits_and_refuses_what_comes() -> None:
    gate = Gate(closed=True)
    queue = ScoringQueue(gate, Sharing(threads=1, most_at_once=1))
    futures = [queue.submit(items(name)) for name in "abc"]
    gate.open()
    queue.close()
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError):
        queue.submit(items("late"))
