"""``/v1/registrations``: follow and cancel registrations."""

from __future__ import annotations

from fastapi import APIRouter, Response

from service.api.context import Context, Cursor, Limit
from service.api.replies import registration_reply
from service.api.schemas import RegistrationOut, RegistrationsOut
from service.domain.types import RegistrationState
from service.registry import registrations

router = APIRouter(prefix="/v1/registrations", tags=["registrations"])


@router.get("", summary="List registrations")
def list_all(
    context: Context,
    state: RegistrationState | None = None,
    occupation: str | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> RegistrationsOut:
    """Registrations, the newest first."""
    with context.database.read() as connection:
        page = registrations.list_registrations(connection, limit, cursor, state, occupation)
    items = [registration_reply(item) for item in page.items]
    return RegistrationsOut(items=items, next_cursor=page.next_cursor)


@router.get("/{id}", summary="Follow a registration")
def read(id: str, context: Context, response: Response) -> RegistrationOut:
    """State, stage and progress; `Retry-After` while it runs."""
    with context.database.read() as connection:
        registration = registrations.get_registration(connection, id)
    if registration.state.finished:
        # Who reads here that a version is published finds it served.
        context.cache.refresh()
    else:
        response.headers["Retry-After"] = "1"
    return registration_reply(registration)


@router.delete("/{id}", summary="Cancel a registration")
def cancel(id: str, context: Context) -> RegistrationOut:
    """Cancel a registration that is queued or running; what it has published stays."""
    return registration_reply(context.registrar.cancel(id))
