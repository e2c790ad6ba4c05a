"""What ties a batch to the requests that it scores, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, StatusCode

from service.inference.batch import Answer
from service.inference.scoring_queue import ScoringQueue
from service.inference.sharing import Sharing
from service.telemetry.traces import BatchSpans
from tests.support.spans import RecordedSpans, ids
from tests.unit.inference.test_scoring_queue import DEADLINE_SECONDS, Gate, items


class Traced:
    """A queue with one thread behind a gate, and requests that have a span each."""

    def __init__(self, spans: RecordedSpans, gate: Gate, most_at_once: int) -> None:
        self._spans = spans
        self._gate = gate
        self.queue = ScoringQueue(gate, Sharing(1, most_at_once), trace=BatchSpans(spans.tracer))

    def submit(self, *names: str) -> tuple[SpanContext, Future[list[Answer]]]:
        with self._spans.tracer.start_as_current_span("request") as span:
            return span.get_span_context(), self.queue.submit(items(*names))

    def batches(self) -> list[ReadableSpan]:
        """The batches' spans, all of them: the queue is closed first."""
        self._gate.open()
        self.queue.close()
        return self._spans.named("score batch")


@contextmanager
def traced(
    gate: Gate, sample_rate: float = 1.0, most_at_once: int = 8
) -> Iterator[tuple[Traced, RecordedSpans]]:
    spans = RecordedSpans(sample_rate)
    made = Traced(spans, gate, most_at_once)
    try:
        yield made, spans
    finally:
        made.batches()


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    return [ids(link.context) for link in span.links]


def test_two_requests_in_one_batch_are_one_span_with_a_link_to_each() -> None:
    gate = Gate(closed=True)
    with traced(gate) as (requests, _):
        blocking, _ = requests.submit("blocking")
        gate.wait_for(1)
        (first, _), (second, _) = requests.submit("a"), requests.submit("b", "c")
        alone, both = requests.batches()
    assert linked(alone) == [ids(blocking)]
    assert linked(both) == [ids(first), ids(second)]
    assert both.attributes is not None
    assert both.attributes["vocation.experiences"] == 3
    waited = both.attributes["vocation.longest_wait_seconds"]
    assert isinstance(waited, float)
    assert 0 < waited < DEADLINE_SECONDS


def test_a_batch_is_a_trace_of_its_own_and_no_child_of_a_request() -> None:
    with traced(Gate()) as (requests, _):
        request, _ = requests.submit("a")
        (batch,) = requests.batches()
    assert batch.parent is None
    assert ids(batch.context)[0] != request.trace_id


def test_two_parts_of_one_request_in_a_batch_are_one_link() -> None:
    gate = Gate()
    with traced(gate, most_at_once=100) as (requests, _):
        request, future = requests.submit(*(str(number) for number in range(40)))
        future.result(DEADLINE_SECONDS)
        (batch,) = requests.batches()
    assert [len(batch) for batch in gate.batches] == [40]
    assert linked(batch) == [ids(request)]


def test_a_request_that_is_given_up_before_its_turn_is_in_no_batch() -> None:
    gate = Gate(closed=True)
    with traced(gate) as (requests, _):
        requests.submit("blocking")
        gate.wait_for(1)
        (given_up, future), (kept, _) = requests.submit("given up"), requests.submit("kept")
        assert future.cancel()
        batches = requests.batches()
    links = [link for batch in batches for link in linked(batch)]
    assert ids(kept) in links
    assert ids(given_up) not in links


def test_a_batch_of_requests_that_are_not_sampled_is_not_traced() -> None:
    with traced(Gate(), sample_rate=0.0) as (requests, spans):
        _, future = requests.submit("a")
        assert len(future.result(DEADLINE_SECONDS)) == 1
        assert requests.batches() == []
    assert spans.all() == []


def test_a_batch_that_fails_says_so_by_the_kind_of_its_error_alone() -> None:
    with traced(Gate()) as (requests, _):
        _, future = requests.submit("bad")
        with pytest.raises(ValueError, match="a fault"):
            future.result(DEADLINE_SECONDS)
        (batch,) = requests.batches()
    assert (batch.status.status_code, batch.status.description) == (StatusCode.ERROR, "ValueError")
    assert batch.events == ()


def test_a_queue_without_a_tracer_records_nothing() -> None:
    spans = RecordedSpans()
    queue = ScoringQueue(Gate(), Sharing(threads=1, most_at_once=8))
    with spans.tracer.start_as_current_span("request"):
        wait([queue.submit(items("a"))], DEADLINE_SECONDS)
    queue.close()
    assert [span.name for span in spans.all()] == ["request"]
