"""Body and reply of the suggest route."""

from __future__ import annotations

from pydantic import BaseModel, Field

from service.api.fields import ExperienceFields, Strict, Text, Whole
from service.domain.types import Label
from service.inference.suggestions import Reason

MAX_CANDIDATES, MAX_SUGGESTIONS = 1000, 100


class ExperienceToLabel(ExperienceFields):
    """An experience that has no label yet."""

    id: Text | None = Field(default=None, max_length=256, description="Returned as it came.")


class SuggestIn(Strict):
    """The body of ``POST /v1/occupations/{id}/suggest``."""

    experiences: list[ExperienceToLabel] = Field(min_length=1, max_length=MAX_CANDIDATES)
    limit: Whole = Field(default=16, ge=1, le=MAX_SUGGESTIONS, description="Most suggestions.")
    version: Whole | None = Field(
        default=None,
        ge=1,
        le=2_147_483_647,
        description="The version that is to learn; the champion when left out.",
    )


class SuggestionOut(BaseModel):
    """An experience to label, and why."""

    index: int = Field(description="Its place in the request, from 0.")
    id: str | None
    score: float = Field(ge=0, le=1, description="As classify gives it.")
    label: Label = Field(description="As classify gives it: what the version says.")
    reason: Reason
    why: str = Field(description="The reason in a sentence.")


class SuggestedOut(BaseModel):
    """What to label next, the most useful first."""

    occupation: str
    version: int
    threshold: float
    items: list[SuggestionOut]
    skipped: int = Field(description="Experiences that are examples of the occupation already.")
    repeated: int = Field(description="Experiences with the text of an earlier one.")
