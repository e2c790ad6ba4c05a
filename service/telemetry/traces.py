"""OpenTelemetry traces, sent to a collector over OTLP/HTTP; imported only where they are on.

The provider is this module's own and never the global one: FastAPI and dbos trace into a global
provider by themselves, and what they write down is theirs to choose.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Tracer,
    TraceState,
    format_span_id,
    format_trace_id,
    get_current_span,
)
from opentelemetry.util.types import Attributes

from service.telemetry.span_exporter import ReportedExporter
from service.telemetry.spans import ended_by, registration_spans

# For one export with its retries. A collector answers within milliseconds; what waits longer
# holds up the spans behind it, and the end of the process.
_EXPORT_SECONDS = 2.0
_STOP_SECONDS = 5.0


class Traces:
    """The tracer of one process, and the thread that sends what it records."""

    def __init__(self, endpoint: str, sample_rate: float, service_name: str) -> None:
        self._exporter = ReportedExporter(
            OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_SECONDS)
        )
        self._provider = provider(sample_rate, service_name)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self.tracer: Tracer = self._provider.get_tracer("vocation")
        _say_in_our_log()

    def stop(self) -> None:
        """Send what is left, and give up after seconds where the collector does not answer."""
        self._exporter.ending = True
        # In a thread: a name server that does not answer keeps no deadline of ours.
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(_STOP_SECONDS)


class BatchSpans:
    """A span for each batch, linked to the spans of the requests whose parts it took.

    A batch has many requests, so none of them is its parent: links are OpenTelemetry's way to say
    so (Trace API specification, "Links between spans").
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def origin(self) -> SpanContext | None:
        """The span of the request at hand; None where it is not sampled."""
        context = get_current_span().get_span_context()
        return context if context.trace_flags.sampled else None

    @contextmanager
    def batch(
        self, origins: Sequence[SpanContext], experiences: int, waited_seconds: float
    ) -> Iterator[None]:
        """Trace a batch while it is scored, unless nobody's request is sampled."""
        # A batch may take two parts of one request.
        links = [Link(origin) for origin in {origin.span_id: origin for origin in origins}.values()]
        if not links:
            yield
            return
        with self._tracer.start_as_current_span(
            "score batch",
            context=Context(),
            links=links,
            attributes={
                "vocation.experiences": experiences,
                "vocation.longest_wait_seconds": waited_seconds,
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                ended_by(span, error)
                raise


def trace_registrations(endpoint: str, sample_rate: float) -> Traces:
    """Trace what this process, the Trainer, does from now on."""
    traces = Traces(endpoint, sample_rate, "vocation-trainer")
    registration_spans.tracer = traces.tracer
    return traces


def provider(sample_rate: float, service_name: str) -> TracerProvider:
    """A provider that samples as the caller did, and this share of what has no caller."""
    # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say stands above our name.
    resource = Resource.create({SERVICE_NAME: service_name}).merge(OTELResourceDetector().detect())
    return TracerProvider(
        sampler=ParentBased(_LinkedOrRatio(sample_rate)), resource=resource, shutdown_on_exit=False
    )


class _LinkedOrRatio(Sampler):
    """Samples a batch with any of its requests, and a share of everything else."""

    def __init__(self, rate: float) -> None:
        self._ratio = TraceIdRatioBased(rate)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        linked = any(link.context.trace_flags.sampled for link in links or ())
        return (ALWAYS_ON if linked else self._ratio).should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        return f"LinkedOr{self._ratio.get_description()}"


class _TraceIds(logging.Filter):
    """Adds the ids of the span at hand to a log line."""

    def filter(self, record: logging.LogRecord) -> bool:
        context = get_current_span().get_span_context()
        if context.is_valid:
            record.trace_id = format_trace_id(context.trace_id)
            record.span_id = format_span_id(context.span_id)
        return True


def _say_in_our_log() -> None:
    ours = logging.getLogger("service")
    for handler in ours.handlers:
        handler.addFilter(_TraceIds())
    # A queue that is full, in our format; failed exports are reported by ReportedExporter.
    sdk = logging.getLogger("opentelemetry.sdk")
    sdk.handlers[:] = ours.handlers
    sdk.propagate = False
