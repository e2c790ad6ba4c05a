"""Sends spans through another exporter, and says once in a while that they are lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

logger = logging.getLogger(__name__)

_SAY_AGAIN_SECONDS = 60.0


class ReportedExporter(SpanExporter):
    """Hands spans to an exporter whose own lines, several for each failed export, are silenced."""

    def __init__(self, exporter: SpanExporter, clock: Callable[[], float] = time.monotonic) -> None:
        self._exporter = exporter
        self._clock = clock
        self._lost = 0
        self._failing = False
        self._said_at: float | None = None
        # Set before the process ends: then a collector that failed once is not asked again.
        self.ending = False
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; what cannot be sent is lost and counted."""
        if self.ending and self._failing:
            self._lost += len(spans)
            return SpanExportResult.FAILURE
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._recovered()
        else:
            self._failed(len(spans))
        return result

    def shutdown(self) -> None:
        """Close the exporter, and say what was lost since it was said last."""
        if self._lost:
            logger.warning("the traces' collector did not answer: %d spans lost", self._lost)
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held here."""
        return self._exporter.force_flush(timeout_millis)

    def _failed(self, spans: int) -> None:
        self._failing = True
        self._lost += spans
        now = self._clock()
        if self._said_at is None or now - self._said_at >= _SAY_AGAIN_SECONDS:
            logger.warning("the traces' collector does not answer: %d spans lost", self._lost)
            self._said_at, self._lost = now, 0

    def _recovered(self) -> None:
        if self._failing:
            logger.info("the traces' collector answers again: %d more spans lost", self._lost)
            self._failing, self._lost, self._said_at = False, 0, None
