"""``POST /v1/occupations/{id}/suggest``: the loop of suggest, label, add examples."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest

from service.inference.suggestions import WHY
from service.telemetry import metrics
from tests.contract.test_openapi import DOCUMENT
from tests.support.mounted_api import MAX_BODY_BYTES, MountedApi

SECRET = "confidentiel-7171"
POOL = [{"id": f"p{n}", "title": f"Poste {n}", "company": f"Maison {n * n}"} for n in range(30)]


def _suggest(
    api: MountedApi, id: str, experiences: list[dict[str, Any]], **fields: Any
) -> httpx.Response:
    body = {"experiences": experiences, **fields}
    return api.client.post(f"/v1/occupations/{id}/suggest", json=body)


def test_the_most_useful_are_named_by_place_and_id_with_the_reason(
    api: MountedApi, trained: str
) -> None:
    reply = _suggest(api, trained, POOL, limit=5)
    suggested = reply.json()
    assert reply.status_code == 200
    assert (suggested["occupation"], suggested["version"]) == (trained, 3)
    assert (suggested["skipped"], suggested["repeated"]) == (0, 0)
    assert len(suggested["items"]) == 5
    assert [item["id"] for item in suggested["items"]] == [
        POOL[item["index"]]["id"] for item in suggested["items"]
    ]
    for item in suggested["items"]:
        assert item["why"] == WHY[item["reason"]]


def test_sixteen_are_suggested_unless_told_otherwise(api: MountedApi, trained: str) -> None:
    assert len(_suggest(api, trained, POOL).json()["items"]) == 16


def test_scores_and_labels_are_those_of_classify(api: MountedApi, trained: str) -> None:
    items = _suggest(api, trained, POOL, version=2).json()["items"]
    asked = [{**POOL[item["index"]], "occupations": [f"{trained}@2"]} for item in items]
    scores = [answer["scores"][0] for answer in api.classify(*asked).json()]
    assert [(item["score"], item["label"]) for item in items] == [
        (score["score"], score["label"]) for score in scores
    ]


def test_an_id_is_returned_as_it_came_and_may_be_left_out(api: MountedApi, trained: str) -> None:
    items = _suggest(api, trained, [{"text": "a"}, {"id": "", "text": "b"}]).json()["items"]
    assert {item["index"]: item["id"] for item in items} == {0: None, 1: ""}


def test_what_was_labelled_is_not_suggested_again(api: MountedApi, new_id: str) -> None:
    api.add_trained(new_id)
    items = _suggest(api, new_id, POOL, limit=4).json()["items"]
    labelled = [
        {
            "title": POOL[i["index"]]["title"],
            "company": POOL[i["index"]]["company"],
            "label": "out",
            "suggested": True,
        }
        for i in items
    ]
    examples = f"/v1/occupations/{new_id}/examples"
    registration = api.client.post(examples, json={"examples": labelled}).json()
    # Left out from the moment that they are stored, before any version has learnt from them.
    again = _suggest(api, new_id, POOL, limit=4).json()
    assert (again["version"], again["skipped"]) == (1, 4)
    assert not {i["index"] for i in again["items"]} & {i["index"] for i in items}
    api.run(registration["id"])
    assert _suggest(api, new_id, POOL, limit=4).json()["version"] == 2
    version = api.client.get(f"/v1/occupations/{new_id}/versions/2").json()
    assert version["manifest"]["data"]["suggested"] == 4


def test_nothing_of_the_pool_is_stored_or_comes_back_or_is_logged(
    api: MountedApi, trained: str, caplog: pytest.LogCaptureFixture
) -> None:
    def stored() -> Any:
        return [
            api.client.get(f"/v1/occupations/{trained}/examples").json(),
            api.client.get(f"/v1/occupations/{trained}").json(),
            api.client.get("/v1/registrations").json(),
        ]

    before = stored()
    with caplog.at_level(logging.DEBUG):
        replies = [
            _suggest(api, trained, [{"text": SECRET}, {"title": SECRET, "company": SECRET}]),
            _suggest(api, trained, [{"text": SECRET, SECRET: SECRET}]),
            _suggest(api, f"nothing-{trained}", [{"text": SECRET}]),
        ]
    assert [reply.status_code for reply in replies] == [200, 422, 404]
    assert SECRET not in replies[0].text + replies[2].text
    assert SECRET not in caplog.text
    # An unknown field is named, as everywhere; what it held is not.
    assert SECRET not in replies[1].json()["errors"][0]["detail"]
    samples = [s for metric in metrics.ALL for family in metric.collect() for s in family.samples]
    assert SECRET not in str(samples)
    assert stored() == before


@pytest.mark.parametrize(
    ("id", "fields", "status", "code"),
    [
        ("nothing", {}, 404, "occupation_not_found"),
        ("nothing", {"version": 1}, 404, "occupation_not_found"),
        ("a-trained-occupation@1", {}, 404, "occupation_not_found"),
        ("%ED%A0%80", {}, 404, "occupation_not_found"),
        ("a-trained-occupation", {"version": 4}, 404, "version_not_found"),
    ],
)
def test_what_is_not_there_is_404_with_its_own_code(
    api: MountedApi, trained: str, id: str, fields: dict[str, Any], status: int, code: str
) -> None:
    reply = _suggest(api, id, [{"text": "x"}], **fields)
    assert (reply.status_code, reply.json()["code"]) == (status, code)


def test_an_occupation_that_is_being_trained_is_not_ready(api: MountedApi, new_id: str) -> None:
    api.register(new_id)
    reply = _suggest(api, new_id, [{"text": "x"}])
    assert (reply.status_code, reply.json()["code"]) == (409, "occupation_not_ready")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/experiences"),
        ({"experiences": []}, "/experiences"),
        ({"experiences": [{"text": "x"}] * 1001}, "/experiences"),
        ({"experiences": [{"text": "x"}, {"text": " "}]}, "/experiences/1/text"),
        ({"experiences": [{"text": "x" * 10_001}]}, "/experiences/0/text"),
        ({"experiences": [{"text": "x", "label": "in"}]}, "/experiences/0/label"),
        ({"experiences": [{"text": "x", "occupations": ["y"]}]}, "/experiences/0/occupations"),
        ({"experiences": [{"text": "x", "explain": True}]}, "/experiences/0/explain"),
        ({"experiences": [{"text": "x", "id": "y" * 257}]}, "/experiences/0/id"),
        ({"experiences": [{"text": "x"}], "limit": 0}, "/limit"),
        ({"experiences": [{"text": "x"}], "limit": 101}, "/limit"),
        ({"experiences": [{"text": "x"}], "limit": "3"}, "/limit"),
        ({"experiences": [{"text": "x"}], "version": 0}, "/version"),
        ({"experiences": [{"text": "x"}], "strategy": "best"}, "/strategy"),
    ],
)
def test_a_bad_field_is_named_by_its_pointer(
    api: MountedApi, trained: str, body: dict[str, Any], pointer: str
) -> None:
    reply = api.client.post(f"/v1/occupations/{trained}/suggest", json=body)
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_fields")
    assert [error["pointer"] for error in reply.json()["errors"]] == [pointer]


def test_a_thousand_experiences_are_looked_through(api: MountedApi, trained: str) -> None:
    pool = [{"text": f"Poste {n}"} for n in range(1000)]
    suggested = _suggest(api, trained, pool, limit=100).json()
    assert len({item["index"] for item in suggested["items"]}) == 100


def test_the_body_is_bounded_as_every_other(api: MountedApi, trained: str) -> None:
    pool = [{"text": "x" * 9000}] * (MAX_BODY_BYTES // 9000 + 1)
    reply = _suggest(api, trained, pool)
    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")
    path = f"/v1/occupations/{trained}/suggest"
    plain = api.client.post(path, content="{}", headers={"Content-Type": "text/plain"})
    assert (plain.status_code, plain.json()["code"]) == (415, "unsupported_media_type")
    empty = api.client.post(path)
    assert (empty.status_code, empty.json()["code"]) == (400, "invalid_json")


def test_another_method_is_405_and_told_which_is_allowed(api: MountedApi, trained: str) -> None:
    reply = api.client.get(f"/v1/occupations/{trained}/suggest")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")


def test_the_documents_example_can_be_sent_as_it_is(api: MountedApi, trained: str) -> None:
    operation = DOCUMENT.operations()["POST", "/v1/occupations/{id}/suggest"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    reply = api.client.post(f"/v1/occupations/{trained}/suggest", json=example)
    assert reply.status_code == 200
    shown = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert len(reply.json()["items"]) == len(shown["items"]) == example["limit"]
