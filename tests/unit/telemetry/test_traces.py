"""Which traces are kept, what is said of lost ones, and how long the end of a process waits."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Sequence

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, StatusCode, TraceFlags, set_span_in_context
from opentelemetry.trace.span import NonRecordingSpan, SpanContext

from service.telemetry.span_exporter import ReportedExporter
from service.telemetry.spans import RegistrationSpans
from service.telemetry.traces import Traces
from tests.support.spans import RecordedSpans, ids


class Collector(SpanExporter):
    """Takes spans, or does not."""

    def __init__(self) -> None:
        self.down = False
        self.asked: list[int] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.append(len(spans))
        return SpanExportResult.FAILURE if self.down else SpanExportResult.SUCCESS


@pytest.fixture
def some() -> list[ReadableSpan]:
    spans = RecordedSpans()
    for _ in range(3):
        spans.tracer.start_span("any").end()
    return spans.all()


def caller(*, sampled: bool) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return SpanContext(0xA1, 0xB2, is_remote=True, trace_flags=flags)


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_caller_decides_whether_its_trace_is_kept(rate: float, *, sampled: bool) -> None:
    spans = RecordedSpans(rate)
    context = set_span_in_context(NonRecordingSpan(caller(sampled=sampled)), Context())
    spans.tracer.start_span("request", context=context).end()
    assert [ids(span.parent) for span in spans.all()] == ([(0xA1, 0xB2)] if sampled else [])


def test_a_share_of_what_begins_here_is_kept() -> None:
    kept = RecordedSpans(0.25)
    for _ in range(2000):
        kept.tracer.start_span("request").end()
    # Binomial(2000, 0.25): six standard deviations on either side.
    assert 384 < len(kept.all()) < 616


def test_a_batch_is_kept_with_any_of_its_requests() -> None:
    spans = RecordedSpans(0.0)
    links = [Link(caller(sampled=False)), Link(caller(sampled=True))]
    spans.tracer.start_span("none", links=links[:1]).end()
    spans.tracer.start_span("one", links=links).end()
    assert [span.name for span in spans.all()] == ["one"]


def test_lost_spans_are_said_once_in_a_while_and_not_for_each_export(
    some: list[ReadableSpan], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another test may have configured the log: a record is to be seen, and once.
    monkeypatch.setattr(logging.getLogger("service"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("service"), "handlers", [])
    caplog.set_level(logging.INFO, "service")
    seconds = iter(range(70))
    collector = Collector()
    exporter = ReportedExporter(collector, clock=lambda: float(next(seconds)))
    collector.down = True
    for _ in range(70):
        assert exporter.export(some) is SpanExportResult.FAILURE
    collector.down = False
    assert exporter.export(some) is SpanExportResult.SUCCESS
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "the traces' collector does not answer: 3 spans lost",
        "the traces' collector does not answer: 180 spans lost",
        "the traces' collector answers again: 27 more spans lost",
    ]


def test_at_the_end_a_collector_that_failed_is_not_asked_again(some: list[ReadableSpan]) -> None:
    collector = Collector()
    exporter = ReportedExporter(collector)
    exporter.ending = True
    exporter.export(some)
    collector.down = True
    for _ in range(5):
        exporter.export(some)
    assert collector.asked == [3, 3]


def test_a_process_ends_within_seconds_though_its_collector_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        traces = Traces(f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces", 1.0, "test")
        # Four exports' worth.
        for _ in range(2048):
            traces.tracer.start_span("any").end()
        started = time.monotonic()
        traces.stop()
    assert time.monotonic() - started < 8


def test_a_stage_is_a_child_of_its_registration_and_both_carry_its_id() -> None:
    spans, registrations = RecordedSpans(), RegistrationSpans()
    registrations.tracer = spans.tracer

    @registrations("head")
    async def head(registration: str) -> str:
        return f"head of {registration}"

    @registrations("registration")
    async def register(registration: str) -> str:
        return await head(registration)

    assert asyncio.run(register("r-1")) == "head of r-1"
    (stage,), (whole,) = spans.named("head"), spans.named("registration")
    assert ids(stage.parent) == ids(whole.context)
    assert {str(span.attributes) for span in (stage, whole)} == {
        str({"vocation.registration": "r-1"})
    }


def test_a_stage_that_fails_says_so_by_the_kind_of_its_error_alone() -> None:
    spans, registrations = RecordedSpans(), RegistrationSpans()

    @registrations("head")
    async def head(registration: str) -> None:
        raise ValueError("Cheffe de cuisine chez X")

    with pytest.raises(ValueError, match="Cheffe"):
        asyncio.run(head("r-1"))
    registrations.tracer = spans.tracer
    with pytest.raises(ValueError, match="Cheffe"):
        asyncio.run(head("r-1"))
    (span,) = spans.all()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError")
    assert span.events == ()
