"""The BentoML services and nothing else: the API, and the Trainer that it starts beside it."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import sys
from typing import TYPE_CHECKING, Any

# Imports leave next to no garbage, and looking for it takes a tenth of their time.
gc.disable()

import bentoml

from service.telemetry.metrics_directory import keep_in_memory

# Before prometheus-client is imported. A worker's parent is BentoML's supervisor, which has given it
# a folder on a disk.
keep_in_memory(os.environ, supervisor=os.getppid())

from service.api.process import ApiProcess
from service.settings import Settings
from service.successor import serve_in_a_child
from service.telemetry import logs

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from service.api.layers import Layers
    from service.telemetry.traces import Traces

settings = Settings()
is_worker = "--service-name" in sys.argv
if settings.device == "cuda" and not is_worker:
    # Where BentoML itself loads this module: a device that is not there ends the start with a
    # clear error in place of workers that die and are started again. Not in a worker, which forks:
    # CUDA does not support that (PyTorch's notes on multiprocessing). BentoML starts workers as
    # new programs, and the fork of each asks again before it loads an encoder.
    from service.inference.device import precision_for

    precision_for(settings.device)
# BentoML traces every request, into nothing unless it is configured: .1 ms of each request. Its
# middleware collects attributes even for no tracer, unless the path is excluded.
configured = any(name.startswith(("OTEL_", "BENTOML_CONFIG")) for name in os.environ)
bentomls_tracing: dict[str, Any] = {}
if settings.traces_endpoint is not None or not configured:
    # Where requests are traced, one server span is ours: service/api/request_spans.py.
    bentomls_tracing = {"tracing": {"excluded_urls": ".*"}}
if settings.traces_endpoint is None and not configured:
    os.environ["OTEL_SDK_DISABLED"] = "true"
process = ApiProcess(settings)


@functools.cache
def layers() -> Layers:
    """What answers requests, made once and only where they are answered.

    The supervisor and the Trainer load this module too, and a start waits for the supervisor.
    """
    from service.api.layers import Layers

    return Layers(settings, process)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Every route but classify."""
    await layers().application(scope, receive, send)


# BentoML calls these where it builds the server, in the process that answers.
def edge(app: ASGIApp) -> ASGIApp:
    """The outermost layer."""
    return layers().edge(app)


def request_spans(app: ASGIApp) -> ASGIApp:
    """Spans around the edge."""
    return layers().request_spans(app)


def classify_route(app: ASGIApp) -> ASGIApp:
    """Classify."""
    return layers().classify_route(app)


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
@bentoml.asgi_app(application, path="/")
class Api:
    """Answers over HTTP."""

    # Never called: declared so that `bentoml serve` starts and supervises the Trainer.
    trainer = bentoml.depends(Trainer)

    @bentoml.on_startup
    async def start(self) -> None:
        """Open the registry and follow it from now on."""
        layers().application.state.context = await asyncio.to_thread(process.start)

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Close what the process holds."""
        await asyncio.to_thread(process.stop)

    async def __is_ready__(self) -> bool:
        return process.ready


_api: Any = Api
_api.add_asgi_middleware(edge)
if settings.traces_endpoint is not None:
    _api.add_asgi_middleware(request_spans)
_api.add_asgi_middleware(classify_route)

if is_worker:
    logs.configure(settings.log_format, settings.log_level)
    if _api.name in sys.argv:
        from service.api.http_protocol import read_requests_so

        read_requests_so()
        layers()
# What was imported lives for ever: no collection, in a forked child neither, walks it again.
gc.freeze()
gc.enable()
if is_worker:
    # Last, so that a successor has nothing to import.
    serve_in_a_child()
