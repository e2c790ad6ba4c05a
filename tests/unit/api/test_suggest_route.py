from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from service.api.app import create_app
from service.api.aside import Aside
from service.api.context import ApiContext
from service.inference.embedding_cache import EmbeddingCache
from service.inference.model_cache import ModelCache
from service.inference.suggester import Suggester
from service.jobs.registering import Registrar
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from tests.support.make import add_served, head

DEADLINE_SECONDS = 10.0


@pytest.fixture
def app(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> FastAPI:
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    cache.refresh()
    made = create_app()
    # No route of this test registers anything.
    registrar = cast("Registrar", None)
    suggester = Suggester(database, cache, EmbeddingCache(0))
    made.state.context = ApiContext(database, registrar, cache, suggester, Aside(1))
    return made


def test_one_call_more_than_are_taken_at_once_is_429_and_the_next_is_taken(app: FastAPI) -> None:
    context: ApiContext = app.state.context
    told = threading.Event()

    async def send(client: httpx.AsyncClient) -> httpx.Response:
        body: dict[str, Any] = {"experiences": [{"text": "Caviste"}]}
        return await client.post("/v1/occupations/sommelier/suggest", json=body)

    async def crowd() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            running = asyncio.create_task(context.aside.run(lambda _: told.wait(DEADLINE_SECONDS)))
            await asyncio.sleep(0)
            refused = await send(client)
            told.set()
            assert await running
            return [refused, await send(client)]

    refused, taken = asyncio.run(crowd())
    context.aside.close()
    assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert taken.status_code == 200
