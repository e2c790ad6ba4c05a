"""What spans of requests, batches and registrations have in common; the SDK is not loaded here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from opentelemetry.trace import Span, Status, StatusCode, Tracer

from service.telemetry import logs

T = TypeVar("T")

# A coroutine function of a registration's id.
_Work = Callable[[str], Coroutine[Any, Any, T]]


class RegistrationSpans:
    """Decorates the workflows and steps of a registration: a span where tracing is on.

    Their log lines carry the registration whether it is or not.
    """

    def __init__(self) -> None:
        # Set when the Trainer starts; the workflows are defined after it.
        self.tracer: Tracer | None = None

    def __call__(self, name: str) -> Callable[[_Work[T]], _Work[T]]:
        """Trace work on a registration under this name."""

        def decorate(work: _Work[T]) -> _Work[T]:
            @functools.wraps(work)
            async def traced(registration: str) -> T:
                with logs.about(registration=registration):
                    if self.tracer is None:
                        return await work(registration)
                    return await self._traced(self.tracer, name, work, registration)

            return traced

        return decorate

    @staticmethod
    async def _traced(tracer: Tracer, name: str, work: _Work[T], registration: str) -> T:
        with tracer.start_as_current_span(
            name,
            attributes={"vocation.registration": registration},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return await work(registration)
            except BaseException as error:
                ended_by(span, error)
                raise


registration_spans = RegistrationSpans()


def ended_by(span: Span, error: BaseException) -> None:
    """Mark a span as failed by the kind of an error: its message could repeat a text."""
    span.set_status(Status(StatusCode.ERROR, type(error).__name__))
