from __future__ import annotations

from typing import Any

import pytest

from tests.support.mounted_api import MountedApi, in_examples


def _walk(api: MountedApi, path: str, **query: str | int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    page = api.client.get(path, params=query).json()
    items.extend(page["items"])
    while page["next_cursor"] is not None:
        page = api.client.get(path, params={**query, "cursor": page["next_cursor"]}).json()
        assert page["items"]
        items.extend(page["items"])
    return items


def test_a_walk_over_the_pages_meets_every_occupation_once(api: MountedApi, new_id: str) -> None:
    ids = [f"{new_id}-{n}" for n in range(5)]
    for id in ids:
        api.register(id)
    walked = [item["id"] for item in _walk(api, "/v1/occupations", limit=2)]
    assert walked == sorted(set(walked))
    assert set(ids) <= set(walked)
    assert len(api.client.get("/v1/occupations?limit=2").json()["items"]) == 2


@pytest.mark.parametrize("path", ["/v1/occupations", "/v1/registrations"])
@pytest.mark.parametrize("limit", ["0", "501", "-1", "ten", ""])
def test_a_limit_is_1_to_500(api: MountedApi, path: str, limit: str) -> None:
    reply = api.client.get(path, params={"limit": limit})
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_fields")
    assert [error["pointer"] for error in reply.json()["errors"]] == ["/query/limit"]


@pytest.mark.parametrize("cursor", ["x", "é", "bnVsbA", "MTIz" * 100, "Ilx1ZDgwMCI", "a" * 513])
@pytest.mark.parametrize("path", ["/v1/occupations", "/v1/occupations/{id}/versions"])
def test_a_cursor_of_somebody_else_is_an_invalid_field(
    api: MountedApi, trained: str, path: str, cursor: str
) -> None:
    reply = api.client.get(path.format(id=trained), params={"cursor": cursor})
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_fields")
    assert [error["pointer"] for error in reply.json()["errors"]] == ["/query/cursor"]


def test_a_deleted_occupation_is_gone_and_its_registration_cancelled(
    api: MountedApi, new_id: str
) -> None:
    registration = api.register(new_id)
    reply = api.client.delete(f"/v1/occupations/{new_id}")
    assert (reply.status_code, reply.content) == (204, b"")
    assert api.client.get(f"/v1/occupations/{new_id}").status_code == 404
    after = api.client.get(f"/v1/registrations/{registration['id']}").json()
    assert after["state"] == "cancelled"


def test_a_deleted_id_can_be_registered_again_with_new_numbers(
    api: MountedApi, new_id: str
) -> None:
    api.add_trained(new_id)
    api.client.delete(f"/v1/occupations/{new_id}")
    api.add_trained(new_id)
    occupation = api.client.get(f"/v1/occupations/{new_id}").json()
    assert (occupation["versions"], occupation["champion"]) == ([2], 2)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/occupations/nothing", "occupation_not_found"),
        ("DELETE", "/v1/occupations/nothing", "occupation_not_found"),
        ("GET", "/v1/occupations/nothing/examples", "occupation_not_found"),
        ("POST", "/v1/occupations/nothing/examples", "occupation_not_found"),
        ("GET", "/v1/occupations/nothing/versions", "occupation_not_found"),
        ("GET", "/v1/occupations/nothing/versions/1", "occupation_not_found"),
        ("GET", "/v1/occupations/nothing/versions/1/card", "occupation_not_found"),
        ("PUT", "/v1/occupations/nothing/champion", "occupation_not_found"),
        ("GET", "/v1/occupations/a-trained-occupation/versions/4", "version_not_found"),
        ("GET", "/v1/occupations/a-trained-occupation/versions/4/card", "version_not_found"),
        ("PUT", "/v1/occupations/a-trained-occupation/champion", "version_not_found"),
        ("GET", "/v1/registrations/nothing", "registration_not_found"),
        ("DELETE", "/v1/registrations/nothing", "registration_not_found"),
        ("GET", "/v1/nothing", "not_found"),
        ("GET", "/v1/occupations/%00", "occupation_not_found"),
        ("GET", "/v1/occupations/%ED%A0%80", "occupation_not_found"),
    ],
)
def test_what_is_not_there_is_404_with_its_own_code(
    api: MountedApi, trained: str, method: str, path: str, code: str
) -> None:
    bodies = {"POST": {"examples": in_examples()}, "PUT": {"version": 4}}
    reply = api.client.request(method, path, json=bodies.get(method))
    assert (reply.status_code, reply.json()["code"]) == (404, code)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/occupations", {"GET", "POST"}),
        ("PATCH", "/v1/occupations/x", {"GET", "DELETE"}),
        ("POST", "/v1/registrations", {"GET"}),
    ],
)
def test_another_method_is_405_and_told_which_are_allowed(
    api: MountedApi, method: str, path: str, allowed: set[str]
) -> None:
    reply = api.client.request(method, path)
    assert (reply.status_code, reply.json()["code"]) == (405, "method_not_allowed")
    told = {each.strip() for each in reply.headers["allow"].split(",")} - {"HEAD"}
    assert told == allowed


