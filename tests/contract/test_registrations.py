from __future__ import annotations

import pytest

from service.domain.types import Stage
from service.registry import registrations
from tests.support.mounted_api import MountedApi, in_examples


def test_a_registration_is_followed_from_queued_to_succeeded(api: MountedApi, new_id: str) -> None:
    id = api.register(new_id)["id"]
    path = f"/v1/registrations/{id}"
    queued = api.client.get(path)
    with api.database.write() as connection:
        registrations.advance(connection, id, Stage.HEAD, 0.1)
    running = api.client.get(path)
    api.run(id)
    done = api.client.get(path)
    states = [reply.json()["state"] for reply in (queued, running, done)]
    assert states == ["queued", "running", "succeeded"]
    assert (running.json()["stage"], running.json()["progress"]) == ("head", 0.1)
    assert [("retry-after" in r.headers) for r in (queued, running, done)] == [True, True, False]
    assert done.json()["progress"] == 1.0
    assert done.json()["versions"] == [{"version": 1, "method": "head", "champion": True}]


def test_who_reads_that_it_succeeded_finds_the_version_served(api: MountedApi, new_id: str) -> None:
    id = api.register(new_id)["id"]
    api.stages.head(id)
    api.stages.succeed(id)
    assert api.client.get(f"/v1/registrations/{id}").json()["state"] == "succeeded"
    scored = api.classify({"text": "Sommelier 3, La Treille", "occupations": [new_id]}).json()
    assert scored[0]["scores"][0]["occupation"] == new_id


def test_a_failed_registration_tells_its_problem(api: MountedApi, new_id: str) -> None:
    id = api.register(new_id)["id"]
    api.stages.fail(id, "training_failed", "Training failed", "No gradient.")
    error = api.client.get(f"/v1/registrations/{id}").json()["error"]
    api.document.validator({"$ref": "#/components/schemas/Problem"}).validate(error)
    assert (error["code"], error["detail"]) == ("training_failed", "No gradient.")


def test_a_queued_registration_is_cancelled_and_publishes_nothing(
    api: MountedApi, new_id: str
) -> None:
    id = api.register(new_id)["id"]
    reply = api.client.delete(f"/v1/registrations/{id}")
    assert (reply.status_code, reply.json()["state"]) == (200, "cancelled")
    with pytest.raises(Exception, match="cancelled"):
        api.run(id)
    assert api.client.get(f"/v1/occupations/{new_id}").json()["versions"] == []


def test_a_finished_registration_cannot_be_cancelled(api: MountedApi, new_id: str) -> None:
    id = api.register(new_id)["id"]
    api.client.delete(f"/v1/registrations/{id}")
    reply = api.client.delete(f"/v1/registrations/{id}")
    assert (reply.status_code, reply.json()["code"]) == (409, "registration_finished")


def test_registrations_are_listed_by_state_and_by_occupation(api: MountedApi, new_id: str) -> None:
    first = api.register(new_id)["id"]
    more = api.client.post(
        f"/v1/occupations/{new_id}/examples", json={"examples": in_examples(5)}
    ).json()["id"]
    api.client.delete(f"/v1/registrations/{first}")

    def listed(**query: str) -> list[str]:
        page = api.client.get("/v1/registrations", params={"limit": 500, **query}).json()
        return [item["id"] for item in page["items"]]

    assert sorted(listed(occupation=new_id)) == sorted([first, more])
    assert listed(occupation=new_id, state="cancelled") == [first]
    assert listed(occupation=new_id, state="queued") == [more]
    assert first in listed(state="cancelled")
    assert more not in listed(state="cancelled")


def test_an_unknown_state_is_an_invalid_field(api: MountedApi) -> None:
    reply = api.client.get("/v1/registrations?state=sleeping")
    assert reply.status_code == 422
    assert [error["pointer"] for error in reply.json()["errors"]] == ["/query/state"]
