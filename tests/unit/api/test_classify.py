from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api import classify, problems
from service.domain.errors import (
    InvalidFields,
    InvalidJson,
    OccupationNotFound,
    VersionNotFound,
    VocationError,
)
from service.inference.batch import (
    Neighbour,
    RefusedExperience,
    Score,
    ScoredExperience,
    ScoringRequest,
)
from service.inference.model_cache import ModelCache
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from tests.support.make import add_served, head, publish

SECRET = "Confidentiel"
FIRST = "/experiences/0"


def body(*experiences: Any) -> bytes:
    return json.dumps({"experiences": list(experiences)}).encode()


def refusal(content: bytes) -> VocationError:
    with pytest.raises(VocationError) as raised:
        classify.parse(content)
    return raised.value


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        pytest.param(body(), "/experiences", id="an empty list"),
        pytest.param(body({"text": ""}), f"{FIRST}/text", id="an empty text"),
        pytest.param(body({"text": " \t\n"}), f"{FIRST}/text", id="a blank text"),
        pytest.param(body({}), f"{FIRST}/text", id="no text at all"),
        pytest.param(body({"company": SECRET}), f"{FIRST}/text", id="a company alone"),
        pytest.param(body({"title": " "}), f"{FIRST}/title", id="a blank title"),
        pytest.param(body(*[{"text": SECRET}] * 257), "/experiences", id="257 experiences"),
        pytest.param(body({"text": "x" * 10_001}), f"{FIRST}/text", id="10,001 characters"),
        pytest.param(
            body({"title": "x" * 5000, "description": "x" * 5001}),
            f"{FIRST}/description",
            id="10,001 characters in all",
        ),
        pytest.param(body({"text": f"{SECRET}\x00"}), f"{FIRST}/text", id="NUL"),
        pytest.param(
            body({"text": "fine"}, {"text": f"{SECRET}\ud800"}),
            "/experiences/1/text",
            id="a lone surrogate in a text",
        ),
        pytest.param(
            body({"text": "fine", "id": f"{SECRET}\udfff"}),
            f"{FIRST}/id",
            id="a lone surrogate in an id",
        ),
        pytest.param(
            body({"text": "fine", "occupations": [f"{SECRET}\ud800"]}),
            f"{FIRST}/occupations/0",
            id="a lone surrogate in an occupation",
        ),
        pytest.param(body({"text": float("nan")}), f"{FIRST}/text", id="NaN for a text"),
        pytest.param(body({"text": 3}), f"{FIRST}/text", id="a number for a text"),
        pytest.param(body({"text": [SECRET]}), f"{FIRST}/text", id="a list for a text"),
        pytest.param(body(SECRET), FIRST, id="a string for an experience"),
        pytest.param(body(None), FIRST, id="null for an experience"),
        pytest.param(b'{"experiences": "Confidentiel"}', "/experiences", id="no list"),
        pytest.param(b'{"experiences": null}', "/experiences", id="null for the list"),
        pytest.param(b"{}", "/experiences", id="an empty object"),
        pytest.param(b"[]", "", id="a list for the body"),
        pytest.param(b"null", "", id="null for the body"),
        pytest.param(
            body({"text": "fine", "explain": "yes"}), f"{FIRST}/explain", id="a text for a flag"
        ),
        pytest.param(
            body({"text": "fine", "explain": 1}), f"{FIRST}/explain", id="a number for a flag"
        ),
        pytest.param(body({"text": "fine", "id": 7}), f"{FIRST}/id", id="a number for an id"),
        pytest.param(
            body({"text": "fine", "occupations": []}),
            f"{FIRST}/occupations",
            id="an empty list of occupations",
        ),
        pytest.param(
            body({"text": "fine", "occupations": "chef"}),
            f"{FIRST}/occupations",
            id="a text for the occupations",
        ),
        pytest.param(
            body({"text": "fine", "note": SECRET}), f"{FIRST}/note", id="an unknown field"
        ),
        pytest.param(
            json.dumps({"experiences": [{"text": "fine"}], "note": SECRET}).encode(),
            "/note",
            id="an unknown field of the body",
        ),
        pytest.param(
            body({"text": SECRET, "title": SECRET}), f"{FIRST}/title", id="a text and a title"
        ),
    ],
)
def test_a_bad_field_is_named_by_its_pointer_and_never_repeated(
    content: bytes, pointer: str
) -> None:
    error = refusal(content)
    assert isinstance(error, InvalidFields)
    assert [field.pointer for field in error.fields] == [pointer]
    assert SECRET not in json.dumps(problems.problem_of(error))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"Confidentiel", id="plain text"),
        pytest.param(b'{"experiences": [{"text": "Confidentiel"}', id="cut short"),
        pytest.param(b"{'experiences': []}", id="single quotes"),
        pytest.param(b'{"experiences": [{"text": "\xff Confidentiel"}]}', id="not UTF-8"),
        pytest.param('{"experiences": [{"text": "é"}]}'.encode("latin-1"), id="Latin-1"),
        pytest.param('{"experiences": [{"text": "é"}]}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b"[" * 100_000, id="100,000 open brackets"),
        pytest.param(
            b'{"experiences": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="deep nesting"
        ),
        pytest.param(b'{"experiences": [{"text": "a\nb"}]}', id="a bare line feed in a string"),
    ],
)
def test_what_is_not_json_is_refused_as_a_whole_and_never_repeated(content: bytes) -> None:
    error = refusal(content)
    assert isinstance(error, InvalidJson)
    assert error.fields == ()
    assert SECRET not in json.dumps(problems.problem_of(error))


