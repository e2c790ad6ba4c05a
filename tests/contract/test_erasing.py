from __future__ import annotations

import pytest

from service.registry.erasing import finish_erasures
from tests.support.bytes_at_rest import files_with
from tests.support.mounted_api import MountedApi, in_examples


def _examples(api: MountedApi, id: str) -> dict[str, int]:
    items = api.client.get(f"/v1/occupations/{id}/examples").json()["items"]
    return {item["title"] or item["text"]: item["id"] for item in items}


def _erase(api: MountedApi, id: str, example: object) -> int:
    reply = api.client.delete(f"/v1/occupations/{id}/examples/{example}")
    return reply.status_code


def _marks(api: MountedApi, id: str) -> dict[int, int]:
    items = api.client.get(f"/v1/occupations/{id}/versions").json()["items"]
    return {item["version"]: item["erased_examples"] for item in items}


def test_an_erased_example_is_gone_and_its_versions_say_so(api: MountedApi, new_id: str) -> None:
    api.add_trained(new_id, versions=2)
    before = api.classify({"text": "Caviste", "occupations": [new_id]}).content
    added = f"{new_id}, exemple 1"
    assert _marks(api, new_id) == {1: 0, 2: 0}
    assert _erase(api, new_id, _examples(api, new_id)[added]) == 204
    assert added not in _examples(api, new_id)
    assert _marks(api, new_id) == {1: 0, 2: 1}
    assert api.classify({"text": "Caviste", "occupations": [new_id]}).content == before
    version = api.client.get(f"/v1/occupations/{new_id}/versions/2").json()
    assert version["erased_examples"] == 1
    cards = [
        api.client.get(f"/v1/occupations/{new_id}/versions/{number}/card").text for number in (1, 2)
    ]
    assert ["erased since" in card for card in cards] == [False, True]


def test_explain_no_longer_shows_an_erased_example(api: MountedApi, new_id: str) -> None:
    api.add_trained(new_id)
    asked = {"title": "Sommelier 0", "company": "La Treille", "occupations": [new_id]}

    def nearest() -> list[str]:
        (answer,) = api.classify({**asked, "explain": True}).json()
        return [each["text"] for each in answer["scores"][0]["nearest"]]

    assert nearest()[0] == "Sommelier 0, La Treille"
    assert _erase(api, new_id, _examples(api, new_id)["Sommelier 0"]) == 204
    assert nearest()
    assert not any("Sommelier 0" in text for text in nearest())


def test_every_example_may_be_erased_and_the_champion_goes_on(api: MountedApi, new_id: str) -> None:
    api.add_trained(new_id)
    for example in _examples(api, new_id).values():
        assert _erase(api, new_id, example) == 204
    occupation = api.client.get(f"/v1/occupations/{new_id}").json()
    assert (occupation["examples"], occupation["champion"]) == ({"in": 0, "out": 0}, 1)
    assert _marks(api, new_id) == {1: 4}
    assert api.classify({"text": "Caviste", "occupations": [new_id]}).json()[0]["scores"]
    # The next version wants as many as the first did.
    path = f"/v1/occupations/{new_id}/examples"
    assert api.client.post(path, json={"examples": in_examples(3)}).status_code == 422
    api.run(api.client.post(path, json={"examples": in_examples(4)}).json()["id"])
    assert _marks(api, new_id) == {1: 4, 2: 0}


def test_while_a_registration_runs_erasing_is_a_409_until_it_is_cancelled(
    api: MountedApi, new_id: str
) -> None:
    registration = api.register(new_id)
    example = _examples(api, new_id)["Sommelier 0"]
    reply = api.client.delete(f"/v1/occupations/{new_id}/examples/{example}")
    assert (reply.status_code, reply.json()["code"]) == (409, "occupation_busy")
    assert "Sommelier 0" in _examples(api, new_id)
    api.client.delete(f"/v1/registrations/{registration['id']}")
    assert _erase(api, new_id, example) == 204


def test_an_example_is_erased_once(api: MountedApi, new_id: str, trained: str) -> None:
    api.add_trained(new_id)
    example = _examples(api, new_id)["Sommelier 0"]
    path = f"/v1/occupations/{{}}/examples/{example}"
    for occupation in (trained, new_id, new_id):
        reply = api.client.delete(path.format(occupation))
        erased = occupation == new_id and reply.status_code == 204
        assert erased or reply.json()["code"] == "example_not_found"
    assert reply.status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/occupations/nothing/examples/1", 404, "occupation_not_found"),
        ("/v1/occupations/a-trained-occupation/examples/999999", 404, "example_not_found"),
        ("/v1/occupations/a-trained-occupation/examples/0", 422, "invalid_fields"),
        ("/v1/occupations/a-trained-occupation/examples/one", 422, "invalid_fields"),
        (f"/v1/occupations/a-trained-occupation/examples/{2**63}", 422, "invalid_fields"),
    ],
)
def test_what_cannot_be_erased_is_told_apart(
    api: MountedApi, trained: str, path: str, status: int, code: str
) -> None:
    reply = api.client.delete(path)
    assert (reply.status_code, reply.json()["code"]) == (status, code)


def test_after_a_deleted_occupation_no_byte_of_its_texts_stays(
    api: MountedApi, new_id: str
) -> None:
    """Neither in the registry, nor in the queue's tables, nor in an artifact."""
    marker = f"MARK-{new_id}"
    examples = [{"text": f"{marker} {number}", "label": "in"} for number in range(4)]
    reply = api.client.post(
        "/v1/occupations",
        json={"id": new_id, "examples": examples},
        headers={"Idempotency-Key": new_id},
    )
    api.run(reply.json()["id"])
    assert api.database.file is not None
    home = api.database.file.parent
    assert files_with(marker.encode(), home)
    assert api.client.delete(f"/v1/occupations/{new_id}").status_code == 204
    assert finish_erasures(api.database)
    assert files_with(marker.encode(), home) == []
