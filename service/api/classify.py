"""``POST /v1/classify``: its schema, admission to the scoring queue, and the reply's JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import Field, ValidationError

from service.api import problems
from service.api.fields import ExperienceFields, Strict, Text, field_errors
from service.domain.errors import InvalidFields, InvalidJson, VersionNotFound, VocationError
from service.inference.batch import (
    Answer,
    BatchItem,
    RefusedExperience,
    Score,
    ScoringRequest,
)

if TYPE_CHECKING:
    from service.inference.model_cache import ModelCache
    from service.inference.snapshot import Snapshot, Target

ROUTE = "/v1/classify"
MAX_EXPERIENCES = 256


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


def render(answers: Sequence[Answer]) -> bytes:
    """The reply, JSON in UTF-8."""
    return orjson.dumps([_render_item(answer) for answer in answers])


def _render_item(answer: Answer) -> dict[str, Any]:
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
