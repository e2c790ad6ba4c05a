"""Every route with every kind of key, against the one table of routes and scopes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from service.api.access import ACCESS
from service.api.app import BUILT_IN_PATHS, create_app, path_table
from service.api.openapi import openapi_document
from service.domain.keys import KeyScope, make_key
from service.registry import keys
from service.registry.database import Database
from service.settings import Settings
from tests.support.keys import add_key, bearer
from tests.support.mounted_api import MountedApi, mounted_api
from tests.support.openapi import Document
from tests.support.running_service import wait_for

DOCUMENT = Document(openapi_document(create_app()))
DOCUMENTED = list(DOCUMENT.operations())
PAGES = [("GET", path) for path in (*BUILT_IN_PATHS, "/openapi.json", "/docs")]
OPEN = {route for route, scope in ACCESS.items() if scope is None}
# What no line of the table names: pages of BentoML's own, other methods, nothing at all.
UNNAMED = [
    ("GET", "/schema.json"),
    ("GET", "/docs.json"),
    ("GET", "/static_content/index.css"),
    ("GET", "/nothing/here"),
    ("GET", "/v1"),
    ("GET", "/v1/classify"),
    ("GET", "/v1/occupations/"),
    ("GET", "/V1/occupations"),
    ("GET", "/docs/%2E%2E/v1/occupations"),
    ("GET", "/docs/assets/%2E%2E/%2E%2E/v1/occupations"),
    ("GET", "/v1/occupations%0A"),
    ("GET", "/livez/"),
    ("POST", "/livez"),
    ("DELETE", "/docs"),
    ("PATCH", "/v1/occupations/nothing"),
    ("OPTIONS", "/v1/occupations"),
    ("PROPFIND", "/"),
]
ROUTES = sorted({*DOCUMENTED, *PAGES, *UNNAMED})

NO_KEY = ("no key", "wrong key", "revoked", "expired")
# What each key may do, told here and not by the code under test.
HOLDS = {
    "classify": {"classify"},
    "register": {"classify", "register"},
    "admin": {"classify", "register", "admin"},
}


@pytest.fixture(scope="module")
def headers() -> dict[str, dict[str, str]]:
    """The header of each kind of caller; filled when the service has its keys."""
    return {}


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_encoder_folder: Path,
    headers: dict[str, dict[str, str]],
) -> Iterator[MountedApi]:
    """A service whose registry has keys of every kind."""
    home = tmp_path_factory.mktemp("guarded")
    database = Database(Settings(home=home).resolved_database_url)
    database.create_schema()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    headers["no key"] = {}
    headers["wrong key"] = bearer(make_key().text)
    headers["expired"] = bearer(add_key(database, "expired", KeyScope.ADMIN, expires_at=yesterday))
    headers["revoked"] = bearer(add_key(database, "revoked", KeyScope.ADMIN))
    with database.write() as connection:
        keys.revoke_key(connection, "revoked")
    for scope in KeyScope:
        headers[scope.value] = bearer(add_key(database, scope.value, scope))
    database.close()
    with mounted_api(home, tiny_encoder_folder) as mounted:
        yield mounted


def _expected(method: str, template: str, caller: str) -> set[int]:
    """The statuses of a refusal, or none at all."""
    if (method, template) in OPEN:
        return set()
    if caller in NO_KEY:
        return {401}
    needed = ACCESS.get((method, template))
    return set() if needed is None or needed.value in HOLDS[caller] else {403}


def _send(api: MountedApi, method: str, template: str, header: dict[str, str]) -> httpx.Response:
    path = template.format(id="nothing", number=1, example_id=1)
    body: dict[str, str] | None = {} if method in ("POST", "PUT") else None
    return api.client.request(method, path, headers=header, json=body)


@pytest.mark.parametrize("caller", [*NO_KEY, *HOLDS])
@pytest.mark.parametrize(("method", "template"), ROUTES)
def test_each_route_answers_each_caller_as_the_table_says(
    guarded: MountedApi, headers: dict[str, dict[str, str]], method: str, template: str, caller: str
) -> None:
    reply = _send(guarded, method, template, headers[caller])
    refused = _expected(method, template, caller)
    if not refused:
        assert reply.status_code not in (401, 403, 429)
        assert reply.status_code < 500
        return
    assert {reply.status_code} == refused
    code = {401: "unauthenticated", 403: "forbidden"}[reply.status_code]
    assert reply.json()["code"] == code
    assert reply.headers["www-authenticate"].startswith('Bearer realm="vocation"')


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/occupations", "classify"),
        ("GET", "/v1/registrations", "classify"),
        ("GET", "/openapi.json", "classify"),
    ],
)
def test_who_is_admitted_is_answered(
    guarded: MountedApi, headers: dict[str, dict[str, str]], method: str, path: str, scope: str
) -> None:
    assert _send(guarded, method, path, headers[scope]).status_code == 200


def test_classify_is_answered_with_its_scope_alone(
    guarded: MountedApi, headers: dict[str, dict[str, str]]
) -> None:
    reply = guarded.client.post(
        "/v1/classify", json={"experiences": [{"text": "Serveur"}]}, headers=headers["classify"]
    )
    assert (reply.status_code, reply.json()[0]["scores"]) == (200, [])


def test_what_is_there_and_what_is_not_look_the_same_without_a_key(guarded: MountedApi) -> None:
    def seen(path: str) -> dict[str, str]:
        problem = guarded.client.get(path).json()
        return {k: v for k, v in problem.items() if k not in ("instance", "request_id")}

    paths = ["/v1/occupations", "/v1/occupations/nothing", "/v1/nothing", "/v1/classify", "/x"]
    assert all(seen(path) == seen(paths[0]) for path in paths)


def test_every_documented_route_has_a_line_in_the_table() -> None:
    assert set(DOCUMENTED) <= set(ACCESS)


def test_every_line_of_the_table_is_a_route() -> None:
    table = path_table(create_app())
    assert [route for route in ACCESS if route[0] not in table.methods(route[1])] == []


def test_what_is_open_is_probes_metrics_and_the_documentation() -> None:
    assert {method for method, _ in OPEN} == {"GET"}
    assert sorted(path for _, path in OPEN) == [
        "/",
        "/docs",
        "/docs/assets/{file}",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi.json",
        "/readyz",
    ]


@pytest.mark.parametrize(("method", "path"), DOCUMENTED)
def test_the_document_tells_the_scope_of_each_operation_and_its_refusals(
    method: str, path: str
) -> None:
    operation = DOCUMENT.operations()[method, path]
    needed = ACCESS[method, path]
    refusals = set(operation["responses"]) & {"401", "403", "429"}
    if path == "/metrics":
        assert operation["security"] == [{}, {"key": ["admin"]}]
        assert refusals == {"401", "403", "429"}
    elif needed is None:
        assert operation["security"] == []
        assert refusals == set()
    else:
        assert operation["security"] == [{"key": [needed.value]}]
        assert f"`{needed.value}`" in operation["description"]
        every_key_may = needed is KeyScope.CLASSIFY
        assert refusals == ({"401", "429"} if every_key_may else {"401", "403", "429"})


def test_the_document_names_the_way_to_send_a_key() -> None:
    scheme = DOCUMENT.content["components"]["securitySchemes"]["key"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")


def test_a_key_is_created_and_revoked_while_the_service_runs(guarded: MountedApi) -> None:
    def status(text: str) -> int:
        return guarded.client.get("/v1/occupations", headers=bearer(text)).status_code

    text = add_key(guarded.database, "new", KeyScope.CLASSIFY)
    wait_for("the new key to be valid", lambda: status(text) == 200, 5)
    with guarded.database.write() as connection:
        keys.revoke_key(connection, "new")
    wait_for("the revoked key to be refused", lambda: status(text) == 401, 5)


def test_too_many_requests_with_a_key_are_a_problem_that_says_when_to_come_back(
    guarded: MountedApi,
) -> None:
    text = add_key(guarded.database, "slow", KeyScope.CLASSIFY, requests_per_minute=3)

    def ask() -> httpx.Response:
        return guarded.client.get("/v1/occupations", headers=bearer(text))

    def admitted() -> httpx.Response | None:
        reply = ask()
        return reply if reply.is_success else None

    first = wait_for("the new key to be valid", admitted, 5)
    assert (first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == ("3", "2")
    replies = [ask() for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    refused = replies[-1]
    assert refused.json()["code"] == "rate_limited"
    assert refused.headers["ratelimit-remaining"] == "0"
    assert 0 < int(refused.headers["retry-after"]) <= 20
    assert 0 < int(refused.headers["ratelimit-reset"]) <= 60


def test_the_first_key_shuts_a_service_that_was_open(
    tmp_path: Path, tiny_encoder_folder: Path
) -> None:
    with mounted_api(tmp_path / "home", tiny_encoder_folder) as opened:
        assert opened.client.get("/v1/occupations").status_code == 200
        text = add_key(opened.database, "first", KeyScope.ADMIN)
        wait_for(
            "the service to be shut",
            lambda: opened.client.get("/v1/occupations").status_code == 401,
            5,
        )
        with opened.database.write() as connection:
            keys.revoke_key(connection, "first")
        wait_for(
            "the revoked key to be refused",
            lambda: opened.client.get("/v1/occupations", headers=bearer(text)).status_code == 401,
            5,
        )
        assert opened.client.get("/v1/occupations").status_code == 401


def test_a_service_whose_only_key_is_revoked_starts_shut(
    tmp_path: Path, tiny_encoder_folder: Path
) -> None:
    home = tmp_path / "home"
    database = Database(Settings(home=home).resolved_database_url)
    database.create_schema()
    add_key(database, "gone", KeyScope.ADMIN)
    with database.write() as connection:
        keys.revoke_key(connection, "gone")
    database.close()
    with mounted_api(home, tiny_encoder_folder) as started:
        assert started.client.get("/v1/occupations").status_code == 401
