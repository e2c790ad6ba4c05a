from __future__ import annotations

import pytest

from tests.support.mounted_api import MountedApi

CUT = "x" * 500


def test_experiences_are_answered_in_their_order(api: MountedApi, trained: str) -> None:
    reply = api.classify(
        {"id": "p1", "title": "Sommelier 1", "company": "La Treille", "occupations": [trained]},
        {"text": CUT, "occupations": [f"{trained}@1", trained]},
    )
    first, second = reply.json()
    assert reply.status_code == 200
    assert (first["id"], first["truncated"]) == ("p1", False)
    assert (second["id"], second["truncated"]) == (None, True)
    assert [score["version"] for score in second["scores"]] == [1, 3]
    assert set(first["scores"][0]) == {"occupation", "version", "score", "label", "threshold"}


def test_without_occupations_all_of_them_answer(api: MountedApi, trained: str) -> None:
    scores = api.classify({"text": "Sommelier"}).json()[0]["scores"]
    names = [score["occupation"] for score in scores]
    assert trained in names
    assert names == sorted(names)


def test_an_unknown_occupation_is_its_items_problem_and_its_neighbours_are_answered(
    api: MountedApi, trained: str
) -> None:
    reply = api.classify(
        {"text": "a", "occupations": ["nothing"]},
        {"text": "b", "occupations": [trained]},
        {"id": "p3", "text": "c", "occupations": [f"{trained}@9"]},
    )
    first, second, third = reply.json()
    assert reply.status_code == 200
    assert (first["error"]["code"], first["error"]["status"]) == ("occupation_not_found", 404)
    assert second["scores"][0]["occupation"] == trained
    assert (third["id"], third["error"]["code"]) == ("p3", "version_not_found")
    assert "scores" not in first


def test_an_occupation_that_is_being_trained_is_not_ready(api: MountedApi, new_id: str) -> None:
    api.register(new_id)
    answer = api.classify({"text": "a", "occupations": [new_id]}).json()[0]
    assert (answer["error"]["code"], answer["error"]["status"]) == ("occupation_not_ready", 409)


def test_an_occupation_that_was_deleted_is_not_found(api: MountedApi, new_id: str) -> None:
    api.add_trained(new_id)
    api.client.delete(f"/v1/occupations/{new_id}")
    api.cache.refresh()
    answer = api.classify({"text": "a", "occupations": [new_id]}).json()[0]
    assert answer["error"]["code"] == "occupation_not_found"


def test_an_explanation_shows_the_nearest_examples(api: MountedApi, trained: str) -> None:
    experience = {"text": "Sommelier 2, La Treille", "occupations": [trained], "explain": True}
    nearest = api.classify(experience).json()[0]["scores"][0]["nearest"]
    assert nearest[0] == {"text": "Sommelier 2, La Treille", "label": "in", "similarity": 1.0}


def test_the_same_text_and_version_always_get_the_same_score(api: MountedApi, trained: str) -> None:
    text = {"text": "Cheffe de rang, La Treille", "occupations": [f"{trained}@2"]}
    others = [{"text": f"autre {n} {'x' * n}", "occupations": [trained]} for n in range(31)]
    alone = api.classify(text).json()[0]["scores"]
    together = api.classify(*others[:15], text, *others[15:]).json()[15]["scores"]
    parts = {"title": "Cheffe de rang", "company": " La  Treille ", "occupations": [f"{trained}@2"]}
    assert alone == together == api.classify(parts).json()[0]["scores"]


def test_a_bad_experience_is_refused_before_the_batch_with_its_pointer(api: MountedApi) -> None:
    reply = api.classify({"text": "fine"}, {"text": ""})
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_fields")
    assert [error["pointer"] for error in reply.json()["errors"]] == ["/experiences/1/text"]


@pytest.mark.parametrize("count", [1, 256])
def test_up_to_256_experiences_are_answered(api: MountedApi, trained: str, count: int) -> None:
    reply = api.classify(*[{"text": str(n), "occupations": [trained]} for n in range(count)])
    assert [answer["truncated"] for answer in reply.json()] == [False] * count


def test_a_new_occupation_answers_as_soon_as_it_is_published(api: MountedApi, new_id: str) -> None:
    api.add_trained(new_id)
    answer = api.classify({"text": "Sommelier", "occupations": [new_id]}).json()[0]
    assert answer["scores"][0]["version"] == 1
