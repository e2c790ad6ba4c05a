"""Schemathesis on every operation of the document, against a real service that asks for keys."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from service.domain.keys import KeyScope
from service.registry.database import Database
from tests.support.keys import add_key, bearer
from tests.support.measured import Measured
from tests.support.running_service import BIN, running

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
# For a longer search: SCHEMATHESIS_EXAMPLES=500 SCHEMATHESIS_SEED=7 .venv/bin/pytest -s ...
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "10")
SEED = os.environ.get("SCHEMATHESIS_SEED", "20270")


def test_every_reply_to_what_schemathesis_makes_up_is_one_that_the_document_declares(
    tiny_home: Path, tiny_settings: Mapping[str, str], measured: Measured
) -> None:
    registry = Database(f"sqlite:///{tiny_home / 'registry.sqlite'}")
    key = add_key(registry, "schemathesis", KeyScope.ADMIN)
    registry.close()
    with running(tiny_home, environment=tiny_settings) as service:
        document = f"{service.client.base_url}/openapi.json"
        operations = sum(map(len, service.client.get("/openapi.json").json()["paths"].values()))
        ended = subprocess.run(
            [
                *(str(BIN / "schemathesis"), "--config-file", str(CONFIGURATION)),
                *("run", document, "--header", f"Authorization: {bearer(key)['Authorization']}"),
                *("--max-examples", EXAMPLES, "--seed", SEED, "--no-color"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=tiny_home.parent,
        )
        assert ended.returncode == 0, ended.stdout
        assert f"Tested: {operations}" in ended.stdout
        # Said by the service itself too: 5xx replies that a check might have let pass.
        assert 'code="internal"' not in service.client.get("/metrics", headers=bearer(key)).text
        log = service.log.read_text()
    assert "request failed" not in log, log
    (cases,) = re.findall(r"(\d+) generated, \1 passed", ended.stdout)
    measured("requests, all as declared", int(cases), "requests")
