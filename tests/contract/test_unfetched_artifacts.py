"""What callers get while a remote artifact store does not answer, or its local cache is full."""

from __future__ import annotations

from pathlib import Path

from tests.support.mounted_api import mounted_api
from tests.support.remote_store import new_remote_url, nothing_is_fetched


def test_a_version_that_cannot_be_fetched_is_its_items_problem_and_its_neighbours_are_answered(
    tmp_path: Path, tiny_encoder_folder: Path
) -> None:
    home = tmp_path / "home"
    with mounted_api(home, tiny_encoder_folder, artifact_url=new_remote_url()) as api:
        api.add_trained("chef")
        api.add_trained("nurse", versions=2)
        asked = [{"text": "a", "occupations": ["chef"]}, {"text": "a", "occupations": ["nurse@1"]}]
        with nothing_is_fetched(home / "cache"):
            reply = api.classify(*asked)
        assert reply.status_code == 200, reply.text
        chef, nurse = reply.json()
        assert chef["scores"][0]["occupation"] == "chef"
        assert (nurse["error"]["code"], nurse["error"]["status"]) == ("version_unavailable", 503)
        chef_again, nurse = api.classify(*asked).json()
        assert chef_again == chef
        assert nurse["scores"][0]["version"] == 1
