"""The mounted FastAPI application: every route but ``classify``."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import bentoml
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from service.api import problems
from service.api.edge import BODY, REQUEST_ID, TRUE_PATH
from service.api.fields import field_errors
from service.api.openapi import openapi_document
from service.api.paths import PathTable
from service.api.routes import occupations, registrations, suggest, versions
from service.domain.errors import InvalidFields, InvalidJson, VocationError

# BentoML ships Swagger UI for its own page: /docs needs no network and no second copy.
_SWAGGER_UI = Path(bentoml.__file__).parent / "_internal" / "server" / "static_content"

BUILT_IN_PATHS = ("/livez", "/healthz", "/readyz", "/metrics", "/")


def create_app() -> FastAPI:
    """The application; ``app.state.context`` is set when the service has started."""
    app = FastAPI(
        title="Vocation",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # As classify does: a body without a Content-Type is taken for JSON.
        strict_content_type=False,
    )
    for router in (occupations.router, suggest.router, versions.router, registrations.router):
        app.include_router(router)
    app.add_exception_handler(VocationError, _our_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)

    @functools.cache
    def document() -> bytes:
        # Open to everybody, and tens of milliseconds of work: done once.
        return json.dumps(openapi_document(app), ensure_ascii=False).encode()

    @app.get("/openapi.json", include_in_schema=False)
    def openapi() -> Response:
        """The one document of every route."""
        return Response(document(), media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        """Swagger UI over the document."""
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Vocation",
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon-light-32x32.png",
        )

    @app.get("/", include_in_schema=False)
    def index() -> RedirectResponse:
        """Lead to the documentation; BentoML's own page loads scripts from elsewhere."""
        return RedirectResponse("/docs")

    app.mount("/docs/assets", StaticFiles(directory=_SWAGGER_UI), name="docs-assets")
    return app


def path_table(app: FastAPI) -> PathTable:
    """Every path, classify, mounted and built in, with its methods."""
    documented = openapi_document(app)["paths"]
    table = {path: [method.upper() for method in item] for path, item in documented.items()}
    for path in (*BUILT_IN_PATHS, "/openapi.json", "/docs", "/docs/assets/{file}"):
        table.setdefault(path, ["GET"])
    return PathTable(table)


def _reply(request: Request, error: VocationError) -> Response:
    document = problems.problem_of(
        error, request.scope.get(TRUE_PATH), request.scope.get(REQUEST_ID)
    )
    headers, body = problems.render(document)
    return Response(
        body,
        status_code=document["status"],
        headers={name.decode(): value.decode() for name, value in headers},
    )


async def _our_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, VocationError):
        raise error
    return _reply(request, error)


async def _validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    details: list[dict[str, Any]] = list(error.errors())
    no_body = request.scope.get(BODY) == b"" and any(d["loc"] == ("body",) for d in details)
    if no_body or any(detail["type"] == "json_invalid" for detail in details):
        return _reply(request, InvalidJson("The body is not valid JSON in UTF-8."))
    for detail in details:
        # A pointer is into the body; a query, path or header field keeps the name of its place.
        detail["loc"] = detail["loc"][1:] if detail["loc"][0] == "body" else detail["loc"]
    fields = field_errors(details)
    return _reply(request, InvalidFields("Some fields are invalid: see errors.", fields))


async def _http_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 400:
        # FastAPI's word for a body that it could not even decode.
        return _reply(request, InvalidJson("The body is not valid JSON in UTF-8."))
    status = error.status_code if isinstance(error, HTTPException) else 500
    # The edge turns the bare status into a problem document.
    return Response(status_code=status)
