from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mounted_api import MountedApi, in_examples, mounted_api
from tests.support.sommelier import SOMMELIER


def _body(id: str, **changes: Any) -> dict[str, Any]:
    return {"id": id, "examples": in_examples(), **changes}


async def _blank_chunks() -> AsyncIterator[bytes]:
    for _ in range(500):
        yield b" " * 1000


def _pointers(problem: dict[str, Any]) -> list[str]:
    return [error["pointer"] for error in problem["errors"]]


def test_an_occupation_is_accepted_with_the_place_to_follow_it(
    api: MountedApi, new_id: str
) -> None:
    reply = api.client.post("/v1/occupations", json={**SOMMELIER, "id": new_id})
    registration = reply.json()
    assert reply.status_code == 202
    assert reply.headers["location"] == f"/v1/registrations/{registration['id']}"
    assert int(reply.headers["retry-after"]) >= 1
    assert (registration["occupation"], registration["state"]) == (new_id, "queued")
    assert (registration["stage"], registration["progress"]) == (None, 0.0)
    assert (registration["versions"], registration["error"]) == ([], None)
    assert api.client.get(reply.headers["location"]).json() == registration


def test_a_registered_occupation_can_be_read_before_it_has_a_version(
    api: MountedApi, new_id: str
) -> None:
    api.client.post("/v1/occupations", json={**SOMMELIER, "id": new_id})
    occupation = api.client.get(f"/v1/occupations/{new_id}").json()
    assert {name: occupation[name] for name in ("id", "name", "description", "prevalence")} == {
        "id": new_id,
        "name": "Sommelier",
        "description": SOMMELIER["description"],
        "prevalence": 0.01,
    }
    assert occupation["examples"] == {"in": 8, "out": 0}
    assert (occupation["champion"], occupation["versions"]) == (None, [])
    assert (occupation["origin"], occupation["method"]) == ("api", "auto")
    assert occupation["created_at"].endswith("Z")


def test_only_the_id_and_the_examples_are_needed(api: MountedApi, new_id: str) -> None:
    api.register(new_id)
    occupation = api.client.get(f"/v1/occupations/{new_id}").json()
    assert occupation["name"] == new_id
    assert occupation["prevalence"] == 0.05


@pytest.mark.parametrize("method", ["auto", "head"])
def test_the_method_of_training_can_be_chosen(api: MountedApi, new_id: str, method: str) -> None:
    body = _body(new_id, training={"method": method})
    assert api.client.post("/v1/occupations", json=body).status_code == 202
    assert api.client.get(f"/v1/occupations/{new_id}").json()["method"] == method


def test_an_id_that_exists_is_a_conflict(api: MountedApi, new_id: str) -> None:
    api.register(new_id)
    reply = api.client.post("/v1/occupations", json=_body(new_id))
    assert (reply.status_code, reply.json()["code"]) == (409, "occupation_exists")


def test_the_same_key_and_body_give_the_same_registration(api: MountedApi, new_id: str) -> None:
    headers = {"Idempotency-Key": new_id}
    first = api.client.post("/v1/occupations", json=_body(new_id), headers=headers)
    reordered = json.dumps(dict(reversed(_body(new_id).items())), indent=3)
    second = api.client.post(
        "/v1/occupations",
        content=reordered,
        headers={**headers, "Content-Type": "application/json"},
    )
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["location"] == first.headers["location"]


