"""Problem documents (RFC 9457) and the one table that maps errors to HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.types import Send

from service.domain import errors
from service.domain.errors import FieldError, VocationError
from service.telemetry import metrics

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1

STATUS: dict[type[VocationError], int] = {
    errors.InvalidJson: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.OccupationNotFound: 404,
    errors.VersionNotFound: 404,
    errors.RegistrationNotFound: 404,
    errors.ExampleNotFound: 404,
    errors.BodyTooSlow: 408,
    errors.OccupationExists: 409,
    errors.OccupationNotReady: 409,
    errors.OccupationBusy: 409,
    errors.RegistrationFinished: 409,
    errors.RegistrationCancelled: 409,
    errors.BodyTooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.InvalidFields: 422,
    errors.IdempotencyKeyReused: 422,
    errors.Overloaded: 429,
    errors.RateLimited: 429,
    errors.NotReady: 503,
    errors.StorageUnavailable: 503,
    errors.VersionUnavailable: 503,
}

# For replies that a lower layer (BentoML, Starlette) made without one of our errors.
_BY_STATUS: dict[int, tuple[str, str, str]] = {
    400: ("bad_request", "Bad request", "The request could not be read."),
    401: (errors.Unauthenticated.code, errors.Unauthenticated.title, "Send a valid key."),
    403: (errors.Forbidden.code, errors.Forbidden.title, "This needs another scope."),
    404: ("not_found", "Not found", "There is nothing at this address."),
    405: ("method_not_allowed", "Method not allowed", "This address has no such method."),
    408: (errors.BodyTooSlow.code, errors.BodyTooSlow.title, "The request took too long."),
    411: ("length_required", "Length required", "The request needs a Content-Length."),
    413: (errors.BodyTooLarge.code, errors.BodyTooLarge.title, "The body is too large."),
    415: (
        errors.UnsupportedMediaType.code,
        errors.UnsupportedMediaType.title,
        "Send application/json.",
    ),
    422: (errors.InvalidFields.code, errors.InvalidFields.title, "A field is invalid."),
    429: (
        errors.Overloaded.code,
        errors.Overloaded.title,
        "Too many requests are in progress: try again later.",
    ),
    503: (errors.NotReady.code, errors.NotReady.title, "The service is not ready."),
    504: ("deadline_exceeded", "Deadline exceeded", "The request took too long."),
}
_INTERNAL = ("internal", "Internal error", "Something failed; the request id is in the log.")


def status_of(error: VocationError) -> int:
    """The HTTP status of an error."""
    return STATUS.get(type(error), 500)


def problem(
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    instance: str | None = None,
    request_id: str | None = None,
    fields: Sequence[FieldError] = (),
) -> dict[str, Any]:
    """A problem document; ``instance`` and ``request_id`` are left out inside an item's error."""
    document: dict[str, Any] = {
        "type": f"urn:vocation:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if instance is not None:
        document["instance"] = instance
    if request_id is not None:
        document["request_id"] = request_id
    if fields:
        document["errors"] = [{"pointer": f.pointer, "detail": f.detail} for f in fields]
    return document


def problem_of(
    error: VocationError, instance: str | None = None, request_id: str | None = None
) -> dict[str, Any]:
    """The problem document of one of our errors."""
    status = status_of(error)
    return problem(
        status=status,
        code=error.code,
        title=error.title,
        # An unexpected error's words may hold what a caller sent.
        detail=error.detail if status != 500 else _INTERNAL[2],
        instance=instance,
        request_id=request_id,
        fields=error.fields,
    )


def problem_of_status(status: int, instance: str, request_id: str) -> dict[str, Any]:
    """The problem document of a bare status that a lower layer answered with."""
    fallback = _INTERNAL if status >= 500 else _BY_STATUS[400]
    code, title, detail = _BY_STATUS.get(status, fallback)
    return problem(
        status=status,
        code=code,
        title=title,
        detail=detail,
        instance=instance,
        request_id=request_id,
    )


Headers = list[tuple[bytes, bytes]]
FixedHeaders = tuple[tuple[bytes, bytes], ...]


def render(document: dict[str, Any]) -> tuple[Headers, bytes]:
    """Headers and body of a problem reply; each rendering is counted as one sent."""
    metrics.ERRORS.labels(document["code"]).inc()
    body = orjson.dumps(document)
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    if document["status"] in (429, 503):
        headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
    return headers, body


async def send(send: Send, document: dict[str, Any], extra: Headers | None = None) -> None:
    """Send a problem document as the whole reply; ``extra`` headers stand in for its own."""
    headers, body = render(document)
    given = dict(extra or [])
    own = [header for header in headers if header[0] not in given]
    start = {"type": "http.response.start", "status": document["status"]}
    await send({**start, "headers": [*own, *(extra or [])]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
