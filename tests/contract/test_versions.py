from __future__ import annotations

import math
from typing import Any

import pytest
from prometheus_client import REGISTRY

from service.telemetry.predictions import SCORE_BOUNDS
from tests.support.mounted_api import MountedApi


def _champion(api: MountedApi, id: str) -> Any:
    return api.client.get(f"/v1/occupations/{id}").json()["champion"]


def test_versions_are_listed_the_newest_first_with_the_champion_marked(
    api: MountedApi, trained: str
) -> None:
    first = api.client.get(f"/v1/occupations/{trained}/versions?limit=2").json()
    rest = api.client.get(
        f"/v1/occupations/{trained}/versions",
        params={"limit": 2, "cursor": first["next_cursor"]},
    ).json()
    listed = [*first["items"], *rest["items"]]
    assert [version["version"] for version in listed] == [3, 2, 1]
    assert [version["champion"] for version in listed] == [True, False, False]
    assert rest["next_cursor"] is None


def test_an_occupation_tells_its_versions_and_its_champions_metrics(
    api: MountedApi, trained: str
) -> None:
    occupation = api.client.get(f"/v1/occupations/{trained}").json()
    champion = api.client.get(f"/v1/occupations/{trained}/versions/3").json()
    assert (occupation["versions"], occupation["champion"]) == ([1, 2, 3], 3)
    assert occupation["metrics"] == champion["metrics"]


def test_a_manifest_says_what_made_the_version(api: MountedApi, trained: str) -> None:
    version = api.client.get(f"/v1/occupations/{trained}/versions/1").json()
    manifest = version["manifest"]
    assert len(manifest["data"]["digest"]) == 64
    assert manifest["encoder"]["digest"] == version["encoder"]
    assert set(manifest) >= {"data", "encoder", "metrics", "durations_seconds", "libraries"}
    for interval in manifest["metrics"].values():
        assert interval["low"] <= interval["value"] <= interval["high"]
    assert manifest["libraries"]["onnxruntime"]


def test_a_manifest_holds_what_the_version_is_expected_to_answer(
    api: MountedApi, trained: str
) -> None:
    version = api.client.get(f"/v1/occupations/{trained}/versions/1").json()
    reference = version["manifest"]["reference"]
    assert set(reference) == {"scores", "labels"}
    assert set(reference["labels"]) == {"in", "out", "uncertain"}
    assert sum(reference["labels"].values()) == pytest.approx(1.0, abs=1e-5)
    # The bounds of the scores that are counted, so that a dashboard can show the two together.
    assert tuple(reference["scores"]) == SCORE_BOUNDS
    shares = list(reference["scores"].values())
    assert shares == sorted(shares)
    assert shares[0] >= 0.0
    assert shares[-2:] == [1.0, 1.0]


def test_the_references_of_champions_are_shown_and_of_former_ones_no_more(
    api: MountedApi, new_id: str
) -> None:
    api.add_trained(new_id, versions=2)

    def shown(number: int) -> float | None:
        labels = {"occupation": new_id, "version": str(number), "label": "uncertain"}
        return REGISTRY.get_sample_value("vocation_reference_labels", labels)

    manifest = api.client.get(f"/v1/occupations/{new_id}/versions/2").json()["manifest"]
    assert shown(2) == manifest["reference"]["labels"]["uncertain"]
    assert math.isnan(shown(1) or 0.0)


def test_other_data_have_another_digest(api: MountedApi, trained: str) -> None:
    digests = {
        api.client.get(f"/v1/occupations/{trained}/versions/{n}").json()["manifest"]["data"][
            "digest"
        ]
        for n in (1, 2, 3)
    }
    assert len(digests) == 3


def test_the_model_card_is_markdown_about_this_version(api: MountedApi, trained: str) -> None:
    reply = api.client.get(f"/v1/occupations/{trained}/versions/2/card")
    version = api.client.get(f"/v1/occupations/{trained}/versions/2").json()
    assert reply.headers["content-type"] == "text/markdown; charset=utf-8"
    assert reply.text.startswith("# ")
    assert f"`{trained}@2`" in reply.text
    assert version["encoder"] in reply.text
    assert "average precision" in reply.text
    uncertain = version["manifest"]["reference"]["labels"]["uncertain"]
    assert f"| uncertain | {uncertain:.1%} |" in reply.text
    assert "| up to 0.1 |" in reply.text
    assert "{'" not in reply.text


def test_a_version_is_promoted_and_rolled_back_at_once(api: MountedApi, new_id: str) -> None:
    api.add_trained(new_id, versions=2)
    assert _champion(api, new_id) == 2
    for number in (1, 2):
        reply = api.client.put(f"/v1/occupations/{new_id}/champion", json={"version": number})
        assert reply.json() == {"occupation": new_id, "version": number}
        scored = api.classify({"text": "Sommelier", "occupations": [new_id]}).json()
        assert scored[0]["scores"][0]["version"] == number
        assert _champion(api, new_id) == number


def test_a_version_whose_files_are_damaged_is_not_made_champion(
    api: MountedApi, new_id: str
) -> None:
    api.add_trained(new_id, versions=2)
    # Loaded, and so able to answer here; other processes and the next start are not.
    asked = {"text": "Sommelier", "occupations": [f"{new_id}@1"]}
    assert api.classify(asked).json()[0]["scores"][0]["version"] == 1
    api.damage(new_id, 1)
    reply = api.client.put(f"/v1/occupations/{new_id}/champion", json={"version": 1})
    assert (reply.status_code, reply.json()["code"]) == (503, "version_unavailable")
    assert _champion(api, new_id) == 2


@pytest.mark.parametrize("number", [0, -1, 2_147_483_648, "1", 1.5, None, True])
def test_a_champion_is_named_by_its_number(api: MountedApi, trained: str, number: object) -> None:
    reply = api.client.put(f"/v1/occupations/{trained}/champion", json={"version": number})
    assert reply.status_code == 422
    assert [error["pointer"] for error in reply.json()["errors"]] == ["/version"]
    assert _champion(api, trained) == 3


@pytest.mark.parametrize("number", ["0", "-1", "99999999999", "one"])
def test_a_version_number_in_a_path_is_a_positive_number(
    api: MountedApi, trained: str, number: str
) -> None:
    reply = api.client.get(f"/v1/occupations/{trained}/versions/{number}")
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_fields")
