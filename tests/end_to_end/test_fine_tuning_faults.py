"""Killed while fine-tuning: the registration ends by itself, published once, nothing left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running_service import RunningService, running, wait_for
from tests.support.tiny_service import write_tiny_settings
from tests.support.training_faults import (
    STAGES,
    check_nothing_left,
    check_published_once,
    kill_at,
    register,
    training_child,
)


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory for temporary files of the service and its children."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Iterator[RunningService]:
    """A service whose fine-tuning takes seconds, and most of them to load PyTorch."""
    folder = tmp_path_factory.mktemp("tiny")
    environment = {
        **write_tiny_settings(folder),
        "TMPDIR": str(temporary),
    }
    with running(folder / "home", environment=environment) as started:
        yield started


@pytest.mark.parametrize(
    "kills",
    [
        [("child", "training"), ("child", "export")],
        [("child", "calibrate"), ("child", "gate")],
        [("trainer", stage) for stage in STAGES],
        [("api", stage) for stage in STAGES],
        [("interrupt", "train"), ("service", "export")],
    ],
    ids=["child early", "child late", "trainer", "api", "service"],
)
def test_what_is_killed_in_a_stage_ends_published_once_with_nothing_left(
    service: RunningService, temporary: Path, kills: list[tuple[str, str]]
) -> None:
    before = set(temporary.rglob("*"))
    for occupation, registration in kill_at(service, f"{kills[0][0]}-{kills[0][1]}", kills):
        check_published_once(service, occupation, registration)
        listed = service.client.get(f"/v1/occupations/{occupation}/versions").json()["items"]
        assert [version["version"] for version in listed] == [2, 1]
    check_nothing_left(service, temporary, before)


def test_a_child_that_is_killed_every_time_ends_in_a_clear_problem(
    service: RunningService, temporary: Path
) -> None:
    before = set(temporary.rglob("*"))
    id = register(service, "killed")
    killed: set[int] = set()
    while len(killed) < 3:
        child = wait_for("another training child", lambda: training_child(service))
        child.kill()
        child.wait(10)
        killed.add(child.pid)
    finished = service.follow(id)
    assert finished["state"] == "failed"
    assert finished["error"]["code"] == "training_failed"
    assert "signal 9" in finished["error"]["detail"]
    assert [version["method"] for version in finished["versions"]] == ["head"]
    assert service.classify([{"text": "Sommelier", "occupations": ["killed"]}])[0]["scores"]
    check_nothing_left(service, temporary, before)
