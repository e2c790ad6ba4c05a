from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from service.api.fields import ExperienceFields, field_errors
from service.api.schemas import ChampionIn
from service.domain.types import Experience


def _pointers(value: object) -> list[str]:
    with pytest.raises(ValidationError) as raised:
        ExperienceFields.model_validate(value)
    details = raised.value.errors(include_url=False, include_input=False)
    return [error.pointer for error in field_errors(details, prefix=["experiences", 3])]


@pytest.mark.parametrize(
    ("fields", "experience"),
    [
        ({"text": "Chef"}, Experience(text="Chef")),
        ({"title": "Chef"}, Experience(title="Chef")),
        (
            {"title": "Chef", "company": "La Treille", "description": "Carte."},
            Experience("Chef", "La Treille", "Carte."),
        ),
        ({"title": "Chef", "company": None, "text": None}, Experience(title="Chef")),
    ],
)
def test_an_experience_is_a_text_or_a_title_with_more(
    fields: dict[str, str | None], experience: Experience
) -> None:
    assert ExperienceFields.model_validate(fields).experience() == experience


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({}, "/experiences/3/text"),
        ({"company": "La Treille"}, "/experiences/3/text"),
        ({"text": ""}, "/experiences/3/text"),
        ({"text": " \n"}, "/experiences/3/text"),
        ({"title": ""}, "/experiences/3/title"),
        ({"text": "Chef", "title": "Chef"}, "/experiences/3/title"),
        ({"text": "Chef", "description": "Carte."}, "/experiences/3/description"),
        ({"text": 3}, "/experiences/3/text"),
        ({"title": "Chef", "salary": 3}, "/experiences/3/salary"),
        ({"title": "x" * 6000, "description": "y" * 4001}, "/experiences/3/description"),
        ({"title": "Chef", "a/b~c": 1}, "/experiences/3/a~1b~0c"),
    ],
)
def test_a_pointer_names_the_field_in_the_body(fields: dict[str, object], pointer: str) -> None:
    assert _pointers(fields) == [pointer]


@pytest.mark.parametrize("name", ["title", "company", "description", "text"])
@pytest.mark.parametrize("bad", ["a\x00b", "a\ud800b", "x" * 10_001])
def test_nul_lone_surrogates_and_long_texts_are_refused_in_every_field(name: str, bad: str) -> None:
    fields = {name: bad} if name in ("title", "text") else {"title": "Chef", name: bad}
    assert _pointers(fields) == [f"/experiences/3/{name}"]


def test_ten_thousand_characters_in_all_are_taken() -> None:
    assert ExperienceFields(text="é" * 10_000).text == "é" * 10_000
    assert ExperienceFields(title="x" * 6000, description="y" * 4000).title == "x" * 6000


def test_a_length_is_told_in_characters() -> None:
    with pytest.raises(ValidationError) as raised:
        ExperienceFields(text="x" * 10_001)
    assert "characters" in raised.value.errors()[0]["msg"]


@pytest.mark.parametrize("given", [3, 3.0])
def test_an_integer_may_be_written_as_json_schema_lets_it(given: float) -> None:
    assert ChampionIn.model_validate({"version": given}).version == 3


@pytest.mark.parametrize("given", [3.5, True, "3", float("inf"), float("nan"), 0.0, 1e300])
def test_what_is_no_whole_number_is_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        ChampionIn.model_validate({"version": given})


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({"text": "Chef"}, True),
        ({"title": "Chef", "text": None}, True),
        ({"text": "Chef", "title": None}, True),
        ({}, False),
        ({"text": " "}, False),
        ({"title": "a\x00b"}, False),
        ({"text": "Chef", "title": "Chef"}, False),
        ({"company": "La Treille"}, False),
    ],
)
def test_the_schema_says_which_experiences_are_taken(
    fields: dict[str, str | None], *, taken: bool
) -> None:
    schema = Draft202012Validator(ExperienceFields.model_json_schema())
    assert schema.is_valid(fields) is taken
    if taken:
        ExperienceFields.model_validate(fields)
    else:
        _pointers(fields)
