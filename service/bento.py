"""The BentoML services and nothing else: the API, and the Trainer that it starts beside it."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import bentoml

from service.telemetry.metrics_directory import keep_in_memory

# Before prometheus-client is imported. A worker's parent is BentoML's supervisor, which has given it
# a folder on a disk.
keep_in_memory(os.environ, supervisor=os.getppid())

from service.api.app import create_app, path_table
from service.api.classify_route import ClassifyRoute
from service.api.edge import EdgeInstaller, EdgeLimits
from service.api.process import ApiProcess
from service.settings import Settings
from service.successor import serve_in_a_child
from service.telemetry import logs

if TYPE_CHECKING:
    from service.telemetry.traces import Traces

settings = Settings()
if settings.device == "cuda":
    # Where BentoML itself loads this module: a device that is not there ends the start with a
    # clear error in place of workers that die and are started again.
    from service.inference.device import precision_for

    precision_for(settings.device)
# BentoML traces every request, into nothing unless it is configured: .1 ms of each request.
configured = any(name.startswith(("OTEL_", "BENTOML_CONFIG")) for name in os.environ)
bentomls_tracing: dict[str, Any] = {}
if settings.traces_endpoint is not None:
    # One server span for a request, and that is ours: service/api/request_spans.py.
    bentomls_tracing = {"tracing": {"excluded_urls": ".*"}}
elif not configured:
    os.environ["OTEL_SDK_DISABLED"] = "true"
app = create_app()
process = ApiProcess(settings)


@bentoml.service(name="trainer", workers=1)
class Trainer:
    """Runs registrations in a process of its own, supervised by BentoML; it serves no route."""

    def __init__(self) -> None:
        # Before its imports: at a start they compete with the API's for the same CPUs.
        os.nice(settings.trainer_nice)
        # Imported here: the API process loads this module too and must not load the worker.
        from service.jobs.trainer import TrainerProcess

        self.process = TrainerProcess(settings)
        self.traces: Traces | None = None
        if settings.traces_endpoint is not None:
            from service.telemetry.traces import trace_registrations

            self.traces = trace_registrations(settings.traces_endpoint, settings.traces_sample_rate)
        self.process.start()

    @bentoml.on_shutdown
    def stop(self) -> None:
        """Stop; what runs is resumed by the next start."""
        self.process.stop()
        if self.traces is not None:
            self.traces.stop()


@bentoml.service(
    name="vocation",
    workers=settings.api_workers,
    traffic={
        "timeout": settings.request_timeout_seconds,
        "max_concurrency": settings.max_concurrency * settings.api_workers,
    },
    # Readiness must not depend on the Trainer: a killed trainer leaves classify as it is.
    runner_probe={"enabled": False},
    endpoints={"livez": "/livez", "readyz": "/readyz"},
    logging={"access": {"enabled": False}},
    **bentomls_tracing,
)
@bentoml.asgi_app(app, path="/")
class Api:
    """Answers over HTTP."""

    # Never called: declared so that `bentoml serve` starts and supervises the Trainer.
    trainer = bentoml.depends(Trainer)

    @bentoml.on_startup
    async def start(self) -> None:
        """Open the registry and follow it from now on."""
        app.state.context = await asyncio.to_thread(process.start)

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Close what the process holds."""
        await asyncio.to_thread(process.stop)

    async def __is_ready__(self) -> bool:
        return process.ready


_api: Any = Api
_api.add_asgi_middleware(
    EdgeInstaller,
    paths=path_table(app),
    limits=EdgeLimits(settings.max_body_bytes, settings.body_timeout_seconds),
    guard=process.guard,
)
if settings.traces_endpoint is not None:
    from service.api.request_spans import RequestSpansInstaller

    _api.add_asgi_middleware(RequestSpansInstaller, paths=path_table(app), process=process)
_api.add_asgi_middleware(ClassifyRoute, process=process)

if "--service-name" in sys.argv:
    # A worker that BentoML starts. Last, so that a successor has nothing to import.
    logs.configure(settings.log_format, settings.log_level)
    serve_in_a_child()
