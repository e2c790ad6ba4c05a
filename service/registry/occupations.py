"""Occupations and their examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from service.domain.errors import OccupationExists, OccupationNotFound
from service.domain.types import Example, Experience, Label, Method, Occupation, Origin
from service.registry import generation
from service.registry.database import parse_time, utc_now
from service.registry.pages import Page, decode_cursor, encode_cursor
from service.registry.tables import examples, occupations


@dataclass(frozen=True, slots=True)
class StoredExample:
    """An example with its number in the registry."""

    id: int
    example: Example


@dataclass(frozen=True, slots=True)
class ExampleCounts:
    """Examples of one occupation by label."""

    examples_in: int
    examples_out: int


def insert_occupation(
    connection: Connection,
    *,
    id: str,
    name: str,
    description: str,
    prevalence: float,
    method: Method,
    origin: Origin,
    source_digest: str | None = None,
) -> None:
    """Add an occupation; raises OccupationExists when the id is taken."""
    now = utc_now()
    try:
        connection.execute(
            insert(occupations).values(
                id=id,
                name=name,
                description=description,
                prevalence=prevalence,
                method=method.value,
                origin=origin.value,
                source_digest=source_digest,
                created_at=now,
                updated_at=now,
            )
        )
    except IntegrityError:
        raise OccupationExists("An occupation with this id is registered already.") from None
    generation.bump(connection)


def update_occupation(connection: Connection, id: str, **values: Any) -> None:
    """Change columns of an occupation; raises OccupationNotFound."""
    changed = connection.execute(
        update(occupations).where(occupations.c.id == id).values(updated_at=utc_now(), **values)
    )
    if changed.rowcount == 0:
        raise OccupationNotFound("No occupation with this id is registered.")
    generation.bump(connection)


def delete_occupation(connection: Connection, id: str) -> None:
    """Remove an occupation, its examples, versions and aliases; raises OccupationNotFound."""
    if connection.execute(delete(occupations).where(occupations.c.id == id)).rowcount == 0:
        raise OccupationNotFound("No occupation with this id is registered.")
    generation.bump(connection)


def get_occupation(connection: Connection, id: str) -> Occupation:
    """The occupation; raises OccupationNotFound."""
    row = connection.execute(select(occupations).where(occupations.c.id == id)).one_or_none()
    if row is None:
        raise OccupationNotFound("No occupation with this id is registered.")
    return _occupation(row)


def source_digests(connection: Connection) -> dict[str, str | None]:
    """For every occupation, the digest of the bundled file it was last read from."""
    rows = connection.execute(select(occupations.c.id, occupations.c.source_digest))
    return {row.id: row.source_digest for row in rows}


def list_occupations(connection: Connection, limit: int, cursor: str | None) -> Page[Occupation]:
    """Occupations by id."""
    query = select(occupations).order_by(occupations.c.id).limit(limit + 1)
    if cursor is not None:
        query = query.where(occupations.c.id > decode_cursor(cursor, str))
    rows = connection.execute(query).all()
    more = len(rows) > limit
    return Page(
        [_occupation(row) for row in rows[:limit]],
        encode_cursor(rows[limit - 1].id) if more else None,
    )


def put_examples(
    connection: Connection,
    occupation: str,
    new: Sequence[Example],
    origin: Origin = Origin.API,
) -> None:
    """Add examples; an example whose text is there already takes the new label and fields."""
    now = utc_now()
    for example in new:
        experience = example.experience
        values = {
            "title": experience.title,
            "company": experience.company,
            "description": experience.description,
            "text": experience.text,
            "label": example.label.value,
            "suggested": example.suggested,
            "origin": origin.value,
            "updated_at": now,
        }
        changed = connection.execute(
            update(examples)
            .where(examples.c.occupation == occupation, examples.c.digest == experience.digest)
            .values(**values)
        )
        if changed.rowcount == 0:
            connection.execute(
                insert(examples).values(
                    occupation=occupation, digest=experience.digest, created_at=now, **values
                )
            )


def replace_bundled_examples(
    connection: Connection, occupation: str, new: Sequence[Example]
) -> None:
    """Make ``new`` the bundled examples; what a researcher added or corrected stays as it is."""
    bundled = examples.c.origin == Origin.BUNDLED.value
    connection.execute(delete(examples).where(examples.c.occupation == occupation, bundled))
    kept = examples_by_digest(connection, occupation, [e.experience.digest for e in new])
    missing = [example for example in new if example.experience.digest not in kept]
    put_examples(connection, occupation, missing, Origin.BUNDLED)


def all_examples(connection: Connection, occupation: str) -> list[StoredExample]:
    """Every example in the order of its text's digest, which no insertion order can change."""
    rows = connection.execute(
        select(examples).where(examples.c.occupation == occupation).order_by(examples.c.digest)
    )
    return [_example(row) for row in rows]


def list_examples(
    connection: Connection, occupation: str, limit: int, cursor: str | None
) -> Page[StoredExample]:
    """Examples of an occupation in the order of their arrival."""
    query = (
        select(examples)
        .where(examples.c.occupation == occupation)
        .order_by(examples.c.id)
        .limit(limit + 1)
    )
    if cursor is not None:
        query = query.where(examples.c.id > decode_cursor(cursor, int))
    rows = connection.execute(query).all()
    more = len(rows) > limit
    return Page(
        [_example(row) for row in rows[:limit]],
        encode_cursor(rows[limit - 1].id) if more else None,
    )


def examples_by_digest(
    connection: Connection, occupation: str, digests: Sequence[str]
) -> dict[str, Example]:
    """The examples that still stand in the registry, by the digest of their text."""
    rows = connection.execute(
        select(examples).where(
            examples.c.occupation == occupation, examples.c.digest.in_(list(digests))
        )
    )
    return {row.digest: _example(row).example for row in rows}


def count_examples(connection: Connection, occupation: str) -> ExampleCounts:
    """How many examples an occupation has, by label."""
    rows = connection.execute(
        select(examples.c.label, func.count())
        .where(examples.c.occupation == occupation)
        .group_by(examples.c.label)
    )
    counts = {row[0]: row[1] for row in rows}
    return ExampleCounts(counts.get("in", 0), counts.get("out", 0))


def _occupation(row: Row[Any]) -> Occupation:
    return Occupation(
        id=row.id,
        name=row.name,
        description=row.description,
        prevalence=row.prevalence,
        method=Method(row.method),
        origin=Origin(row.origin),
        created_at=parse_time(row.created_at),
        updated_at=parse_time(row.updated_at),
    )


def _example(row: Row[Any]) -> StoredExample:
    experience = Experience(
        title=row.title, company=row.company, description=row.description, text=row.text
    )
    return StoredExample(row.id, Example(experience, Label(row.label), row.suggested))
