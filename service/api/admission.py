"""The ASGI layer that admits ``POST /v1/classify``: bad input never reaches the batch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import classify, problems
from service.api.edge import BODY, REQUEST_ID, TRUE_PATH
from service.api.process import ApiProcess
from service.domain.errors import OccupationNotFound, OccupationNotReady, VocationError
from service.inference.batch import BatchItem, RefusedExperience

if TYPE_CHECKING:
    from service.inference.model_cache import ModelCache


class ClassifyAdmission:
    """Validates a classify request and leaves its batch items for the native route."""

    def __init__(self, app: ASGIApp, process: ApiProcess) -> None:
        self.app = app
        self._process = process

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit, or answer with a problem document."""
        if scope["type"] != "http" or scope["path"] != classify.ROUTE or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            parsed = classify.parse(scope[BODY])
            items = await _admit(parsed, self._process.cache)
        except VocationError as error:
            document = problems.problem_of(error, scope[TRUE_PATH], scope[REQUEST_ID])
            await problems.send(send, document)
            return
        await self.app({**scope, classify.ADMITTED: items}, receive, send)


async def _admit(parsed: classify.ClassifyRequest, cache: ModelCache) -> list[BatchItem]:
    before = cache.snapshot()
    if classify.needs_loading(parsed):
        items = await asyncio.to_thread(classify.admit, parsed, cache)
    else:
        items = classify.admit(parsed, cache)
    # An occupation that this process has not heard of may be seconds old: look before denying it.
    if any(map(_may_be_new, items)):
        await asyncio.to_thread(cache.refresh)
        # Whoever swapped it: the process's own follower may have been a moment ahead.
        if cache.snapshot() is not before:
            items = await asyncio.to_thread(classify.admit, parsed, cache)
    return items


def _may_be_new(item: BatchItem) -> bool:
    return isinstance(item, RefusedExperience) and isinstance(
        item.error, OccupationNotFound | OccupationNotReady
    )
