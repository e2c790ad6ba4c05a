"""Keys on real processes: every address, two API workers, made and revoked while they run."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from service.api.access import ACCESS
from service.domain.keys import make_key
from service.settings import PROJECT_ROOT
from tests.support.bytes_at_rest import contents
from tests.support.keys import bearer
from tests.support.running_service import BIN, SERVE, RunningService, free_port, running, wait_for

EVERYWHERE = "0.0.0.0"  # noqa: S104  # what the service must refuse, or say loudly
ONE = {"experiences": [{"text": "Cheffe de cuisine", "occupations": ["chef"]}]}
# Served by BentoML beside our routes, and ways to write a path that a check could take for another.
PAGES = [
    ("GET", "/schema.json"),
    ("GET", "/docs.json"),
    ("GET", "/static_content/index.css"),
    ("GET", "/static_content/swagger-ui-bundle.js"),
    ("GET", "/assets/index.js"),
    ("GET", "/index.html"),
    ("POST", "/schema.json"),
    ("POST", "/v1/classify/submit"),
    ("GET", "/v1/classify/status?task_id=1"),
    ("GET", "/is_alive"),
    ("GET", "/__batch__"),
    ("GET", "/nothing"),
    ("GET", "/v1/occupations/"),
    ("GET", "//v1/occupations"),
    ("GET", "/./v1/occupations"),
    ("GET", "/docs/../v1/occupations"),
    ("GET", "/docs/assets/..%2f..%2fv1/occupations"),
    ("GET", "/livez/../v1/occupations"),
    ("GET", "/livez%2f..%2fv1%2foccupations"),
    ("GET", "/livez;/v1/occupations"),
    ("GET", "/v1/occupations%00"),
    ("GET", "/v1/%6fccupations/"),
    ("PATCH", "/v1/occupations"),
    ("OPTIONS", "/v1/occupations"),
    ("TRACE", "/v1/occupations"),
    ("POST", "/livez"),
    ("POST", "/metrics"),
]
NO_KEY = ("no key", "wrong key", "revoked")
HOLDS = {
    "classify": {"classify"},
    "register": {"classify", "register"},
    "admin": {"classify", "register", "admin"},
}
# VOCATION_METRICS_OPEN=false.
RULES = {route: scope and scope.value for route, scope in ACCESS.items()}
RULES["GET", "/metrics"] = "admin"


def vocation_keys(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "vocation"), "keys", *arguments],
        env={**os.environ, "VOCATION_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def create(home: Path, name: str, *options: str) -> str:
    made = vocation_keys(home, "create", "--name", name, *options)
    assert made.returncode == 0, made.stderr
    return made.stdout.splitlines()[-1]


@dataclass(frozen=True, slots=True)
class Guarded:
    """A running service and the texts of its keys."""

    service: RunningService
    keys: dict[str, str] = field(default_factory=dict)

    def create(self, name: str, *options: str) -> str:
        self.keys[name] = create(self.service.home, name, *options)
        return self.keys[name]

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: str = ""
    ) -> http.client.HTTPResponse:
        """Send a path as it is written, over a connection of its own: any worker may take it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=60)
        connection.request(method, path, body=body or None, headers=dict(headers))
        reply = connection.getresponse()
        reply.read()
        connection.close()
        return reply

    def everywhere(self, status: int, text: str | None) -> None:
        """Wait until every worker answers with this status."""
        headers = {} if text is None else bearer(text)
        wait_for(
            f"{status} from every worker",
            lambda: all(
                self.ask("GET", "/v1/occupations", headers).status == status for _ in range(20)
            ),
            30,
        )


