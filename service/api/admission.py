"""The ASGI layer that admits ``POST /v1/classify``: bad input never reaches the batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import classify, problems
from service.api.edge import BODY, REQUEST_ID, TRUE_PATH
from service.domain.errors import VocationError
from service.inference.model_cache import ModelCache


class ClassifyAdmission:
    """Validates a classify request and leaves its batch items for the native route."""

    def __init__(self, app: ASGIApp, cache: Callable[[], ModelCache]) -> None:
        self.app = app
        # A function: the middleware is made before the service has its cache.
        self._cache = cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit, or answer with a problem document."""
        if scope["type"] != "http" or scope["path"] != classify.ROUTE or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            parsed = classify.parse(scope[BODY])
            if classify.needs_loading(parsed):
                items = await asyncio.to_thread(classify.admit, parsed, self._cache())
            else:
                items = classify.admit(parsed, self._cache())
        except VocationError as error:
            document = problems.problem_of(error, scope[TRUE_PATH], scope[REQUEST_ID])
            await problems.send(send, document)
            return
        await self.app({**scope, classify.ADMITTED: items}, receive, send)
