"""Spans kept in memory, with the provider that the service uses."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from service.telemetry.traces import provider


class RecordedSpans:
    """A tracer, and the spans that it has ended, in that order."""

    def __init__(self, sample_rate: float = 1.0) -> None:
        self._exporter = InMemorySpanExporter()
        made = provider(sample_rate, "test")
        made.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = made.get_tracer("test")

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())


def ids(context: SpanContext | None) -> tuple[int, int]:
    """The ids of a span's context, of a link's or of a parent's."""
    assert context is not None
    return context.trace_id, context.span_id
