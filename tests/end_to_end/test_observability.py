"""The rules, the dashboard and its picture on a real Prometheus that scrapes a real service.

Prometheus and promtool are no Python packages: ``apt-get install prometheus``. Where they are
missing these tests fail, unless ``VOCATION_SKIP_PROMETHEUS=1`` says that they may be skipped.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from service.settings import PROJECT_ROOT
from tests.support.keys import bearer
from tests.support.running_service import BIN, RunningService, free_port, running, wait_for
from tests.support.sommelier import SOMMELIER

PROMETHEUS = PROJECT_ROOT / "deploy" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yaml"))
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yaml"))
DASHBOARD = json.loads((PROJECT_ROOT / "deploy/grafana/vocation.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
BUNDLED = [path.stem for path in (PROJECT_ROOT / "models/occupations").glob("*.yaml")]
SKIP = "VOCATION_SKIP_PROMETHEUS"

VARIABLES = {"$__rate_interval": "1m", "$job": "vocation", "$occupation": ".*"}
# What compares with the week before is empty as long as there is none.
NEEDS_DAYS = ("7d_before", "ks_distance1d")
LONG = {"text": "Conduite de projets et encadrement d'équipes pluridisciplinaires. " * 60}


def installed(name: str) -> str:
    """The path of a binary; fails where it is missing and nobody said that it may be."""
    if os.environ.get(SKIP) == "1":
        pytest.skip(f"{SKIP}=1: the rules and the dashboard are not tested on Prometheus")
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed: `apt-get install prometheus`, or set {SKIP}=1")
    return found


def promtool(*arguments: str | Path) -> str:
    ended = subprocess.run(
        [installed("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@dataclass(frozen=True, slots=True)
class Observed:
    """A service with a key, and the Prometheus that scrapes it."""

    service: RunningService
    prometheus: httpx.Client

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query; fails on what the server refuses."""
        reply = self.prometheus.get("/api/v1/query", params={"query": expression})
        assert reply.status_code == 200, f"{expression}\n{reply.text}"
        found: list[dict[str, Any]] = reply.json()["data"]["result"]
        return found

    def offered(self, variable: str) -> list[str]:
        """What a variable of the dashboard offers, in order: ``label_values(series, label)``."""
        inside = variable.removeprefix("label_values(").removesuffix(")")
        series, _, label = inside.rpartition(", ")
        reply = self.prometheus.get(
            f"/api/v1/label/{label}/values", params={"match[]": _expanded(series)}
        )
        values: list[str] = reply.json()["data"]
        return values

    def has_data(self, expression: str) -> bool:
        return any(math.isfinite(float(one["value"][1])) for one in self.query(expression))

    def rules(self) -> list[dict[str, Any]]:
        groups = self.prometheus.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def send_a_little_of_everything(self, number: int) -> None:
        """What the panels show: answers, a repeated and a long text, errors, a wrong key."""
        client = self.service.client
        texts = [{"text": "Cheffe de cuisine"}, {"text": f"Comptable {number}"}, LONG]
        unknown = {"text": "Infirmier", "occupations": ["astronaut"]}
        self.service.classify([*texts, unknown])
        assert client.get("/v1/occupations/astronaut").status_code == 404
        wrong = client.get("/v1/occupations", headers=bearer("voc_wrong"))
        assert wrong.status_code == 401


def _expanded(expression: str, variables: Mapping[str, str] = VARIABLES) -> str:
    for name, value in variables.items():
        expression = expression.replace(name, value)
    return expression


def _must_have_data(expression: str) -> bool:
    return not any(name in expression for name in NEEDS_DAYS)


