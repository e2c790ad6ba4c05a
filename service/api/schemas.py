"""Bodies and replies of the occupation and registration routes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from service.api.fields import OCCUPATION_ID, ExperienceFields, Strict, Text, Whole, field_error
from service.domain.types import Example, Label, Method, NewOccupation, RegistrationState, Stage
from service.jobs.registering import MAX_EXAMPLES, MIN_IN_EXAMPLES

OccupationId = Annotated[str, Field(pattern=OCCUPATION_ID)]


class ExampleIn(ExperienceFields):
    """An experience with its label."""

    label: Literal["in", "out"]
    suggested: bool = Field(
        default=False,
        description="Whether `suggest` chose it: then it is no sample of what will be scored, and "
        "the score and its threshold are not calibrated on it.",
    )

    def example(self) -> Example:
        """The example as the domain knows it."""
        return Example(self.experience(), Label(self.label), self.suggested)


Examples = Annotated[list[ExampleIn], Field(min_length=1, max_length=MAX_EXAMPLES)]
# As far as a schema can say it: that they must differ too is for the validator.
_SUFFICE: dict[str, Any] = {
    "contains": {"required": ["label"], "properties": {"label": {"const": "in"}}},
    "minContains": MIN_IN_EXAMPLES,
}


class Training(Strict):
    """How to train."""

    method: Literal["auto", "head", "setfit"] = Field(
        default="auto",
        description="`head` is live within seconds; `setfit` goes on to fine-tune and promotes; "
        "`auto` fine-tunes and promotes only what a gate finds better.",
    )


class NewOccupationIn(Strict):
    """The body of ``POST /v1/occupations``."""

    id: OccupationId = Field(description="Lower case letters, digits and dashes.")
    name: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    description: Annotated[Text, Field(max_length=5000)] = ""
    examples: Examples = Field(json_schema_extra=_SUFFICE)
    prevalence: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="Expected share of experiences in the occupation.",
    )
    training: Training = Training()

    @model_validator(mode="after")
    def _examples_suffice(self) -> NewOccupationIn:
        _refuse_contradictions(self.examples)
        distinct = {item.experience().digest for item in self.examples if item.label == "in"}
        if len(distinct) < MIN_IN_EXAMPLES:
            raise field_error(
                f"at least {MIN_IN_EXAMPLES} different examples must be labelled in, "
                f"{len(distinct)} are",
                "examples",
            )
        return self

    def new_occupation(self) -> NewOccupation:
        """The occupation as the domain knows it."""
        return NewOccupation(
            id=self.id,
            name=self.name or self.id,
            description=self.description,
            prevalence=self.prevalence,
            method=Method(self.training.method),
            examples=tuple(item.example() for item in self.examples),
        )


class NewExamplesIn(Strict):
    """The body of ``POST /v1/occupations/{id}/examples``."""

    examples: Examples
    training: Training | None = None

    @model_validator(mode="after")
    def _consistent(self) -> NewExamplesIn:
        _refuse_contradictions(self.examples)
        return self


class ChampionIn(Strict):
    """The body of ``PUT /v1/occupations/{id}/champion``."""

    version: Whole = Field(ge=1, le=2_147_483_647)


class PublishedVersionOut(BaseModel):
    """A version that a registration published."""

    version: int
    method: Method
    champion: bool


class RegistrationOut(BaseModel):
    """A registration."""

    id: str
    occupation: str
    state: RegistrationState
    stage: Stage | None
    progress: float = Field(ge=0, le=1)
    versions: list[PublishedVersionOut]
    error: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime


class RegistrationsOut(BaseModel):
    """A page of registrations."""

    items: list[RegistrationOut]
    next_cursor: str | None


class ExampleCountsOut(BaseModel):
    """Examples by label."""

    model_config = {"populate_by_name": True}

    examples_in: int = Field(alias="in")
    examples_out: int = Field(alias="out")


class OccupationOut(BaseModel):
    """An occupation in a list."""

    id: str
    name: str
    description: str
    prevalence: float
    method: Method
    origin: str
    champion: int | None
    examples: ExampleCountsOut
    created_at: datetime
    updated_at: datetime


class OccupationsOut(BaseModel):
    """A page of occupations."""

    items: list[OccupationOut]
    next_cursor: str | None


class VersionOut(BaseModel):
    """A version in a list."""

    occupation: str
    version: int
    method: Method
    champion: bool
    encoder: str
    registration: str
    metrics: dict[str, Any]
    erased_examples: int = Field(
        description="Examples it was trained on that have been erased since."
    )
    created_at: datetime


class VersionsOut(BaseModel):
    """A page of versions."""

    items: list[VersionOut]
    next_cursor: str | None


class ManifestOut(VersionOut):
    """A version with its whole manifest."""

    manifest: dict[str, Any]


class OccupationDetailOut(OccupationOut):
    """An occupation with its versions and its champion's metrics."""

    versions: list[int]
    metrics: dict[str, Any] | None


class ExampleOut(BaseModel):
    """A stored example."""

    id: int
    label: Label
    suggested: bool
    title: str | None
    company: str | None
    description: str | None
    text: str | None


class ExamplesOut(BaseModel):
    """A page of examples."""

    items: list[ExampleOut]
    next_cursor: str | None


class ChampionOut(BaseModel):
    """The champion of an occupation."""

    occupation: str
    version: int


class FieldProblem(BaseModel):
    """One invalid field of a problem."""

    pointer: str
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None
    request_id: str | None = None
    errors: list[FieldProblem] | None = None


def _refuse_contradictions(examples: list[ExampleIn]) -> None:
    first: dict[str, tuple[int, str]] = {}
    contradicted: set[int] = set()
    for index, item in enumerate(examples):
        seen = first.setdefault(item.experience().digest, (index, item.label))
        if seen[1] != item.label:
            contradicted.update((index, seen[0]))
    if contradicted:
        raise field_error(
            "the same text is labelled both in and out",
            *(f"examples/{index}/label" for index in sorted(contradicted)),
        )
