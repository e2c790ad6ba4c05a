"""A start on a damaged home: what can be built again is built again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from service.registry import encoders
from service.registry.database import Database
from tests.support.measured import Measured
from tests.support.running_service import SERVE, free_port, running, wait_for

CHEF = {"text": "Cheffe de cuisine", "occupations": ["chef"]}


def test_a_truncated_base_encoder_is_built_again_and_gives_the_same_scores(
    tiny_home: Path, tiny_settings: Mapping[str, str], measured: Measured
) -> None:
    with running(tiny_home, environment=tiny_settings) as service:
        before = service.classify([CHEF])
    registry = Database(f"sqlite:///{tiny_home / 'registry.sqlite'}")
    with registry.read() as connection:
        base = encoders.base_encoder(connection)
    registry.close()
    assert base is not None
    (graph,) = (tiny_home / "artifacts").glob(f"??/{base.digest}/model.onnx")
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-100])
    with running(tiny_home, environment=tiny_settings) as service:
        assert service.classify([CHEF]) == before
        started = time.monotonic()
        wait_for("the graph", lambda: whole in _contents(graph), 60)
    measured("until the encoder is whole again, once ready", time.monotonic() - started, "s")


def _contents(path: Path) -> list[bytes]:
    # Its folder may be taken away while it is looked for.
    with contextlib.suppress(FileNotFoundError):
        return [path.read_bytes()]
    return []


@pytest.mark.parametrize("damage", ["truncated", "replaced"])
def test_a_start_on_a_damaged_registry_ends_in_one_line_and_nothing_is_left_running(
    tiny_home: Path, tiny_settings: Mapping[str, str], damage: str
) -> None:
    registry = tiny_home / "registry.sqlite"
    content = registry.read_bytes()
    registry.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"?" * 9000)
    ended = subprocess.run(
        [*SERVE, "--port", str(free_port())],
        env={**os.environ, **tiny_settings, "VOCATION_HOME": str(tiny_home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("vocation: The registry is damaged: ")
    assert str(registry) in line
