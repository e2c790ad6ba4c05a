from __future__ import annotations

import pytest

from service.api.paths import UNKNOWN_PATH
from tests.support.asgi import call
from tests.support.edge import PATHS, echo, edge


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/v1/things", "/v1/things"),
        ("/v1/things/7", "/v1/things/{id}"),
        ("/v1/things/été", "/v1/things/{id}"),
        ("/v1/things/7/parts/3", "/v1/things/{id}/parts/{number}"),
        ("/v1/things/", UNKNOWN_PATH),
        ("/v1/things/7/parts", UNKNOWN_PATH),
        ("/v1/things/7/8", UNKNOWN_PATH),
        ("/wp-login.php", UNKNOWN_PATH),
        ("", UNKNOWN_PATH),
    ],
)
def test_a_path_is_labelled_by_its_template_alone(path: str, label: str) -> None:
    reply = call(edge(echo), path=path)
    assert (reply.json["label"], reply.json["path"]) == (label, path)


def test_whatever_is_asked_there_are_few_labels() -> None:
    asked = [f"/v1/things/{n}" for n in range(500)] + [f"/{n}" for n in range(500)]
    assert {PATHS.label(path) for path in asked} == {"/v1/things/{id}", UNKNOWN_PATH}
