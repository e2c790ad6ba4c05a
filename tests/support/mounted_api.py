"""The HTTP layers as the service mounts them, in this process: all but BentoML's own server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from dbos import run_dbos_database_migrations
from safetensors.numpy import save
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from service.api.app import create_app, path_table
from service.api.classify_route import ClassifyRoute
from service.api.edge import Edge, EdgeInstaller
from service.api.openapi import openapi_document
from service.api.process import ApiProcess
from service.api.request_body import EdgeLimits
from service.inference.encoder import CpuEncoder, SideBySide
from service.inference.encoder_cache import BACKGROUND_TENSORS
from service.inference.model_cache import INITIALISED, ModelCache
from service.jobs.registering import JOBS_READY
from service.jobs.stages import Stages
from service.registry import encoders, generation, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database, utc_now
from service.registry.encoders import EncoderRecord
from service.settings import Settings
from tests.support.asgi_client import AsgiClient
from tests.support.openapi import Document

MAX_BODY_BYTES = 200_000


@dataclass(frozen=True, slots=True)
class MountedApi:
    """A client, the document that judges every reply it gets, and the layers below."""

    client: AsgiClient
    document: Document
    database: Database
    artifacts: ArtifactStore
    cache: ModelCache
    stages: Stages

    def register(self, id: str, examples: Sequence[dict[str, Any]] | None = None) -> dict[str, Any]:
        """Register an occupation; the registration stays queued."""
        body = {"id": id, "examples": examples or in_examples()}
        reply = self.client.post("/v1/occupations", json=body)
        assert reply.status_code == 202, reply.text
        registration: dict[str, Any] = reply.json()
        return registration

    def run(self, registration: str) -> None:
        """Do what the Trainer does with a queued registration."""
        self.stages.head(registration)
        self.stages.succeed(registration)
        # Who reads that it has succeeded finds the version served.
        assert self.client.get(f"/v1/registrations/{registration}").json()["state"] == "succeeded"

    def add_trained(self, id: str, versions: int = 1) -> None:
        """Register an occupation and train it, as often as told."""
        self.run(self.register(id)["id"])
        for number in range(1, versions):
            more = {"examples": [{"text": f"{id}, exemple {number}", "label": "in"}]}
            reply = self.client.post(f"/v1/occupations/{id}/examples", json=more)
            self.run(reply.json()["id"])

    def damage(self, id: str, number: int) -> None:
        """Cut off the head of a version, as a failing disk does."""
        with self.database.read() as connection:
            digest = versions.get_version(connection, id, number).artifact_digest
        for file in self.artifacts.open_local(digest).iterdir():
            file.write_bytes(file.read_bytes()[:-1])

    def classify(self, *experiences: dict[str, Any]) -> httpx.Response:
        return self.client.post("/v1/classify", json={"experiences": list(experiences)})


def in_examples(count: int = 4) -> list[dict[str, Any]]:
    return [
        {"title": f"Sommelier {n}", "company": "La Treille", "label": "in"} for n in range(count)
    ]


@contextmanager
def mounted_api(
    home: Path, encoder_folder: Path, *, jobs_ready: bool = True, **settings_of_the_test: Any
) -> Iterator[MountedApi]:
    """Serve a fresh home whose base encoder is the tiny one; nobody works on registrations."""
    settings = Settings(home=home, threads=2, **settings_of_the_test)
    database = Database(settings.resolved_database_url)
    database.create_schema()
    run_dbos_database_migrations(settings.resolved_database_url)
    artifacts = ArtifactStore(settings.resolved_artifact_url, home / "cache")
    side_by_side = SideBySide(2)
    _prepare(database, artifacts, encoder_folder, side_by_side, jobs_ready=jobs_ready)
    process = ApiProcess(settings)
    app = create_app()
    try:
        app.state.context = process.start()
        process.cache.refresh()
        document = Document(openapi_document(app))
        trainer = ModelCache(
            database, artifacts, side_by_side, version_entries=1, encoder_bytes=1 << 30
        )
        with AsgiClient(_mount(app, process), _judge_with(document)) as client:
            stages = Stages(database, artifacts, trainer)
            yield MountedApi(client, document, database, artifacts, process.cache, stages)
    finally:
        process.stop()
        side_by_side.close()
        database.close()


def _prepare(
    database: Database,
    artifacts: ArtifactStore,
    encoder_folder: Path,
    side_by_side: SideBySide,
    *,
    jobs_ready: bool,
) -> None:
    encoder = CpuEncoder(encoder_folder, "tiny", side_by_side)
    texts = [f"métier numéro {number}, secteur {number % 7}" for number in range(80)]
    background = np.ascontiguousarray(encoder.encode(texts).embeddings)
    record = EncoderRecord(
        "fingerprint",
        artifacts.put({path.name: path for path in encoder_folder.iterdir()}),
        artifacts.put({BACKGROUND_TENSORS: save({"embeddings": background})}),
    )
    with database.write() as connection:
        encoders.record_encoder(connection, record)
        encoders.set_base_encoder(connection, record.fingerprint)
        generation.put(connection, INITIALISED, utc_now())
        if jobs_ready:
            generation.put(connection, JOBS_READY, utc_now())


def _mount(app: Any, process: ApiProcess) -> Starlette:
    edge = partial(
        Edge,
        paths=path_table(app),
        limits=EdgeLimits(MAX_BODY_BYTES, body_timeout_seconds=20.0),
        guard=process.guard,
        refuse_overload=process.refuse_overload,
    )
    return Starlette(
        routes=[Mount("/", app)],
        middleware=[
            Middleware(EdgeInstaller, edge=edge),
            Middleware(ClassifyRoute, process=process),
        ],
    )


def _judge_with(document: Document) -> Callable[[httpx.Response], Awaitable[None]]:
    async def judge(response: httpx.Response) -> None:
        await response.aread()
        assert response.headers["x-request-id"]
        if response.status_code >= 400:
            assert response.headers["content-type"] == "application/problem+json"
            problem = response.json()
            assert problem["instance"] == response.request.url.path
            assert problem["status"] == response.status_code
            assert problem["request_id"] == response.headers["x-request-id"]
        document.judge(response)

    return judge
