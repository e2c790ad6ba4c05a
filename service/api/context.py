"""What the routes need, made once by the service and handed to every request."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Header, Query, Request

from service.domain.errors import NotReady
from service.jobs.registering import IdempotencyKey, Registrar
from service.registry.database import Database

if TYPE_CHECKING:
    from service.api.aside import Aside
    from service.inference.model_cache import ModelCache
    from service.inference.suggester import Suggester


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The layers below the routes."""

    database: Database
    registrar: Registrar
    cache: ModelCache
    suggester: Suggester
    aside: Aside


def _context(request: Request) -> ApiContext:
    context = getattr(request.app.state, "context", None)
    if context is None:
        raise NotReady("The service is starting.")
    return cast("ApiContext", context)


Context = Annotated[ApiContext, Depends(_context)]


async def _idempotency(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="The same key and body return the same registration.",
        ),
    ] = None,
) -> IdempotencyKey | None:
    if idempotency_key is None:
        return None
    # Spacing and the order of keys do not make another body; that there is none is refused after.
    canonical = json.dumps(await request.json(), sort_keys=True) if await request.body() else ""
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
    return IdempotencyKey(idempotency_key, request.url.path, digest)


Idempotency = Annotated[IdempotencyKey | None, Depends(_idempotency)]
Limit = Annotated[int, Query(ge=1, le=500, description="Most items of a page.")]
Cursor = Annotated[
    str | None, Query(max_length=512, description="`next_cursor` of the page before.")
]