@pytest.fixture(scope="module")
def guarded(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Two API workers on a home from before there were keys; the keys are made while they run."""
    home = tmp_path_factory.mktemp("guarded") / "home"
    shutil.copytree(prepared_home, home)
    with sqlite3.connect(home / "registry.sqlite") as connection:
        connection.execute("DROP TABLE keys")
    connection.close()
    environment = {
        "VOCATION_API_WORKERS": "2",
        "VOCATION_METRICS_OPEN": "false",
        "VOCATION_LOG_LEVEL": "debug",
        "VOCATION_LOG_FORMAT": "json",
    }
    with running(home, environment=environment) as service:
        started = Guarded(service)
        assert started.ask("GET", "/v1/occupations", {}).status == 200
        for scope in HOLDS:
            started.create(scope, "--scope", scope)
        revoked = started.create("revoked", "--scope", "admin")
        # Keys are read all together, and this one was made last: whoever knows it knows the others.
        started.everywhere(200, revoked)
        assert vocation_keys(home, "revoke", "revoked").returncode == 0
        started.everywhere(401, revoked)
        started.everywhere(401, None)
        yield started


def _header(guarded: Guarded, caller: str) -> dict[str, str]:
    if caller == "no key":
        return {}
    return bearer(make_key().text if caller == "wrong key" else guarded.keys[caller])


def _is_refused(method: str, template: str, caller: str) -> int | None:
    needed = RULES.get((method, template), "classify")
    if needed is None:
        return None
    if caller in NO_KEY:
        return 401
    return None if needed in HOLDS[caller] else 403


@pytest.mark.parametrize("caller", [*NO_KEY, *HOLDS])
def test_every_address_answers_each_caller_as_the_table_says(guarded: Guarded, caller: str) -> None:
    wrong = []
    for method, template in [*RULES, *PAGES]:
        path = template.format(id="nothing", number=1, example_id=1, file="swagger-ui.css")
        body = "{}" if method in ("POST", "PUT") else ""
        reply = guarded.ask(method, path, _header(guarded, caller), body)
        refused = _is_refused(method, template, caller)
        told = reply.status if reply.status in (401, 403, 429) or reply.status >= 500 else None
        if told != refused:
            wrong.append((method, template, reply.status))
        elif refused is not None:
            assert reply.headers["content-type"] == "application/problem+json"
            assert reply.headers["www-authenticate"]
            assert reply.headers["x-request-id"]
    assert wrong == []


def test_a_native_route_answers_with_its_scope(guarded: Guarded) -> None:
    for caller in HOLDS:
        headers = {"Content-Type": "application/json", **_header(guarded, caller)}
        assert guarded.ask("POST", "/v1/classify", headers, json.dumps(ONE)).status == 200


def test_a_large_body_without_a_key_is_refused_unread(guarded: Guarded) -> None:
    with socket.create_connection(("127.0.0.1", guarded.service.port), timeout=10) as client:
        client.sendall(
            b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 16000000\r\n\r\n{"
        )
        assert client.recv(12) == b"HTTP/1.1 401"


@pytest.mark.parametrize("caller", ["no key", "admin"])
@pytest.mark.parametrize("path", ["/", "/v1/occupations", "/docs/assets/x"])
def test_a_websocket_is_refused(guarded: Guarded, caller: str, path: str) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    assert guarded.ask("GET", path, {**upgrade, **_header(guarded, caller)}).status == 403


def test_a_key_is_rotated_while_the_workers_run(guarded: Guarded) -> None:
    old = guarded.create("bot-1", "--scope", "classify")
    guarded.everywhere(200, old)
    new = guarded.create("bot-2", "--scope", "classify")
    guarded.everywhere(200, new)
    assert vocation_keys(guarded.service.home, "revoke", "bot-1").returncode == 0
    guarded.everywhere(401, old)
    guarded.everywhere(200, new)


def test_two_workers_admit_no_more_than_the_limit_together(guarded: Guarded) -> None:
    limit = 12
    slow = guarded.create("slow", "--scope", "classify", "--requests-per-minute", str(limit))
    started = time.monotonic()
    replies: list[http.client.HTTPResponse] = []

    def asked() -> bool:
        reply = guarded.ask("GET", "/v1/occupations", bearer(slow))
        # A worker that has not heard of the key yet says 401.
        replies.extend([reply] if reply.status != 401 else [])
        return len(replies) == 80

    wait_for("80 replies of workers that know the key", asked, 60)
    refilled = (time.monotonic() - started) * limit / 60 + 2
    statuses = [reply.status for reply in replies]
    assert set(statuses) == {200, 429}
    assert limit / 2 <= statuses.count(200) <= limit + refilled
    refused = next(reply for reply in replies if reply.status == 429)
    assert refused.headers["ratelimit-limit"] == str(limit // 2)
    assert 0 < int(refused.headers["retry-after"]) <= 10

    def counted() -> bool:
        metrics = guarded.service.client.get("/metrics", headers=bearer(guarded.keys["admin"]))
        sample = 'vocation_key_requests_total{key="slow",outcome="rate_limited"}'
        return f"{sample} {float(statuses.count(429))}" in metrics.text

    wait_for("the refusals of both workers in the metrics", counted, 5)


def test_no_key_is_in_a_log_or_a_file_and_lines_name_the_callers(guarded: Guarded) -> None:
    for caller in HOLDS:
        guarded.ask("GET", "/v1/occupations", _header(guarded, caller))
    guarded.ask("GET", "/v1/occupations", bearer(f"{guarded.keys['admin']}x"))
    guarded.ask("GET", "/v1/occupations", {"Authorization": f"Basic {guarded.keys['admin']}"})
    # A request is logged after its answer.
    wait_for("the callers' lines", lambda: _callers(guarded.service.log) >= {None, *HOLDS}, 20)
    written = contents(guarded.service.log, guarded.service.home)
    assert any(b"registrations_by_state" in content for content in written.values())
    for text in guarded.keys.values():
        assert not any(text[13:].encode() in content for content in written.values())
    listing = vocation_keys(guarded.service.home, "list").stdout
    assert not any(text[13:] in listing for text in guarded.keys.values())


def _callers(log: Path) -> set[object]:
    """The names of the keys in the log's lines of requests."""
    lines = map(_json, log.read_text().splitlines())
    return {line["key"] for line in lines if line.get("message") == "request"}


def _json(line: str) -> dict[str, object]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def test_without_a_key_no_address_but_loopback_is_served(fresh_home: Path) -> None:
    port = free_port()
    refused = subprocess.run(
        [*SERVE, "--host", EVERYWHERE, "--port", str(port)],
        env={**os.environ, "VOCATION_HOME": str(fresh_home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2
    assert "No key is configured" in refused.stderr
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_key_made_before_the_first_start_lets_every_address_be_served_and_shuts_it(
    tmp_path: Path,
) -> None:
    text = create(tmp_path / "home", "first", "--scope", "classify")
    with running(tmp_path / "home", command=[*SERVE, "--host", EVERYWHERE]) as service:
        assert service.client.get("/v1/occupations").status_code == 401
        assert service.client.get("/v1/occupations", headers=bearer(text)).status_code == 200
        assert "OPEN TO EVERYBODY" not in service.log.read_text()


@pytest.mark.parametrize(
    ("command", "environment", "level", "why"),
    [
        ([*SERVE, "--host", EVERYWHERE], {"VOCATION_OPEN": "true"}, "WARNING", "VOCATION_OPEN"),
        (
            [
                *(str(BIN / "bentoml"), "serve", "service.bento:Api"),
                *("--host", EVERYWHERE, "--working-dir", str(PROJECT_ROOT)),
            ],
            {},
            "ERROR",
            "the server was told to listen there",
        ),
    ],
    ids=["vocation serve", "bentoml serve"],
)
def test_what_is_open_and_can_be_reached_says_so_loudly(
    fresh_home: Path, command: list[str], environment: dict[str, str], level: str, why: str
) -> None:
    with running(fresh_home, command=command, environment=environment) as service:
        lines = service.log.read_text().splitlines()
        (said,) = [line for line in lines if "OPEN TO EVERYBODY" in line]
        assert f" {level} OPEN TO EVERYBODY: no key is configured and {EVERYWHERE}" in said
        assert why in said
        reply = httpx.post(f"http://127.0.0.1:{service.port}/v1/classify", json=ONE, timeout=60)
        assert reply.status_code == 200


def test_on_loopback_without_keys_there_is_nothing_to_say(service: RunningService) -> None:
    assert service.client.get("/v1/occupations").status_code == 200
    assert "OPEN TO EVERYBODY" not in service.log.read_text()
