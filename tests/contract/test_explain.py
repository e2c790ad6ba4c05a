"""``explain`` of ``POST /v1/classify``: the examples that speak for a score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from service.domain.types import Method
from service.inference.encoder import SideBySide
from service.registry import registrations, versions
from tests.support.make import example, head_with_examples
from tests.support.mounted_api import MountedApi, in_examples
from tests.support.tiny_split import put_tuned


def _scores(api: MountedApi, experience: dict[str, Any]) -> list[dict[str, Any]]:
    scores: list[dict[str, Any]] = api.classify(experience).json()[0]["scores"]
    return scores


def test_every_version_that_answers_explains_itself(api: MountedApi, trained: str) -> None:
    asked = {"text": "Sommelier 1, La Treille", "occupations": [f"{trained}@1", trained]}
    first, champion = _scores(api, {**asked, "explain": True})
    own = f"{trained}, exemple 1"
    # An example that was added after version 1 is none of its own.
    assert own not in [near["text"] for near in first["nearest"]]
    named = {"text": own, "occupations": [f"{trained}@1", trained], "explain": True}
    before, after = _scores(api, named)
    assert own not in [near["text"] for near in before["nearest"]]
    assert after["nearest"][0] == {"text": own, "label": "in", "similarity": 1.0}
    assert len(champion["nearest"]) == 3


def test_the_nearest_come_first_and_are_examples_of_the_occupation(
    api: MountedApi, trained: str
) -> None:
    experience = {"text": "Cheffe de rang", "occupations": [trained], "explain": True}
    (score,) = _scores(api, experience)
    similarities = [near["similarity"] for near in score["nearest"]]
    assert similarities == sorted(similarities, reverse=True)
    listed = api.client.get(f"/v1/occupations/{trained}/examples").json()["items"]
    texts = {item["text"] or f"{item['title']}, {item['company']}" for item in listed}
    assert {near["text"] for near in score["nearest"]} <= texts


def test_only_the_experience_that_asks_is_explained_and_no_score_moves(
    api: MountedApi, trained: str
) -> None:
    asked = {"text": "Cheffe de rang", "occupations": [trained]}
    plain, explained = (answer["scores"][0] for answer in _answers(api, asked))
    assert "nearest" not in plain
    assert explained.pop("nearest")
    assert plain == explained


def _answers(api: MountedApi, asked: dict[str, Any]) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = api.classify(asked, {**asked, "explain": True}).json()
    return answers


def test_a_tuned_version_explains_itself_with_its_own_embeddings(
    api: MountedApi,
    new_id: str,
    tiny_encoder_folder: Path,
    side_by_side: SideBySide,
    tmp_path: Path,
) -> None:
    api.add_trained(new_id)
    texts = [f"{item['title']}, {item['company']}" for item in in_examples()]
    top, digest = put_tuned(api.artifacts, tiny_encoder_folder, tmp_path, side_by_side, seed=5)
    tuned = replace(head_with_examples(top, [example(text) for text in texts]), bias=0.0)
    artifact = api.artifacts.put(tuned.files())
    with api.database.write() as connection:
        versions.publish(
            connection,
            occupation=new_id,
            method=Method.SETFIT,
            encoder_digest=digest,
            trunk_digest=None,
            artifact_digest=artifact,
            manifest={},
            registration=registrations.insert_registration(connection, new_id, Method.SETFIT),
            promote=False,
        )
    api.cache.refresh()
    asked = {"text": "Sommelier 2", "occupations": [f"{new_id}@1", f"{new_id}@2"]}
    base, second = _scores(api, {**asked, "explain": True})
    similarities = [
        round(float(example @ asked_for), 4)
        for *examples, asked_for in [top.encode([*texts, "Sommelier 2"]).embeddings]
        for example in examples
    ]
    assert {near["text"]: near["similarity"] for near in second["nearest"]}.items() <= dict(
        zip(texts, similarities, strict=True)
    ).items()
    assert base["nearest"] != second["nearest"]
