"""One OpenAPI document for classify and the mounted routes alike, with examples."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from service import __version__
from service.api import classify, problems
from service.api.access import ACCESS, ANY_KEY, METRICS
from service.api.schemas import Problem
from service.domain.keys import KeyScope
from service.inference.suggestions import WHY, Reason

_DESCRIPTION = (
    "Few-shot occupation classifiers: describe an occupation with a few examples, and every work "
    "experience, in French or English, is scored for it. Every error is a problem document "
    "(RFC 9457) with a stable `code`."
)
_SCHEME = "key"
_REF = "#/components/schemas/{model}"


class NearestOut(BaseModel):
    """An example near the scored text."""

    text: str
    label: str
    similarity: float = Field(description="Cosine similarity.")


class ScoreOut(BaseModel):
    """One occupation's answer."""

    occupation: str
    version: int
    score: float = Field(ge=0, le=1, description="Calibrated probability.")
    label: str = Field(
        description="`in`, `out`, or `uncertain`: too close to call, or unlike anything known.",
        json_schema_extra={"enum": ["in", "out", "uncertain"]},
    )
    threshold: float
    nearest: list[NearestOut] = Field(default=[], description="With `explain` only.")


class ScoredOut(BaseModel):
    """The answer for one experience: `scores`, or `error` when its occupation is unknown."""

    id: str | None
    truncated: bool = Field(default=False, description="The encoder did not read all of it.")
    scores: list[ScoreOut] = []
    error: Problem | None = None


CLASSIFY_EXAMPLE: dict[str, Any] = {
    "experiences": [
        {
            "id": "p42-1",
            "title": "Ingénieur machine learning",
            "company": "Ferrovia",
            "description": "Détection d'anomalies sur les capteurs des rames, en Python.",
            "occupations": ["ai-engineering"],
            "explain": True,
        },
        {"text": "Serveur, Brasserie des Arts"},
    ]
}
REGISTER_EXAMPLE: dict[str, Any] = {
    "id": "sommelier",
    "name": "Sommelier",
    "description": "Advises guests on wine in a restaurant, and keeps the cellar.",
    "prevalence": 0.01,
    "examples": [
        {"title": "Sommelier", "company": "Restaurant La Treille", "label": "in"},
        {"title": "Chef sommelière", "description": "Carte de 400 références.", "label": "in"},
        {"title": "Commis sommelier", "label": "in"},
        {"text": "Head sommelier, fine dining, London", "label": "in"},
    ],
}

