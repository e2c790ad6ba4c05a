"""What a new user does first: register an occupation, classify, restart."""

from __future__ import annotations

import shutil
from pathlib import Path

from service.settings import Settings
from tests.support.running_service import RunningService, running, wait_for
from tests.support.sommelier import SOMMELIER

EXPERIENCES = [
    {"id": "s", "title": "Sommelière", "company": "Le Clos", "description": "Conseil en vins."},
    {"id": "d", "title": "Data scientist", "description": "Churn models in Python."},
    {"id": "n", "title": "Infirmière de nuit", "company": "Clinique des Lilas"},
]


def test_an_occupation_is_registered_classified_and_survives_a_restart(fresh_home: Path) -> None:
    with running(fresh_home) as service:
        accepted = service.client.post("/v1/occupations", json=SOMMELIER)
        assert accepted.status_code == 202
        assert accepted.headers["location"] == f"/v1/registrations/{accepted.json()['id']}"
        finished = service.follow(accepted.json()["id"])
        assert finished["state"] == "succeeded"
        assert finished["versions"] == [{"version": 1, "method": "head", "champion": True}]

        before = service.classify(EXPERIENCES)
        sommelier = {item["id"]: _score(item, "sommelier") for item in before}
        assert sommelier["s"] > sommelier["d"]
        assert sommelier["s"] > sommelier["n"]

    with running(fresh_home) as service:
        assert service.classify(EXPERIENCES) == before
        known = service.client.get("/v1/occupations/sommelier").json()
        assert known["examples"] == {"in": 8, "out": 0}
        assert service.client.get(f"/v1/registrations/{finished['id']}").json() == finished


def test_the_bundled_occupations_are_there_after_the_first_start(service: RunningService) -> None:
    listed = service.client.get("/v1/occupations").json()["items"]
    assert {item["id"] for item in listed} >= {
        "ai-engineering",
        "data-scientist",
        "data-engineer",
        "data-architect",
        "lead-data-scientist",
        "nurse",
        "chef",
    }
    assert all(item["champion"] == 1 for item in listed)
    assert all(item["examples"] == {"in": 16, "out": 16} for item in listed)


def test_a_score_is_the_same_to_the_bit_alone_and_among_31_others(service: RunningService) -> None:
    others = [
        {"text": f"Poste {n}, secteur {n % 5}: " + "missions variées " * n} for n in range(31)
    ]
    alone = service.classify([EXPERIENCES[0]])[0]
    assert service.classify([*others[:17], EXPERIENCES[0], *others[17:]])[17] == alone


def test_an_edited_bundled_file_makes_a_new_version_at_the_next_start(
    fresh_home: Path, tmp_path: Path
) -> None:
    occupations = tmp_path / "occupations"
    shutil.copytree(Settings().occupations, occupations)
    chef = occupations / "chef.yaml"
    chef.write_text(chef.read_text().replace("prevalence: 0.02", "prevalence: 0.03"))
    environment = {"VOCATION_OCCUPATIONS": str(occupations)}
    with running(fresh_home, environment=environment) as service:
        wait_for(
            "version 2 of the edited occupation",
            lambda: service.client.get("/v1/occupations/chef").json()["champion"] == 2,
        )
        assert service.client.get("/v1/occupations/chef").json()["prevalence"] == 0.03
        assert service.client.get("/v1/occupations/nurse").json()["champion"] == 1


def _score(item: dict[str, object], occupation: str) -> float:
    scores = item["scores"]
    assert isinstance(scores, list)
    return next(float(s["score"]) for s in scores if s["occupation"] == occupation)


def test_the_serving_process_never_maps_torch(service: RunningService) -> None:
    service.classify(EXPERIENCES)
    mapped = {Path(region.path).name for region in service.worker("vocation").memory_maps()}
    assert any(name.startswith("onnxruntime") for name in mapped)
    assert not any(name.startswith("libtorch") for name in mapped)
