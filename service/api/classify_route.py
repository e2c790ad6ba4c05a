"""``POST /v1/classify``, answered ahead of BentoML's router by the process's scoring queue.

BentoML's limits, deadline and metrics stand around it as around every route. Why it is not one of
BentoML's own API methods: docs/adr/0009.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import classify, problems
from service.api.edge import BODY, REQUEST_ID, TRUE_PATH
from service.api.process import ApiProcess
from service.domain.errors import OccupationNotFound, OccupationNotReady, VocationError
from service.inference.batch import BatchItem, RefusedExperience
from service.telemetry import logs

if TYPE_CHECKING:
    from service.inference.model_cache import ModelCache


class ClassifyRoute:
    """Validates a classify request, waits for its answers and sends them."""

    def __init__(self, app: ASGIApp, process: ApiProcess) -> None:
        self.app = app
        self._process = process

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer classify; everything else goes on to the router."""
        if REQUEST_ID in scope:
            logs.tell(request_id=scope[REQUEST_ID])
        if scope["type"] != "http" or scope["path"] != classify.ROUTE or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            # Again: a body may have taken its time since the edge looked.
            self._process.refuse_overload()
            parsed = classify.parse(scope[BODY])
            items = await _admit(parsed, self._process.cache)
            answers = await self._process.score(items)
        except VocationError as error:
            document = problems.problem_of(error, scope[TRUE_PATH], scope[REQUEST_ID])
            await problems.send(send, document)
            return
        body = classify.render(answers)
        await send({"type": "http.response.start", "status": 200, "headers": _headers(len(body))})
        await send({"type": "http.response.body", "body": body})


def _headers(length: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]


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
