"""One API process: opened at its start, closed at its end, and the batches in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from service.api.access import Guard
from service.domain.errors import NotReady
from service.inference.batch import Answer, BatchItem
from service.settings import Settings
from service.telemetry import logs

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from service.api.context import ApiContext
    from service.api.running import RunningProcess
    from service.inference.model_cache import ModelCache
    from service.telemetry.traces import BatchSpans, Traces


class ApiProcess:
    """Everything that one API process holds; nothing is opened before :meth:`start`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.guard = Guard(settings.api_workers, settings.metrics_open)
        self._running: RunningProcess | None = None
        self._traces: Traces | None = None

    def start(self) -> ApiContext:
        """Open the registry, load what it holds and follow it; returns what the routes need."""
        logs.configure(self._settings.log_format, self._settings.log_level)
        # Not at the top: BentoML's supervisor loads the service too, and never starts it.
        from service.api.running import RunningProcess

        self._running = RunningProcess(self._settings, self.guard, self._start_traces())
        return self._running.context

    @property
    def tracer(self) -> Tracer | None:
        """What requests are traced with; None before the start and where tracing is off."""
        return None if self._traces is None else self._traces.tracer

    @property
    def cache(self) -> ModelCache:
        """The model cache; raises NotReady before the start."""
        return self._started().cache

    @property
    def ready(self) -> bool:
        """Whether the base encoder and the champions are loaded."""
        return self._running is not None and self._running.cache.ready

    def refuse_overload(self) -> None:
        """Raise Overloaded where a request that came now would wait too long."""
        if self._running is not None:
            self._running.scoring.refuse_overload()

    async def score(self, items: Sequence[BatchItem]) -> list[Answer]:
        """Score a request's items off the event loop."""
        return await asyncio.wrap_future(self._started().scoring.submit(items))

    def stop(self) -> None:
        """Stop following, flush the metrics and close the connections."""
        if self._running is not None:
            self._running.stop()
        if self._traces is not None:
            self._traces.stop()

    def _start_traces(self) -> BatchSpans | None:
        if self._settings.traces_endpoint is None:
            return None
        # Not at the top: the SDK and its exporter are loaded only where they are used.
        from service.telemetry.traces import BatchSpans, Traces

        self._traces = Traces(
            self._settings.traces_endpoint, self._settings.traces_sample_rate, "vocation"
        )
        return BatchSpans(self._traces.tracer)

    def _started(self) -> RunningProcess:
        if self._running is None:
            raise NotReady("The service is starting.")
        return self._running
