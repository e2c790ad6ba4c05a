"""What an API process puts into BentoML's server: the application, and the layers around it.

Heavy to import, and the supervisor and the Trainer have no use for it: only a process that answers
requests makes it (service/bento.py).
"""

from __future__ import annotations

from starlette.types import ASGIApp

from service.api.app import create_app, path_table
from service.api.classify_route import ClassifyRoute
from service.api.edge import Edge, EdgeInstaller
from service.api.process import ApiProcess
from service.api.request_body import EdgeLimits
from service.settings import Settings


class Layers:
    """The application of one API process, and what makes each layer of its own around another."""

    def __init__(self, settings: Settings, process: ApiProcess) -> None:
        self.application = create_app()
        self._paths = path_table(self.application)
        self._limits = EdgeLimits(settings.max_body_bytes, settings.body_timeout_seconds)
        self._process = process

    def edge(self, app: ASGIApp) -> ASGIApp:
        """The outermost layer, around the whole of BentoML's application."""
        return EdgeInstaller(app, self._around)

    def request_spans(self, app: ASGIApp) -> ASGIApp:
        """Spans around the edge; asked for only where tracing is on."""
        # Not at the top: OpenTelemetry is loaded only where it is used.
        from service.api.request_spans import RequestSpansInstaller  # noqa: PLC0415

        return RequestSpansInstaller(app, self._paths, self._process)

    def classify_route(self, app: ASGIApp) -> ASGIApp:
        """Classify, answered ahead of BentoML's router."""
        return ClassifyRoute(app, self._process)

    def _around(self, application: ASGIApp) -> Edge:
        process = self._process
        return Edge(application, self._paths, self._limits, process.guard, process.refuse_overload)
