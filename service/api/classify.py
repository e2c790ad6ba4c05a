"""``POST /v1/classify``: its schema, admission before the batch, and the reply's JSON.

BentoML's own deserialisation is replaced at its public extension points (``IODescriptor``): the
body was validated at admission, and validating it again would only cost time.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

import bentoml
import orjson
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from service.api import problems
from service.api.fields import ExperienceFields, Strict, Text, field_errors
from service.domain.errors import InvalidFields, InvalidJson, VersionNotFound, VocationError
from service.inference.batch import (
    BatchItem,
    RefusedExperience,
    Score,
    ScoredExperience,
    ScoringRequest,
)

if TYPE_CHECKING:
    from service.inference.model_cache import ModelCache, Snapshot, Target

ROUTE = "/v1/classify"
MAX_EXPERIENCES = 256
# Where admission leaves the batch items for the native route.
ADMITTED = "vocation.admitted"


class ExperienceToScore(ExperienceFields):
    """An experience to score."""

    id: Text | None = Field(default=None, max_length=256, description="Returned as it came.")
    occupations: list[Text] | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="`id` (the champion) or `id@version`; every occupation when left out.",
    )
    explain: bool = Field(default=False, description="Add the nearest examples to each score.")


class ClassifyRequest(Strict):
    """The body of ``POST /v1/classify``."""

    experiences: list[ExperienceToScore] = Field(min_length=1, max_length=MAX_EXPERIENCES)


def parse(body: bytes) -> ClassifyRequest:
    """The validated body; raises InvalidJson or InvalidFields."""
    try:
        return ClassifyRequest.model_validate_json(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    if any(detail["type"] == "json_invalid" for detail in details):
        # A lone surrogate is no syntax error of JSON: find the field that holds it.
        try:
            return ClassifyRequest.model_validate(
                json.loads(body.decode(), parse_constant=_refuse_constant)
            )
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
        except (ValueError, RecursionError):
            raise InvalidJson("The body is not valid JSON in UTF-8.") from None
    raise InvalidFields("Some fields are invalid: see errors.", field_errors(details))


def admit(parsed: ClassifyRequest, cache: ModelCache) -> list[BatchItem]:
    """Bind a request to one snapshot; an item whose target is unknown is refused here.

    May load a version that is not in memory: call it off the event loop when ``needs_loading``.
    """
    snapshot = cache.snapshot()
    targets: dict[tuple[str, ...] | None, Target | VocationError] = {}
    items: list[BatchItem] = []
    for item in parsed.experiences:
        references = tuple(item.occupations) if item.occupations is not None else None
        if references not in targets:
            targets[references] = _target(snapshot, cache, references)
        target = targets[references]
        if isinstance(target, VocationError):
            items.append(RefusedExperience(item.id, target))
        else:
            items.append(ScoringRequest(item.id, item.experience(), target, item.explain))
    return items


def needs_loading(parsed: ClassifyRequest) -> bool:
    """Whether a request names versions, which may have to be loaded first."""
    return any("@" in name for item in parsed.experiences for name in item.occupations or ())


class ClassifyInput(bentoml.IODescriptor):
    """Hands the admitted experiences to the dispatcher without parsing the body again."""

    experiences: list[Any]

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> ClassifyInput:
        """Take what admission left in the ASGI scope."""
        admitted: list[BatchItem] = request.scope[ADMITTED]
        filled: ClassifyInput = cls.model_construct(experiences=admitted)
        return filled


class ClassifyOutput(bentoml.IODescriptor):
    """Sends the reply that the native route has rendered already."""

    root: ClassVar[list[Any]] = []

    @classmethod
    async def to_http_response(cls, obj: Any, serde: Any) -> Response:
        """Render scored experiences."""
        return Response(orjson.dumps([render(item) for item in obj]), media_type="application/json")


def render(answer: ScoredExperience | RefusedExperience) -> dict[str, Any]:
    """One item of the reply."""
    if isinstance(answer, RefusedExperience):
        return {"id": answer.id, "error": problems.problem_of(answer.error)}
    return {
        "id": answer.id,
        "truncated": answer.truncated,
        "scores": [_render_score(score) for score in answer.scores],
    }


def _render_score(score: Score) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "occupation": score.occupation,
        "version": score.version,
        "score": score.score,
        "label": score.label,
        "threshold": score.threshold,
    }
    if score.nearest is not None:
        rendered["nearest"] = [
            {"text": near.text, "label": near.label, "similarity": near.similarity}
            for near in score.nearest
        ]
    return rendered


def _target(
    snapshot: Snapshot, cache: ModelCache, references: tuple[str, ...] | None
) -> Target | VocationError:
    try:
        for reference in references or ():
            _, separator, number = reference.partition("@")
            if separator and not (number.isascii() and number.isdigit() and len(number) < 10):
                raise VersionNotFound("A version is named by its number: id@3.")
        return cache.resolve(snapshot, references)
    except VocationError as error:
        return error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
