"""The reference pages are held to the code that they describe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram
from pydantic_core import PydanticUndefined

from service.api.access import ACCESS
from service.settings import PROJECT_ROOT, Settings
from service.telemetry import metrics

DOCS = PROJECT_ROOT / "docs"


def _table(page: Path, first: str) -> list[list[str]]:
    """The rows of the table whose header begins with ``first``, cells stripped."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split(" | ")])
    return rows


def _exposed_name(family: str, kind: str) -> str:
    return f"{family}_total" if kind == "counter" else family


def _cells(default: object) -> str:
    if isinstance(default, Path) and default.is_absolute():
        return str(default.relative_to(PROJECT_ROOT))
    return "" if default is None else str(default)


def test_every_metric_is_in_the_table_as_the_code_says() -> None:
    expected = []
    for metric in metrics.ALL:
        family = next(iter(metric.describe()))
        labels = ", ".join(metric._labelnames)
        expected.append(
            [_exposed_name(family.name, family.type), family.type, labels, family.documentation]
        )
    written = [
        [name, kind, labels.replace("`", ""), meaning]
        for name, kind, labels, meaning in _table(DOCS / "metrics.md", "metric")
        if name.startswith("vocation_")
    ]
    assert written == expected


def test_every_metric_of_the_module_is_in_its_list() -> None:
    defined = {
        value for value in vars(metrics).values() if isinstance(value, Counter | Gauge | Histogram)
    }
    assert defined == set(metrics.ALL)


def test_bentomls_own_metrics_are_in_the_table() -> None:
    names = {row[0] for row in _table(DOCS / "metrics.md", "metric")}
    assert {name for name in names if not name.startswith("vocation_")} == {
        "bentoml_service_request_total",
        "bentoml_service_request_duration_seconds",
        "bentoml_service_request_in_progress",
        "bentoml_service_last_request_timestamp_seconds",
    }


def test_every_setting_is_in_the_table_as_the_code_says() -> None:
    expected = []
    for name, field in Settings.model_fields.items():
        assert field.default is not PydanticUndefined
        variable = f"VOCATION_{name.upper()}"
        expected.append([variable, _cells(field.default), field.description])
    assert _table(DOCS / "settings.md", "variable") == expected


def test_every_route_is_in_the_table_of_scopes_as_the_code_says() -> None:
    expected = [
        [f"{method} {path}", "open" if scope is None else scope.value]
        for (method, path), scope in ACCESS.items()
    ]
    assert _table(DOCS / "security.md", "route") == expected


def test_every_test_that_the_page_of_faults_names_is_there() -> None:
    page = (DOCS / "faults.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 25
    for path, test in named:
        assert f"\ndef {test}(" in (PROJECT_ROOT / path).read_text(encoding="utf-8"), test


@pytest.mark.parametrize("page", ["metrics.md", "security.md", "settings.md"])
def test_a_reference_page_begins_with_its_title(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8").startswith("# ")
