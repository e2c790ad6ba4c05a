"""``/v1/occupations``: register, read, correct and delete occupations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from service.api.context import Context, Cursor, Idempotency, Limit
from service.api.replies import accepted, occupation_fields, version_metrics
from service.api.schemas import (
    ExampleOut,
    ExamplesOut,
    NewExamplesIn,
    NewOccupationIn,
    OccupationDetailOut,
    OccupationOut,
    OccupationsOut,
    RegistrationOut,
)
from service.domain.types import Method
from service.registry import erasing, occupations, versions

router = APIRouter(prefix="/v1/occupations", tags=["occupations"])


@router.post("", status_code=202, summary="Register an occupation", response_model=RegistrationOut)
def register(
    body: NewOccupationIn, context: Context, idempotency: Idempotency, response: Response
) -> RegistrationOut:
    """Train a classifier from examples; follow the `Location` until the state is `succeeded`."""
    return accepted(context.registrar.register(body.new_occupation(), idempotency), response)


@router.get("", summary="List occupations")
def list_all(context: Context, limit: Limit = 100, cursor: Cursor = None) -> OccupationsOut:
    """Occupations by id."""
    with context.database.read() as connection:
        page = occupations.list_occupations(connection, limit, cursor)
        items = [OccupationOut(**occupation_fields(connection, item)) for item in page.items]
    return OccupationsOut(items=items, next_cursor=page.next_cursor)


@router.get("/{id}", summary="Read an occupation")
def read(id: str, context: Context) -> OccupationDetailOut:
    """An occupation with its champion, its versions' numbers and its champion's metrics."""
    with context.database.read() as connection:
        occupation = occupations.get_occupation(connection, id)
        numbers = versions.version_numbers_of(connection, id)
        champion = versions.champion_number(connection, id)
        metrics = (
            version_metrics(versions.get_version(connection, id, champion)) if champion else None
        )
        fields = occupation_fields(connection, occupation)
    return OccupationDetailOut(**fields, versions=numbers, metrics=metrics)


@router.delete("/{id}", status_code=204, summary="Delete an occupation")
def delete(id: str, context: Context) -> None:
    """Delete an occupation with its examples and versions; its registrations are cancelled."""
    context.registrar.delete(id)
    context.cache.refresh()


@router.post(
    "/{id}/examples",
    status_code=202,
    summary="Add or correct examples",
    response_model=RegistrationOut,
)
def add_examples(
    id: str,
    body: NewExamplesIn,
    context: Context,
    idempotency: Idempotency,
    response: Response,
) -> RegistrationOut:
    """Add examples and train a new version; a text that is there already takes the new label."""
    method = Method(body.training.method) if body.training is not None else None
    examples = [item.example() for item in body.examples]
    registration = context.registrar.add_examples(id, examples, method, idempotency)
    return accepted(registration, response)


@router.get("/{id}/examples", summary="List examples")
def list_examples(
    id: str, context: Context, limit: Limit = 100, cursor: Cursor = None
) -> ExamplesOut:
    """Examples in the order of their arrival."""
    with context.database.read() as connection:
        occupations.get_occupation(connection, id)
        page = occupations.list_examples(connection, id, limit, cursor)
    items = [
        ExampleOut(
            id=stored.id,
            label=stored.example.label,
            suggested=stored.example.suggested,
            title=stored.example.experience.title,
            company=stored.example.experience.company,
            description=stored.example.experience.description,
            text=stored.example.experience.text,
        )
        for stored in page.items
    ]
    return ExamplesOut(items=items, next_cursor=page.next_cursor)


@router.delete("/{id}/examples/{example_id}", status_code=204, summary="Erase an example for good")
def erase_example(
    id: str, example_id: Annotated[int, Path(ge=1, le=2**63 - 1)], context: Context
) -> None:
    """Erase an example, by the `id` that the list gives it; no copy of its text is kept.

    Versions that were trained on it go on answering, and say so in `erased_examples`; add
    examples to train one without it. A 409 while a registration of the occupation runs.
    """
    with context.database.write() as connection:
        erasing.erase_examples(connection, id, [example_id])