SUGGEST_EXAMPLE: dict[str, Any] = {
    "experiences": [
        {"id": "p7-2", "title": "Maître d'hôtel", "company": "Restaurant La Treille"},
        {"id": "p9-1", "title": "Conseiller en vins", "description": "Cave et dégustations."},
        {"text": "Développeur web, agence Lumen"},
    ],
    "limit": 2,
}
SUGGESTED_EXAMPLE: dict[str, Any] = {
    "occupation": "sommelier",
    "version": 1,
    "threshold": 0.178979,
    "items": [
        {
            "index": 1,
            "id": "p9-1",
            "score": 0.412606,
            "label": "in",
            "reason": Reason.LIKELY_IN.value,
            "why": WHY[Reason.LIKELY_IN],
        },
        {
            "index": 0,
            "id": "p7-2",
            "score": 0.006233,
            "label": "out",
            "reason": Reason.LIKELY_OUT.value,
            "why": WHY[Reason.LIKELY_OUT],
        },
    ],
    "skipped": 0,
    "repeated": 0,
}


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The document of the mounted routes with classify and the built-in ones added."""
    document = get_openapi(
        title="Vocation",
        version=__version__,
        description=_DESCRIPTION,
        routes=app.routes,
        openapi_version="3.1.0",
    )
    _add_classify(document)
    _add_operations(document)
    _use_problems(document)
    _add_access(document)
    register = document["paths"]["/v1/occupations"]["post"]
    register["requestBody"]["content"]["application/json"]["example"] = REGISTER_EXAMPLE
    suggest = document["paths"]["/v1/occupations/{id}/suggest"]["post"]
    suggest["requestBody"]["content"]["application/json"]["example"] = SUGGEST_EXAMPLE
    suggest["responses"]["200"]["content"]["application/json"]["example"] = SUGGESTED_EXAMPLE
    document["paths"] = dict(sorted(document["paths"].items()))
    return document


def _add_classify(document: dict[str, Any]) -> None:
    _, definitions = models_json_schema(
        [
            (classify.ClassifyRequest, "validation"),
            (ScoredOut, "serialization"),
            (Problem, "serialization"),
        ],
        ref_template=_REF,
    )
    document["components"]["schemas"].update(definitions["$defs"])
    document["paths"][classify.ROUTE] = {
        "post": {
            "tags": ["scoring"],
            "summary": "Score experiences",
            "description": "Scores 1 to 256 experiences, each for the occupations it names or for "
            "all. The same text and version always get the same score.",
            "operationId": "classify",
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"$ref": _REF.format(model="ClassifyRequest")},
                        "example": CLASSIFY_EXAMPLE,
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "One answer for each experience, in the order of the request.",
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "array",
                                "items": {"$ref": _REF.format(model="ScoredOut")},
                            }
                        }
                    },
                }
            },
        }
    }


def _add_operations(document: dict[str, Any]) -> None:
    plain = {"text/plain": {"schema": {"type": "string"}}}
    for path, summary in (
        ("/livez", "Is the process alive"),
        ("/readyz", "Are the base encoder and the champions loaded"),
        ("/metrics", "Prometheus metrics"),
    ):
        document["paths"][path] = {
            "get": {
                "tags": ["operations"],
                "summary": summary,
                "operationId": path[1:],
                "responses": {"200": {"description": "Yes.", "content": plain}},
            }
        }


def _use_problems(document: dict[str, Any]) -> None:
    reply = {
        "description": "A problem document.",
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            responses = operation["responses"]
            # FastAPI's own error schema is never sent.
            responses.pop("422", None)
            responses["4XX"] = reply
            responses["5XX"] = reply
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)


def _add_access(document: dict[str, Any]) -> None:
    document["components"]["securitySchemes"] = {
        _SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "voc_<id>_<secret>",
            "description": "A key, where the service has any. Of the scopes `classify`, "
            "`register` and `admin` each holds the ones before it.",
        }
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            route = (method.upper(), path)
            if route == METRICS:
                # Open, unless a setting closes it.
                _guard_operation(operation, KeyScope.ADMIN, [{}])
            elif (needed := ACCESS.get(route, ANY_KEY)) is None:
                operation["security"] = []
            else:
                _guard_operation(operation, needed, [])


def _guard_operation(
    operation: dict[str, Any], needed: KeyScope, otherwise: list[dict[str, Any]]
) -> None:
    # The names beside the scheme are roles (OpenAPI 3.1, "Security Requirement Object").
    operation["security"] = [*otherwise, {_SCHEME: [needed.value]}]
    closed = "When a setting closes it, it needs" if otherwise else "Needs"
    told = f"{closed} a key with the scope `{needed.value}`, where keys are configured."
    operation["description"] = f"{operation.get('description', '')}\n\n{told}".strip()
    replies = operation["responses"]
    replies["401"] = _refusal(replies, "There is no valid key.", "WWW-Authenticate")
    if needed != ANY_KEY:
        replies["403"] = _refusal(replies, "The key lacks the scope.", "WWW-Authenticate")
    replies["429"] = _refusal(
        replies, "Overload, or the key has used its requests: see `code`.", "Retry-After"
    )


def _refusal(replies: dict[str, Any], description: str, header: str) -> dict[str, Any]:
    headers = {header: {"required": True, "schema": {"type": "string"}}}
    return {**replies["4XX"], "description": description, "headers": headers}