def test_examples_are_listed_as_they_were_sent(api: MountedApi, new_id: str) -> None:
    sent = [
        *in_examples(3),
        {"title": "Caviste", "description": "Conseil.", "label": "in"},
        {"text": "Serveur, Brasserie des Arts", "label": "out", "suggested": True},
    ]
    api.register(new_id, sent)
    listed = _walk(api, f"/v1/occupations/{new_id}/examples", limit=2)
    blank = {"title": None, "company": None, "description": None, "text": None, "suggested": False}
    assert [{k: v for k, v in item.items() if k != "id"} for item in listed] == [
        {**blank, **example} for example in sent
    ]
    assert len({item["id"] for item in listed}) == 5


def test_more_examples_are_added_or_correct_earlier_ones_and_train_again(
    api: MountedApi, new_id: str
) -> None:
    api.register(new_id, in_examples(5))
    corrections = [
        {"text": "Sommelier 0, La Treille", "label": "out"},
        {"text": "Caviste", "label": "in"},
    ]
    reply = api.client.post(f"/v1/occupations/{new_id}/examples", json={"examples": corrections})
    assert reply.status_code == 202
    assert reply.headers["location"] == f"/v1/registrations/{reply.json()['id']}"
    assert (reply.json()["occupation"], reply.json()["state"]) == (new_id, "queued")
    occupation = api.client.get(f"/v1/occupations/{new_id}").json()
    assert occupation["examples"] == {"in": 5, "out": 1}


def test_corrections_that_leave_too_few_in_examples_change_nothing(
    api: MountedApi, new_id: str
) -> None:
    api.register(new_id, in_examples(4))
    body = {"examples": [{**in_examples(1)[0], "label": "out"}]}
    reply = api.client.post(f"/v1/occupations/{new_id}/examples", json=body)
    assert reply.status_code == 422
    assert [error["pointer"] for error in reply.json()["errors"]] == ["/examples"]
    occupation = api.client.get(f"/v1/occupations/{new_id}").json()
    assert occupation["examples"] == {"in": 4, "out": 0}


def test_more_than_2000_examples_in_all_are_refused(api: MountedApi, new_id: str) -> None:
    api.register(new_id, in_examples(1500))
    more = [{"text": f"Caviste {n}", "label": "in"} for n in range(501)]
    reply = api.client.post(f"/v1/occupations/{new_id}/examples", json={"examples": more})
    assert reply.status_code == 422
    assert [error["pointer"] for error in reply.json()["errors"]] == ["/examples"]


def test_contradicting_new_examples_are_named_by_pointer(api: MountedApi, new_id: str) -> None:
    api.register(new_id)
    body = {"examples": [{"text": "x", "label": "in"}, {"text": " x", "label": "out"}]}
    reply = api.client.post(f"/v1/occupations/{new_id}/examples", json=body)
    assert [error["pointer"] for error in reply.json()["errors"]] == [
        "/examples/0/label",
        "/examples/1/label",
    ]


def test_adding_examples_honours_the_idempotency_key(api: MountedApi, new_id: str) -> None:
    api.register(new_id)
    path, headers = f"/v1/occupations/{new_id}/examples", {"Idempotency-Key": "more"}
    body = {"examples": [{"text": "Caviste", "label": "in"}]}
    first = api.client.post(path, json=body, headers=headers)
    second = api.client.post(path, json=body, headers=headers)
    other = api.client.post(path, json={"examples": in_examples()}, headers=headers)
    assert first.json()["id"] == second.json()["id"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