def test_every_bad_field_is_named_at_once() -> None:
    error = refusal(body({"text": ""}, {"text": "fine"}, {"title": 3, "note": 1}))
    assert {field.pointer for field in error.fields} == {
        "/experiences/0/text",
        "/experiences/2/title",
        "/experiences/2/note",
    }


def test_a_paired_surrogate_escape_is_one_character() -> None:
    parsed = classify.parse(b'{"experiences": [{"text": "\\ud83d\\ude00"}]}')
    assert parsed.experiences[0].text == "\U0001f600"


def test_the_largest_request_is_taken() -> None:
    parsed = classify.parse(body(*[{"text": "é" * 10_000}] * 256))
    assert len(parsed.experiences) == 256


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)
_FIELDS = st.sampled_from(["id", "title", "company", "description", "text", "occupations", "x"])


def _parsed_or_refused(content: bytes) -> classify.ClassifyRequest | InvalidFields:
    try:
        return classify.parse(content)
    except InvalidFields as error:
        return error


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(_FIELDS, _JSON, max_size=4) | _JSON, max_size=3) | _JSON)
def test_any_json_is_taken_or_refused_with_pointers(experiences: object) -> None:
    answer = _parsed_or_refused(json.dumps({"experiences": experiences}).encode())
    if isinstance(answer, InvalidFields):
        assert answer.fields
        assert all(field.pointer.startswith("/experiences") for field in answer.fields)
    else:
        assert all(item.experience().rendered.encode() for item in answer.experiences)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_taken_or_refused(content: bytes) -> None:
    with pytest.raises((InvalidJson, InvalidFields)):
        classify.parse(content)


@pytest.fixture
def served(
    cache: ModelCache, base_encoder: EncoderRecord, database: Database, artifacts: ArtifactStore
) -> ModelCache:
    """``sommelier`` with two versions, ``chef`` with one."""
    add_served(database, artifacts, base_encoder, "sommelier", head(1))
    publish(database, artifacts, base_encoder, "sommelier", head(2))
    add_served(database, artifacts, base_encoder, "chef", head(3))
    cache.refresh()
    return cache


def _admit(cache: ModelCache, *experiences: Any) -> list[Any]:
    return list(classify.admit(classify.parse(body(*experiences)), cache))


def test_an_experience_without_occupations_is_scored_for_every_champion(
    served: ModelCache,
) -> None:
    item = _admit(served, {"text": "x", "id": "p1", "explain": True})[0]
    assert isinstance(item, ScoringRequest)
    assert (item.id, item.explain) == ("p1", True)
    assert [version.key for version in item.target.versions] == [("chef", 1), ("sommelier", 2)]


def test_occupations_are_named_by_id_or_by_id_and_version(served: ModelCache) -> None:
    item = _admit(served, {"text": "x", "occupations": ["sommelier@1", "chef"]})[0]
    assert [version.key for version in item.target.versions] == [("sommelier", 1), ("chef", 1)]


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("nothing", OccupationNotFound),
        ("nothing@1", OccupationNotFound),
        ("", OccupationNotFound),
        ("sommelier@3", VersionNotFound),
        ("sommelier@", VersionNotFound),
        ("sommelier@one", VersionNotFound),
        ("sommelier@-1", VersionNotFound),
        ("sommelier@1.0", VersionNotFound),
        ("sommelier@1@2", VersionNotFound),
        ("sommelier@٣", VersionNotFound),
        ("sommelier@99999999999999999999", VersionNotFound),
    ],
)
def test_an_unknown_reference_is_that_items_error_alone(
    served: ModelCache, reference: str, error: type[VocationError]
) -> None:
    items = _admit(
        served, {"text": "a"}, {"id": "p2", "text": "b", "occupations": ["chef", reference]}
    )
    assert isinstance(items[0], ScoringRequest)
    assert isinstance(items[1], RefusedExperience)
    assert items[1].id == "p2"
    assert type(items[1].error) is error


def test_one_request_is_answered_from_one_snapshot(served: ModelCache) -> None:
    items = _admit(served, *[{"text": str(n), "occupations": ["chef"]} for n in range(5)])
    assert len({id(item.target) for item in items}) == 1


def test_only_a_request_that_names_versions_may_have_to_load_them() -> None:
    plain = classify.parse(body({"text": "x"}, {"text": "x", "occupations": ["chef"]}))
    named = classify.parse(body({"text": "x"}, {"text": "x", "occupations": ["chef@1"]}))
    assert not classify.needs_loading(plain)
    assert classify.needs_loading(named)


def test_an_answer_is_rendered_as_the_contract_says() -> None:
    near = Neighbour("Chef sommelier", "in", 0.83)
    scores = (
        Score("sommelier", 3, 0.94, "in", 0.41, (near,)),
        Score("chef", 1, 0.01, "out", 0.5),
    )
    (rendered,) = json.loads(
        classify.render([ScoredExperience("p1", truncated=True, scores=scores)])
    )
    assert rendered == {
        "id": "p1",
        "truncated": True,
        "scores": [
            {
                "occupation": "sommelier",
                "version": 3,
                "score": 0.94,
                "label": "in",
                "threshold": 0.41,
                "nearest": [{"text": "Chef sommelier", "label": "in", "similarity": 0.83}],
            },
            {"occupation": "chef", "version": 1, "score": 0.01, "label": "out", "threshold": 0.5},
        ],
    }


def test_a_refusal_is_rendered_as_a_problem_in_place_of_scores() -> None:
    refused = RefusedExperience("p1", OccupationNotFound("No such one."))
    (rendered,) = json.loads(classify.render([refused]))
    assert set(rendered) == {"id", "error"}
    assert (rendered["error"]["status"], rendered["error"]["code"]) == (404, "occupation_not_found")