def test_the_same_key_with_another_body_is_refused(api: MountedApi, new_id: str) -> None:
    headers = {"Idempotency-Key": new_id}
    api.client.post("/v1/occupations", json=_body(new_id), headers=headers)
    other = api.client.post("/v1/occupations", json=_body(f"{new_id}-2"), headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert api.client.get(f"/v1/occupations/{new_id}-2").status_code == 404


def test_a_refused_body_does_not_use_up_its_key(api: MountedApi, new_id: str) -> None:
    headers = {"Idempotency-Key": new_id}
    refused = api.client.post("/v1/occupations", json=_body(new_id, name=3), headers=headers)
    accepted = api.client.post("/v1/occupations", json=_body(new_id), headers=headers)
    assert (refused.status_code, accepted.status_code) == (422, 202)


@pytest.mark.parametrize("path", ["/v1/occupations", "/v1/occupations/chef/examples"])
def test_a_key_without_a_body_is_refused_as_no_json(api: MountedApi, path: str) -> None:
    reply = api.client.post(path, headers={"Idempotency-Key": "k"})
    assert (reply.status_code, reply.json()["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_has_1_to_255_characters(api: MountedApi, new_id: str, key: str) -> None:
    reply = api.client.post("/v1/occupations", json=_body(new_id), headers={"Idempotency-Key": key})
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_fields")


def test_contradicting_examples_are_named_by_pointer(api: MountedApi, new_id: str) -> None:
    examples = [
        *in_examples(),
        {"text": "Caviste, Lyon", "label": "in"},
        {"text": "Serveur", "label": "out"},
        {"title": "Caviste", "company": " Lyon", "label": "out"},
    ]
    reply = api.client.post("/v1/occupations", json=_body(new_id, examples=examples))
    assert reply.status_code == 422
    assert _pointers(reply.json()) == ["/examples/4/label", "/examples/6/label"]
    assert "Caviste" not in reply.text


def test_an_example_that_is_given_twice_counts_once(api: MountedApi, new_id: str) -> None:
    twice = [*in_examples(3), in_examples(1)[0]]
    reply = api.client.post("/v1/occupations", json=_body(new_id, examples=twice))
    assert (reply.status_code, _pointers(reply.json())) == (422, ["/examples"])


@pytest.mark.parametrize(
    "examples",
    [
        [],
        in_examples(3),
        [
            *in_examples(3),
            {"text": "Serveur", "label": "out"},
            {"text": "Caissier", "label": "out"},
        ],
        in_examples(2001),
    ],
    ids=["none", "three", "three in and two out", "2,001"],
)
def test_at_least_4_in_examples_and_at_most_2000_examples(
    api: MountedApi, new_id: str, examples: list[dict[str, Any]]
) -> None:
    reply = api.client.post("/v1/occupations", json=_body(new_id, examples=examples))
    assert (reply.status_code, _pointers(reply.json())) == (422, ["/examples"])


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, 1.5, "0.1", None, True])
def test_a_prevalence_is_a_share_between_0_and_1(
    api: MountedApi, new_id: str, prevalence: object
) -> None:
    reply = api.client.post("/v1/occupations", json=_body(new_id, prevalence=prevalence))
    assert (reply.status_code, _pointers(reply.json())) == (422, ["/prevalence"])


@pytest.mark.parametrize("prevalence", [0.0001, 0.5, 0.9999])
def test_any_share_between_0_and_1_is_taken(
    api: MountedApi, new_id: str, prevalence: float
) -> None:
    reply = api.client.post("/v1/occupations", json=_body(new_id, prevalence=prevalence))
    assert reply.status_code == 202


@pytest.mark.parametrize(
    "id",
    ["", "Sommelier", "chef de rang", "-chef", "chef-", "chef@2", "métier", "a" * 65, "a\n", "a/b"],
)
def test_an_id_is_made_of_lower_case_letters_digits_and_dashes(api: MountedApi, id: str) -> None:
    reply = api.client.post("/v1/occupations", json=_body(id))
    assert (reply.status_code, _pointers(reply.json())) == (422, ["/id"])


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"name": "a\x00b"}, "/name"),
        ({"name": "a\ud800b"}, "/name"),
        ({"description": "x" * 5001}, "/description"),
        ({"description": "a\ud800b"}, "/description"),
        ({"training": {"method": "magic"}}, "/training/method"),
        ({"training": {"epochs": 3}}, "/training/epochs"),
        ({"threshold": 0.5}, "/threshold"),
        ({"examples": "Sommelier"}, "/examples"),
        ({"examples": [*in_examples(), {"text": "x"}]}, "/examples/4/label"),
        ({"examples": [*in_examples(), {"text": "x", "label": "uncertain"}]}, "/examples/4/label"),
        ({"examples": [*in_examples(), {"text": " ", "label": "in"}]}, "/examples/4/text"),
        ({"examples": [*in_examples(), {"text": "\ud800", "label": "in"}]}, "/examples/4/text"),
        ({"examples": [*in_examples(), {"text": "\x00", "label": "in"}]}, "/examples/4/text"),
    ],
)
def test_a_bad_field_is_named_by_its_pointer(
    api: MountedApi, new_id: str, changes: dict[str, Any], pointer: str
) -> None:
    # Written with escapes, as a lone surrogate has no UTF-8.
    reply = api.client.post(
        "/v1/occupations",
        content=json.dumps(_body(new_id, **changes)),
        headers={"Content-Type": "application/json"},
    )
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_fields")
    assert _pointers(reply.json()) == [pointer]


@pytest.mark.parametrize(
    "content",
    [b"", b"id=sommelier", b'{"id": ', b'{"id": "\xff"}', b"[" * 50_000],
    ids=["nothing", "a form", "cut short", "not UTF-8", "deep nesting"],
)
@pytest.mark.parametrize("path", ["/v1/occupations", "/v1/classify"])
def test_what_is_not_json_is_400_on_every_route(api: MountedApi, path: str, content: bytes) -> None:
    reply = api.client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("path", ["/v1/occupations", "/v1/classify"])
def test_a_body_without_a_type_is_taken_for_json_on_every_route(
    api: MountedApi, new_id: str, path: str
) -> None:
    bodies = {"/v1/occupations": _body(new_id), "/v1/classify": {"experiences": [{"text": "x"}]}}
    reply = api.client.post(path, content=json.dumps(bodies[path]))
    assert "content-type" not in reply.request.headers
    assert reply.status_code in (200, 202)


@pytest.mark.parametrize("path", ["/v1/occupations", "/v1/classify"])
def test_another_type_is_415_and_a_large_body_413_on_every_route(
    api: MountedApi, path: str
) -> None:
    form = api.client.post(path, content=b"a=b", headers={"Content-Type": "text/plain"})
    large = api.client.post(path, content=b" " * 200_001)
    streamed = api.client.post(path, content=_blank_chunks())
    assert (form.status_code, form.json()["code"]) == (415, "unsupported_media_type")
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    assert (streamed.status_code, streamed.json()["code"]) == (413, "body_too_large")


def test_nothing_is_accepted_before_there_is_a_queue_for_it(
    tmp_path: Path, tiny_encoder_folder: Path
) -> None:
    with mounted_api(tmp_path / "home", tiny_encoder_folder, jobs_ready=False) as starting:
        reply = starting.client.post("/v1/occupations", json=_body("sommelier"))
        assert (reply.status_code, reply.json()["code"]) == (503, "not_ready")
        assert int(reply.headers["retry-after"]) >= 1
        assert starting.client.get("/v1/occupations").json()["items"] == []
