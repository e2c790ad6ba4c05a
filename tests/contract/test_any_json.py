"""Whatever JSON is sent where, the reply is one that the document declares, and never a 5xx."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.mounted_api import MountedApi, in_examples

SECRET = "confidentiel-4242"

_SETTINGS = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
_texts = st.text(st.characters(exclude_categories=()), max_size=12) | st.just(SECRET)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)

VALID: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v1/classify"): {
        "experiences": [
            {
                "id": "p1",
                "title": "Chef",
                "company": "X",
                "occupations": ["a-trained-occupation@1"],
            },
            {"text": "Sommelier", "explain": True},
        ]
    },
    ("POST", "/v1/occupations"): {
        "id": "any-json",
        "name": "Any",
        "description": "",
        "prevalence": 0.1,
        "training": {"method": "head"},
        "examples": [*in_examples(), {"text": "Serveur", "label": "out"}],
    },
    ("POST", "/v1/occupations/a-corrected-occupation/examples"): {
        "examples": [{"text": "Caviste", "label": "in"}],
        "training": {"method": "auto"},
    },
    ("PUT", "/v1/occupations/a-corrected-occupation/champion"): {"version": 1},
    ("POST", "/v1/occupations/a-trained-occupation/suggest"): {
        "experiences": [{"id": "p1", "title": "Chef", "company": "X"}, {"text": "Sommelier"}],
        "limit": 3,
        "version": 1,
    },
}


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value, outermost first."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    inner = [value[key] for key in keys if isinstance(value[key], dict | list)]
    return [(value, key) for key in keys] + [place for each in inner for place in _places(each)]


@st.composite
def _spoilt(draw: st.DrawFn, valid: dict[str, Any]) -> Any:
    """A valid body with something else at one of its places, or with a field too many."""
    body = json.loads(json.dumps(valid))
    container, key = draw(st.sampled_from(_places(body)))
    if isinstance(container, dict) and draw(st.booleans()):
        key = draw(_texts)
    container[key] = draw(_json)
    return body


@pytest.fixture(scope="module")
def send(api: MountedApi, trained: str) -> Callable[[str, str, Any], Any]:
    api.add_trained("a-corrected-occupation")

    def sent(method: str, path: str, body: Any) -> Any:
        content = json.dumps(body)
        reply = api.client.request(
            method, path, content=content, headers={"Content-Type": "application/json"}
        )
        assert reply.status_code < 500, reply.text
        if reply.status_code >= 400:
            errors = reply.json().get("errors", [])
            assert SECRET not in json.dumps([error["detail"] for error in errors])
            assert SECRET not in reply.json()["detail"]
        return reply

    return sent


@pytest.mark.parametrize(("method", "path"), VALID)
def test_the_unspoilt_body_is_taken(
    send: Callable[[str, str, Any], Any], method: str, path: str
) -> None:
    assert send(method, path, VALID[method, path]).status_code in (200, 202)


@_SETTINGS
@given(data=st.data())
@pytest.mark.parametrize(("method", "path"), VALID)
def test_a_spoilt_body_is_taken_or_refused_with_a_problem(
    send: Callable[[str, str, Any], Any], data: st.DataObject, method: str, path: str
) -> None:
    reply = send(method, path, data.draw(_spoilt(VALID[method, path])))
    assert reply.status_code in (200, 202, 404, 409, 422)


@_SETTINGS
@given(body=_json)
@pytest.mark.parametrize(("method", "path"), VALID)
def test_any_json_at_all_is_refused_with_a_problem(
    send: Callable[[str, str, Any], Any], body: Any, method: str, path: str
) -> None:
    assert send(method, path, body).status_code == 422


@_SETTINGS
@given(name=st.sampled_from(["limit", "cursor", "state", "occupation"]), value=st.text(max_size=20))
@pytest.mark.parametrize("path", ["/v1/occupations", "/v1/registrations"])
def test_any_query_is_answered_or_refused(
    api: MountedApi, path: str, name: str, value: str
) -> None:
    assert api.client.get(path, params={name: value}).status_code in (200, 422)
