"""What turns tracing on, and that nothing of it is there while it is off."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.settings import PROJECT_ROOT

_LOADED = """
import json, os, sys
import service.api.running
from service.bento import Api
print(json.dumps({
    "disabled": os.environ.get("OTEL_SDK_DISABLED"),
    "exporter": "opentelemetry.exporter.otlp.proto.http.trace_exporter" in sys.modules,
    "middleware": [each.__name__ for each, _ in Api.middlewares],
    "bentoml": Api.config.get("tracing"),
}))
"""


def loaded(bentoml_home: Path, **environment: str) -> dict[str, Any]:
    """What a process has and has set once it has loaded the service."""
    ran = subprocess.run(
        [sys.executable, "-c", _LOADED],
        cwd=PROJECT_ROOT,
        env={
            "PATH": "",
            "BENTOML_HOME": str(bentoml_home),
            "BENTOML_DO_NOT_TRACK": "True",
            **environment,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    said: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return said


def test_by_default_no_request_passes_through_anything_that_traces(tmp_path: Path) -> None:
    assert loaded(tmp_path) == {
        "disabled": "true",
        "exporter": False,
        "middleware": ["edge", "classify_route"],
        "bentoml": {"excluded_urls": ".*"},
    }


def test_an_endpoint_turns_our_spans_on_and_bentomls_off(tmp_path: Path) -> None:
    said = loaded(tmp_path, VOCATION_TRACES_ENDPOINT="http://collector:4318/v1/traces")
    assert said["disabled"] is None
    assert said["middleware"] == ["edge", "request_spans", "classify_route"]
    assert said["bentoml"] == {"excluded_urls": ".*"}


@pytest.mark.parametrize(
    "own",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
        {"BENTOML_CONFIG_OPTIONS": "tracing.sample_rate=1.0"},
    ],
)
def test_tracing_that_an_operator_configures_for_bentoml_is_left_alone(
    tmp_path: Path, own: dict[str, str]
) -> None:
    said = loaded(tmp_path, **own)
    assert (said["disabled"], said["bentoml"]) == (None, None)