@contextlib.contextmanager
def _scraping(binary: str, port: int, folder: Path) -> Iterator[httpx.Client]:
    """A Prometheus on the shipped configuration, only faster and with the port of a service."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "2s", "evaluation_interval": "2s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "rules").mkdir()
    for path in RULES:
        rules = yaml.safe_load(path.read_text())
        for group in rules["groups"]:
            # The drift's first evaluation would be up to five minutes away.
            group.pop("interval", None)
        (folder / "rules" / path.name).write_text(yaml.safe_dump(rules))
    address = f"127.0.0.1:{free_port()}"
    log = folder / "prometheus.log"
    command = [
        binary,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process,
        httpx.Client(base_url=f"http://{address}", timeout=30) as client,
    ):

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                return client.get("/-/ready").status_code == 200
            return False

        try:
            wait_for("Prometheus", ready, 60)
            yield client
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def prometheus() -> str:
    """The binary; asked for first, so that no service is started for nothing."""
    return installed("prometheus")


@pytest.fixture(scope="module")
def observed(
    prometheus: str, prepared_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Observed]:
    """Scraped until every query that can have data has it."""
    folder = tmp_path_factory.mktemp("observed")
    home = folder / "home"
    shutil.copytree(prepared_home, home)
    made = subprocess.run(
        [str(BIN / "vocation"), "keys", "create", "--name", "bot", "--scope", "admin"],
        env={**os.environ, "VOCATION_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    with running(home) as service, _scraping(prometheus, service.port, folder) as client:
        service.client.headers.update(bearer(made.stdout.splitlines()[-1]))
        observed = Observed(service, client)
        _send_until_there_is_data(observed)
        yield observed


def _send_until_there_is_data(observed: Observed) -> None:
    wanted = [
        _expanded(target["expr"])
        for panel in PANELS
        for target in panel["targets"]
        if _must_have_data(target["expr"])
    ]
    rounds = 0

    def complete() -> bool:
        nonlocal rounds
        observed.send_a_little_of_everything(rounds)
        if rounds < 4:
            # Rates are taken between two scrapes: each of these is in another one.
            _register(observed.service, f"sommelier-{rounds}")
            before = observed.query('timestamp(up{job="vocation"})')
            wait_for("a scrape", lambda: observed.query('timestamp(up{job="vocation"})') != before)
        rounds += 1
        return all(observed.has_data(expression) for expression in wanted)

    # Whatever is missing then is named by the tests below.
    with contextlib.suppress(AssertionError):
        wait_for("data for every query", complete, 300)


def _register(service: RunningService, id: str) -> None:
    reply = service.client.post("/v1/occupations", json={**SOMMELIER, "id": id})
    assert reply.status_code == 202, reply.text
    assert service.follow(reply.json()["id"])["state"] == "succeeded"


def test_the_example_configuration_and_the_rules_are_valid() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", *RULES)


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    said = promtool("test", "rules", *RULE_TESTS)
    assert said.count("SUCCESS") == len(RULE_TESTS)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_of_the_dashboard_has_data(observed: Observed, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        expression = _expanded(target["expr"])
        found = observed.has_data(expression)
        assert found or not _must_have_data(expression), expression


def test_the_dashboard_lists_the_jobs_and_the_occupations_that_are_scored(
    observed: Observed,
) -> None:
    observed.service.classify([{"text": "Cheffe de cuisine"}])
    registered = observed.service.client.get("/v1/occupations").json()["items"]
    scored = sorted(item["id"] for item in registered)
    assert {*BUNDLED, "sommelier-0"} <= {*scored}
    expected = {"job": ["vocation"], "occupation": scored}
    variables = DASHBOARD["templating"]["list"][1:]

    def offered() -> dict[str, list[str]]:
        return {one["name"]: observed.offered(one["query"]["query"]) for one in variables}

    # What is missing when it should have been scraped is named below.
    with contextlib.suppress(AssertionError):
        wait_for("the scores to be scraped", lambda: offered() == expected, 30)
    assert offered() == expected


def test_every_rule_is_evaluated_and_a_healthy_service_fires_none(observed: Observed) -> None:
    def evaluated() -> list[dict[str, Any]]:
        rules = observed.rules()
        return [] if any(rule["health"] == "unknown" for rule in rules) else rules

    for rule in wait_for("an evaluation of every rule", evaluated, 30):
        assert rule["health"] == "ok", f"{rule['name']}: {rule.get('lastError')}"
        if rule["type"] == "alerting":
            assert rule["state"] != "firing", rule
        elif _must_have_data(rule["name"] + rule["query"]):
            assert observed.has_data(rule["query"]), rule["name"]


def test_the_dashboard_can_be_drawn(observed: Observed, tmp_path: Path) -> None:
    out = tmp_path / "dashboard.png"
    script = PROJECT_ROOT / "scripts" / "draw_dashboard.py"
    address = str(observed.prometheus.base_url)
    subprocess.run(
        [sys.executable, script, "--prometheus", address, "--minutes", "0.5", "--out", out],
        check=True,
    )
    assert out.read_bytes().startswith(b"\x89PNG")


def test_an_instance_that_ends_is_an_alert(observed: Observed) -> None:
    """The last test of the module: the service does not come back."""
    observed.service.stop()

    def state() -> bool:
        (down,) = [rule for rule in observed.rules() if rule["name"] == "VocationInstanceDown"]
        return bool(down["state"] == "pending")

    wait_for("VocationInstanceDown to be pending", state, 30)
