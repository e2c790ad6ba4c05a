"""What operators deploy fits together, and fits the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.api.access import ACCESS
from service.settings import PROJECT_ROOT, Settings

DEPLOY = PROJECT_ROOT / "deploy"
DOCS = PROJECT_ROOT / "docs"
RULE_FILES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yaml"))
DASHBOARD = json.loads((DEPLOY / "grafana" / "vocation.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

# Prometheus's own, and other programs' environment.
BUILT_IN = {"up", "ALERTS"}
FOREIGN_VARIABLES = {"BENTOML_HOME", "HOME"}


def _rules(path: Path) -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


RULES = [rule for path in RULE_FILES for rule in _rules(path)]
ALERTS = [rule for rule in RULES if "alert" in rule]
QUERIES = [
    *(rule["expr"] for rule in RULES),
    *(target["expr"] for panel in PANELS for target in panel["targets"]),
]


def _metrics(expression: str) -> set[str]:
    """The series that an expression reads: names before a selector or at the end of a word."""
    bare = re.sub(r'"[^"]*"|\{\{.*?\}\}', '""', expression)
    return set(re.findall(r"\b(?:(?:bentoml|vocation)_\w+|job\w*:[\w:]+|up|ALERTS)\b", bare))


def _documented_series() -> set[str]:
    table = (DOCS / "metrics.md").read_text(encoding="utf-8")
    series = set()
    for name, kind in re.findall(r"^\| `(\w+)` \| (\w+) \|", table, flags=re.MULTILINE):
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        series |= {name + part for part in parts}
    return series


def _manifests(name: str) -> dict[str, dict[str, Any]]:
    path = DEPLOY / "kubernetes" / name
    documents = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}


def _variables(environment: dict[str, str] | list[dict[str, str]]) -> dict[str, str]:
    if isinstance(environment, dict):
        return environment
    return {entry["name"]: entry["value"] for entry in environment}


def _check_variables(environment: dict[str, str]) -> None:
    known = {f"VOCATION_{name.upper()}" for name in Settings.model_fields} | FOREIGN_VARIABLES
    assert set(environment) <= known
    values = {
        name.removeprefix("VOCATION_").lower(): value
        for name, value in environment.items()
        if name not in FOREIGN_VARIABLES
    }
    Settings(**values)  # type: ignore[arg-type]  # texts, as in an environment


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_it_is_and_where_its_runbook_is(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor == rule["alert"].lower()
    assert f"\n### {rule['alert']}\n" in (PROJECT_ROOT / page).read_text(encoding="utf-8")


def test_every_runbook_entry_is_of_an_alert() -> None:
    page = (DOCS / "observability.md").read_text(encoding="utf-8")
    entries = re.findall(r"^### (Vocation\w+)$", page, flags=re.MULTILINE)
    assert sorted(entries) == sorted({rule["alert"] for rule in ALERTS})


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.name)
def test_every_alert_has_a_test_in_which_it_fires_and_its_file_tests_in_which_none_does(
    path: Path,
) -> None:
    beside = DEPLOY / "prometheus" / "tests" / path.name
    tests = yaml.safe_load(beside.read_text(encoding="utf-8"))["tests"]
    fired = {
        test["alertname"]
        for one in tests
        for test in one.get("alert_rule_test", [])
        if test.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in _rules(path) if "alert" in rule}
    assert any(
        "ALERTS" in test["expr"] and test["exp_samples"] == []
        for one in tests
        for test in one.get("promql_expr_test", [])
    )


def test_rules_and_panels_read_documented_metrics_and_every_recording_is_read() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    read = {name for query in QUERIES for name in _metrics(query)}
    assert read <= _documented_series() | recorded | BUILT_IN
    assert recorded <= read


def test_rules_select_on_the_job_of_the_example_configuration() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    (scrape,) = config["scrape_configs"]
    assert scrape["job_name"] == "vocation"
    for rule in RULES:
        selected = re.findall(r'job="([^"]*)"', rule["expr"])
        assert set(selected) <= {"vocation"}
        assert selected or "job" in "".join(_metrics(rule["expr"])), rule


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_has_title_description_unit_and_the_chosen_data_source(
    panel: dict[str, Any],
) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == DATASOURCE
    assert panel["targets"]
    for target in panel["targets"]:
        assert 'job="$job"' in target["expr"]


def test_panels_have_their_own_ids_titles_and_places() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_variables_of_the_dashboard_are_those_that_its_queries_use() -> None:
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS))) - {"__rate_interval"}
    assert used == names


def test_compose_fits_together() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    services = compose["services"]
    assert set(services) == {"vocation", "prometheus", "grafana"}
    _check_variables(_variables(services["vocation"]["environment"]))
    assert services["vocation"]["environment"]["VOCATION_HOME"] == "/data"
    for service in services.values():
        # Nothing is open to the network that nobody thought about.
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            known = source in compose["volumes"]
            assert known or (DEPLOY / source).exists(), volume
    assert all(
        re.search(r":v?\d+\.\d+\.\d+$", services[name]["image"])
        for name in ("prometheus", "grafana")
    )
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    assert config["scrape_configs"][0]["static_configs"] == [{"targets": ["vocation:3000"]}]
    grace = int(services["vocation"]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.model_fields["request_timeout_seconds"].default


def test_grafana_finds_its_data_source_and_its_dashboard() -> None:
    folder = DEPLOY / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text(encoding="utf-8"))
    (source,) = sources["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    provided = yaml.safe_load((folder / "dashboards/vocation.yaml").read_text(encoding="utf-8"))
    where = provided["providers"][0]["options"]["path"]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    mounts = compose["services"]["grafana"]["volumes"]
    assert f"./grafana/vocation.json:{where}/vocation.json:ro" in mounts


def test_the_deployment_probes_open_routes_and_keeps_its_home_on_the_claim() -> None:
    manifests = _manifests("vocation.yaml")
    assert set(manifests) == {"PersistentVolumeClaim", "Deployment", "Service"}
    deployment = manifests["Deployment"]["spec"]
    # One Trainer and one SQLite registry: two pods would need the same volume.
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate")
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    _check_variables(_variables(container["env"]))
    (port,) = container["ports"]
    for probe, path in {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }.items():
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
        assert ACCESS["GET", path] is None
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120
    timeout = Settings.model_fields["request_timeout_seconds"].default
    assert pod["terminationGracePeriodSeconds"] > timeout
    assert set(container["resources"]) == {"requests", "limits"}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    home = volumes[mounts[_variables(container["env"])["VOCATION_HOME"]]]
    claim = manifests["PersistentVolumeClaim"]["metadata"]["name"]
    assert home["persistentVolumeClaim"]["claimName"] == claim


def test_the_service_reaches_the_pods_and_the_monitor_names_the_job_of_the_rules() -> None:
    manifests = _manifests("vocation.yaml")
    service, template = manifests["Service"], manifests["Deployment"]["spec"]["template"]
    assert service["spec"]["selector"] == template["metadata"]["labels"]
    (port,) = service["spec"]["ports"]
    assert port["targetPort"] == template["spec"]["containers"][0]["ports"][0]["name"]
    monitor = _manifests("servicemonitor.yaml")["ServiceMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "vocation"
    (endpoint,) = monitor["endpoints"]
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")


def test_the_pod_that_makes_the_first_key_holds_the_same_home() -> None:
    pod = _manifests("keys.yaml")["Pod"]["spec"]
    deployment = _manifests("vocation.yaml")["Deployment"]["spec"]["template"]["spec"]
    for name in ("securityContext", "volumes"):
        assert pod[name] == deployment[name]
    (keys,), (served,) = pod["containers"], deployment["containers"]
    for name in ("image", "volumeMounts", "securityContext"):
        assert keys[name] == served[name]
    _check_variables(_variables(keys["env"]))
    assert _variables(keys["env"]).items() <= _variables(served["env"]).items()
