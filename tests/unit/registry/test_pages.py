from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from service.domain.errors import InvalidFields
from service.domain.types import Method
from service.registry import occupations, registrations, versions
from service.registry.database import Database
from service.registry.pages import Page, decode_cursor, encode_cursor
from tests.support.make import add_occupation, example


def _walk(turn: Callable[[str | None], Page[Any]]) -> tuple[list[Any], int]:
    items: list[Any] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = turn(cursor)
        items.extend(page.items)
        cursor, pages = page.next_cursor, pages + 1
    return items, pages


@pytest.mark.parametrize(("rows", "pages"), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_a_walk_over_the_pages_meets_every_occupation_once(
    database: Database, rows: int, pages: int
) -> None:
    ids = [f"occupation-{n}" for n in range(rows)]
    with database.write() as connection:
        for id in reversed(ids):
            add_occupation(connection, id)
        walked, turned = _walk(lambda at: occupations.list_occupations(connection, 2, at))
    assert [item.id for item in walked] == ids
    assert turned == pages


def test_examples_versions_and_registrations_can_be_walked_too(database: Database) -> None:
    with database.write() as connection:
        add_occupation(connection, "sommelier", [example(f"texte {n}") for n in range(5)])
        made = []
        for _ in range(5):
            made.append(registrations.insert_registration(connection, "sommelier", Method.HEAD))
            versions.publish(
                connection,
                occupation="sommelier",
                method=Method.HEAD,
                encoder_digest="e",
                trunk_digest=None,
                artifact_digest="a",
                manifest={},
                registration=made[-1],
                promote=False,
            )
        examples, _ = _walk(lambda at: occupations.list_examples(connection, "sommelier", 2, at))
        numbered, _ = _walk(lambda at: versions.list_versions(connection, "sommelier", 2, at))
        listed, _ = _walk(lambda at: registrations.list_registrations(connection, 2, at))
    assert [item.example.experience.text for item in examples] == [f"texte {n}" for n in range(5)]
    assert [item.number for item in numbered] == [5, 4, 3, 2, 1]
    assert sorted(item.id for item in listed) == sorted(made)
    assert len(listed) == len(made)


def test_a_row_that_is_added_during_a_walk_moves_no_other(database: Database) -> None:
    with database.write() as connection:
        for id in ("b", "d", "f"):
            add_occupation(connection, id)
        first = occupations.list_occupations(connection, 2, None)
        add_occupation(connection, "a")
        add_occupation(connection, "e")
        second = occupations.list_occupations(connection, 2, first.next_cursor)
    assert [item.id for item in [*first.items, *second.items]] == ["b", "d", "e", "f"]


@pytest.mark.parametrize("key", ["sommelier", "métier", 0, 12345678901])
def test_a_cursor_gives_its_key_back(key: str | int) -> None:
    assert decode_cursor(encode_cursor(key), type(key)) == key


def _foreign(json_text: str) -> str:
    return base64.urlsafe_b64encode(json_text.encode()).decode().rstrip("=")


FOREIGN = {
    "nothing": "",
    "not ASCII": "é",
    "punctuation": "!!!!",
    "one letter": "a",
    "zero bytes": "AAAA",
    "null": _foreign("null"),
    "a flag": _foreign("true"),
    "a fraction": _foreign("1.5"),
    "a list": _foreign("[1]"),
    "a text": _foreign('"text"'),
    "300 digits": _foreign("1" * 300),
    "300 brackets": _foreign("[" * 300),
}


@pytest.mark.parametrize("cursor", FOREIGN.values(), ids=FOREIGN)
def test_a_cursor_of_somebody_else_is_an_invalid_field(database: Database, cursor: str) -> None:
    with database.read() as connection, pytest.raises(InvalidFields) as raised:
        occupations.list_examples(connection, "sommelier", 10, cursor)
    assert [field.pointer for field in raised.value.fields] == ["/query/cursor"]


@pytest.mark.parametrize(
    "cursor", [_foreign("3"), _foreign('"\\ud800"')], ids=["a number", "a lone surrogate"]
)
def test_a_list_by_text_refuses_numbers_and_broken_unicode(database: Database, cursor: str) -> None:
    with database.read() as connection, pytest.raises(InvalidFields):
        occupations.list_occupations(connection, 10, cursor)
